"""When a Gluon kernel of attention runs in place of the Triton one, and its launch. `core` asks here.

It runs where its settings are `chosen`: after the tuner has found it the faster on a GPU. `prefer` says otherwise, for
measuring one beside the other.
"""

from __future__ import annotations

import importlib
from typing import Any

import torch
from torch import Tensor

from kernels import runtime
from kernels.attention.layout import OF_QUERIES, descriptor_parts
from kernels.runtime import Config, arch, interpreting, table

MODULES = {"attention_forward": "forward", "attention_backward_kv": "backward", "attention_backward_q": "backward"}
"""The module that has an op's kernel, of the same name."""
READ = ("q", "k", "v", "dout")
"""Tensors that come through descriptors; the others are written through pointers."""
EVERY = frozenset(MODULES)
ARCH = "sm_90"
"""The architecture whose instructions they are made of; no later one has them."""
_preferred: frozenset[str] | None = None


def prefer(ops: frozenset[str] | None) -> None:
    """From now on, in this process: Gluon's kernels for just these ops, or (None) where the settings say so."""
    global _preferred
    _preferred = ops


def settings(op: str, q: Tensor) -> Config | None:
    """The settings of the Gluon kernel for such queries if it is to run."""
    if interpreting() or q.itemsize != 2 or arch(q.device.index) != ARCH:
        return None
    config = table(ARCH)[f"{op}_gluon"].get(f"d{q.shape[-1]}")
    if config is None:
        return None
    return config if (config.chosen if _preferred is None else op in _preferred) else None


def kernel(op: str) -> Any:
    return getattr(importlib.import_module(f"kernels.attention.gluon.{MODULES[op]}"), op)


def tile_rows(config: Config, over: str) -> dict[str, int]:
    """Rows of each tensor's tile. Of those that the grid goes over, "q" or "k", each consumer has one half."""
    rows = {name: config.blocks["BLOCK_M" if name in OF_QUERIES else "BLOCK_N"] for name in READ}
    return {name: size // 2 if (name in OF_QUERIES) == (over == "q") else size for name, size in rows.items()}


def layout(rows: int, width: int, dtype: torch.dtype) -> Any:
    """How a tile lies in shared memory, as the tensor cores read it."""
    from triton.experimental.gluon import language as gl

    kinds = {torch.bfloat16: gl.bfloat16, torch.float16: gl.float16}
    default: Any = gl.NVMMASharedLayout.get_default_for
    return default([1, 1, rows, width], kinds[dtype])


def descriptor(x_BLHD: Tensor, rows: int) -> Any:
    """A TMA descriptor of (B, H, L, D), whose tile is `rows` tokens of one head."""
    from triton.experimental.gluon.nvidia.hopper import TensorDescriptor

    parts = descriptor_parts(x_BLHD, rows)
    return TensorDescriptor(x_BLHD, *parts, layout(rows, x_BLHD.shape[-1], x_BLHD.dtype))


def processors(device: torch.device) -> int:
    """Streaming multiprocessors, each of which has shared memory for one block."""
    return torch.cuda.get_device_properties(device).multi_processor_count


def launch(op: str, config: Config, tiled: dict[str, Tensor], over: str, **rest: Any) -> None:
    """Run it over the tiles of `over`. `tiled`: as the Triton kernel takes them; `rest`: the other arguments."""
    rows = tile_rows(config, over)
    passed = {name: descriptor(x, rows[name]) if name in READ else x for name, x in tiled.items()}
    q, k = tiled["q"], tiled["k"]
    numbers = {"sequences": q.shape[0], "heads": q.shape[2], "q_len": q.shape[1], "k_len": k.shape[1]}
    tiles = -(-tiled[over].shape[1] // (2 * rows[over])) * q.shape[0] * q.shape[2]
    programs = min(tiles, processors(q.device)) if over == "q" else tiles
    runtime.launch(kernel(op), (programs,), **passed, **numbers, **rest, **config.launch())
