"""Tensors as raw bytes and back: little-endian, row after row, without a header. What latents are stored as.

The encoder's side and the reader's both come here, so they cannot disagree. Shapes and types are stored beside the
bytes (`latent_file`).
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from math import prod

import torch
from torch import Tensor

from curation.errors import UserError

DTYPES = ("float32", "bfloat16", "float16")
"""Types that are stored, by torch's names."""


def name_of(dtype: torch.dtype) -> str:
    """torch's name of a type that can be stored."""
    name = str(dtype).removeprefix("torch.")
    assert name in DTYPES, name
    return name


def to_bytes(tensor: Tensor) -> bytes:
    """The values of a tensor, wherever it lies."""
    assert sys.byteorder == "little", "what is stored is little-endian"
    flat = tensor.detach().to("cpu").contiguous().reshape(-1)
    return flat.view(torch.uint8).numpy().tobytes() if flat.numel() else b""


def from_bytes(content: bytes, shape: Sequence[int], dtype: str) -> Tensor:
    """The tensor of some bytes, which it owns. UserError: they are not that many values."""
    kind: torch.dtype = getattr(torch, dtype)
    if len(content) != prod(shape) * kind.itemsize:
        cause = f"{len(content)} bytes where a {dtype} tensor of {'x'.join(map(str, shape))} has {prod(shape)} values"
        raise UserError(cause, "the file is damaged: take it from a copy, or encode again")
    return torch.frombuffer(bytearray(content), dtype=kind).reshape(tuple(shape))
