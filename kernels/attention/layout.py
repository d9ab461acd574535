"""How tensors reach the attention kernels: packed sequences, strides, TMA descriptors, names of settings."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from kernels.runtime import interpreting

HEAD_DIMS = (32, 64, 128)
"""Those that the kernels have tiles for."""
DTYPES = (torch.float16, torch.bfloat16, torch.float32)
OF_QUERIES = {"q", "out", "dout", "dq"}
"""Tensors with a row a query, whose tiles have BLOCK_M rows; those of the others have BLOCK_N."""
DESCRIPTOR_ALIGN = 16
"""Bytes that a TMA descriptor's base and strides are multiples of."""


@dataclass(frozen=True, slots=True)
class Packed:
    """Sequences end to end in one row of tokens: (1, total, H, D).

    `cu_q`, `cu_k`: where each starts, and the total: int32, sequences + 1 long. `max_q`, `max_k`: the longest.
    """

    cu_q: Tensor
    cu_k: Tensor
    max_q: int
    max_k: int

    def slices(self) -> list[tuple[slice, slice]]:
        """Rows of the queries and of the keys of every sequence. Waits for the device."""
        q, k = self.cu_q.tolist(), self.cu_k.tolist()
        return list(zip(map(slice, q, q[1:]), map(slice, k, k[1:]), strict=True))


def bucket(head_dim: int, dtype: torch.dtype, tma: bool) -> str:
    """Settings are by head dimension, and apart for TMA and for float32, which has no tensor cores."""
    kind = "fp32" if dtype is torch.float32 else "tma" if tma else "pointer"
    return f"{kind}_d{head_dim}"


def strides(x_BLHD: Tensor) -> tuple[int, int, int]:
    """Of batch, tokens, heads; 0 for a batch of one, whose stride may be past 32 bits for nothing."""
    stride_b, stride_l, stride_h, _ = x_BLHD.stride()
    return (stride_b if x_BLHD.shape[0] > 1 else 0), stride_l, stride_h


def has_tma(device: torch.device) -> bool:
    return interpreting() or torch.cuda.get_device_capability(device)[0] >= 9


def fits_descriptor(x_BLHD: Tensor) -> bool:
    """Whether a TMA descriptor can describe it: nothing empty, base and strides whole multiples of 16 bytes."""
    steps = [stride for stride, size in zip(x_BLHD.stride()[:3], x_BLHD.shape, strict=False) if size > 1]
    aligned = all(step > 0 and step * x_BLHD.itemsize % DESCRIPTOR_ALIGN == 0 for step in steps)
    return aligned and x_BLHD.numel() > 0 and x_BLHD.data_ptr() % DESCRIPTOR_ALIGN == 0


def descriptor(x_BLHD: Tensor, rows: int) -> Any:
    """A TMA descriptor of (B, H, L, D), whose tile is `rows` tokens of one head."""
    from triton.tools.tensor_descriptor import TensorDescriptor

    return TensorDescriptor(x_BLHD, *descriptor_parts(x_BLHD, rows))


def descriptor_parts(x_BLHD: Tensor, rows: int) -> tuple[list[int], list[int], list[int]]:
    """Shape, strides and tile of such a descriptor."""
    batch, length, heads, dim = x_BLHD.shape
    steps = dict(zip("blh", x_BLHD.stride(), strict=False))
    sizes = {"b": batch, "h": heads, "l": length}
    # The stride of a dimension of one means nothing, and may be any number: make it one that is aligned.
    outer = [steps[name] if size > 1 else dim for name, size in sizes.items()]
    return [batch, heads, length, dim], [*outer, 1], [1, 1, rows, dim]


def exact_dtype(dtype: torch.dtype) -> torch.dtype:
    """Of the log-sum-exp, delta and every sum."""
    return torch.float64 if dtype is torch.float64 else torch.float32


def check(q: Tensor, k: Tensor, v: Tensor) -> None:
    """Raise ValueError for what no kernel takes: another head dimension or dtype, tensors that do not go together."""
    if q.shape[-1] not in HEAD_DIMS or q.dtype not in DTYPES:
        raise ValueError(f"attention: head dimension {q.shape[-1]} in {q.dtype}; there are {HEAD_DIMS} in {DTYPES}")
    if (
        k.shape != v.shape
        or (q.shape[0], *q.shape[2:]) != (k.shape[0], *k.shape[2:])
        or not q.dtype == k.dtype == v.dtype
    ):
        raise ValueError(f"attention: q {tuple(q.shape)}, k {tuple(k.shape)}, v {tuple(v.shape)} do not go together")
