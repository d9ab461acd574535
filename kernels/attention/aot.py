"""Every launch of the attention kernels that the shipped settings make, for compiling ahead of time."""

from __future__ import annotations

from itertools import product
from typing import Any

import torch

from kernels.aot import AotCase
from kernels.attention.backward import attention_backward_kv, attention_backward_q, attention_delta
from kernels.attention.forward import attention_forward
from kernels.attention.gluon import launch as gluon
from kernels.attention.layout import HEAD_DIMS, bucket
from kernels.runtime import DEFAULT_ARCH, Config, config_for, table

NAMES = {torch.bfloat16: "bf16", torch.float16: "fp16", torch.float32: "fp32"}
KERNELS: dict[str, tuple[Any, dict[str, str]]] = {
    "attention_forward": (attention_forward, {"q": "BLOCK_M", "k": "BLOCK_N", "v": "BLOCK_N", "out": "BLOCK_M"}),
    "attention_backward_kv": (
        attention_backward_kv,
        {"q": "BLOCK_M", "k": "BLOCK_N", "v": "BLOCK_N", "dout": "BLOCK_M", "dk": "BLOCK_N", "dv": "BLOCK_N"},
    ),
    "attention_backward_q": (
        attention_backward_q,
        {"q": "BLOCK_M", "k": "BLOCK_N", "v": "BLOCK_N", "dout": "BLOCK_M", "dq": "BLOCK_M"},
    ),
}
"""A kernel, and what it reads tiles of, with how many rows a tile has."""
FLOAT32 = {"lse", "delta"}
SUMS = {"out", "dq", "dk", "dv"}
"""In float32 in the ring, which adds up what each chunk of keys gives."""


def cases() -> list[AotCase]:
    dims, dtypes = HEAD_DIMS, tuple(NAMES)
    made = [
        case(op, dtype, dim, tma, packed, ring)
        for op, dim, dtype, tma in product(KERNELS, dims, dtypes, (True, False))
        for packed, ring in variants(tma)
        if not (tma and dtype is torch.float32)
    ]
    made += [delta_case(dtype, dim) for dim, dtype in product(dims, dtypes)]
    return made + [gluon_case(*x) for x in product(KERNELS, (torch.bfloat16, torch.float16), (False, True))]


def variants(tma: bool) -> list[tuple[bool, bool]]:
    """(packed, ring): packed sequences go by pointers; the ring's sums are dense and in float32."""
    dense = [(False, False), (False, True)]
    return dense if tma else [*dense, (True, False)]


def case(op: str, dtype: torch.dtype, dim: int, tma: bool, packed: bool, ring: bool) -> AotCase:
    kernel, tiles = KERNELS[op]
    config = config_for(op, bucket(dim, dtype, tma))
    flags: dict[str, Any] = {"D": dim, "TMA": tma, "PACKED": packed}
    if op != "attention_forward":
        flags["ACCUMULATE"] = ring
    if not packed:
        flags |= {"cu_q": None, "cu_k": None}
    signature = {
        name: argument(name, dtype, dim, config, tiles if tma else {}, ring)
        for name in kernel.arg_names
        if name not in flags and name not in config.blocks
    }
    suffix = "".join(f"_{word}" for word, on in (("packed", packed), ("ring", ring)) if on)
    name = f"{op.removeprefix('attention_')}_{NAMES[dtype]}_d{dim}_{'tma' if tma else 'pointer'}{suffix}"
    return AotCase(name, kernel, signature, flags, config, expect_wgmma=dtype is not torch.float32)


def delta_case(dtype: torch.dtype, dim: int) -> AotCase:
    config = config_for("attention_delta", f"d{dim}")
    kinds = {
        name: argument(name, dtype, dim, config, {}, False)
        for name in attention_delta.arg_names
        if name != "D" and name not in config.blocks
    }
    return AotCase(f"delta_{NAMES[dtype]}_d{dim}", attention_delta, kinds, {"D": dim}, config)


def gluon_case(op: str, dtype: torch.dtype, ring: bool) -> AotCase:
    (bucket, config), *_ = table(DEFAULT_ARCH)[f"{op}_gluon"].items()
    dim, over = int(bucket.removeprefix("d")), "k" if op == "attention_backward_kv" else "q"
    kernel, rows = gluon.kernel(op), gluon.tile_rows(config, over)
    flags = {} if op == "attention_forward" else {"ACCUMULATE": ring}
    signature = {
        name: argument(name, dtype, dim, config, {}, ring)
        for name in kernel.arg_names
        if name not in flags and name not in config.blocks
    }
    for name in signature.keys() & set(gluon.READ):
        tile = f"{NAMES[dtype]}[1,1,{rows[name]},{dim}],{gluon.layout(rows[name], dim, dtype)!r}"
        signature[name] = f"tensordesc<{tile}>"
    name = f"gluon_{op.removeprefix('attention_')}_{NAMES[dtype]}_d{dim}{'_ring' if ring else ''}"
    return AotCase(name, kernel, signature, flags, config, expect_wgmma=True)


def argument(name: str, dtype: torch.dtype, dim: int, config: Config, tiles: dict[str, str], ring: bool) -> str:
    """The type of a kernel's argument, with what a launch knows of its alignment: strides are multiples of D."""
    exact = name in FLOAT32 or (ring and name in SUMS)
    kind = "fp32" if exact else NAMES[dtype]
    if name in tiles:
        return f"tensordesc<{kind}[1,1,{config.blocks[tiles[name]]},{dim}]>"
    if name in ("scale", "scale_log2"):
        return "fp32"
    if name in ("sequences", "heads", "q_len", "k_len") or name.startswith(("lse_", "delta_")):
        return "i32"
    if name.endswith(("_b", "_l", "_h")):
        return "i32:16"
    return "*i32:16" if name in ("cu_q", "cu_k") else f"*{kind}:16"
