"""What `kernels.aot` compiles: both kernels for every size of head that has settings and both ways of pairing, bf16."""

from __future__ import annotations

from typing import Any

from kernels.aot import AotCase
from kernels.qk_norm_rope import kernel
from kernels.qk_norm_rope.op import constants
from kernels.runtime import config_for

SHAPES = ((4, 16), (16, 32), (24, 64), (24, 128))
"""Heads and their channels: the tiny preset, which has no settings of its own, and one a setting."""
PREFIX = "qk_norm_rope_"
KERNELS: dict[str, Any] = {
    "qk_norm_rope": kernel.qk_norm_rope_forward,
    "qk_norm_rope_backward": kernel.qk_norm_rope_backward,
}


def cases() -> list[AotCase]:
    return [_case(op, *shape, interleaved) for op in KERNELS for shape in SHAPES for interleaved in (True, False)]


def _case(op: str, heads: int, channels: int, interleaved: bool) -> AotCase:
    config = config_for(op, str(channels))
    compiled_for = constants(heads, channels, interleaved)
    names = [name for name in KERNELS[op].arg_names if name not in {*compiled_for, *config.blocks}]
    pairs = "interleaved" if interleaved else "halves"
    return AotCase(
        f"{KERNELS[op].__name__.removeprefix(PREFIX)} D={channels} {pairs}",
        KERNELS[op],
        {name: _type(name) for name in names},
        compiled_for,
        config,
    )


def _type(name: str) -> str:
    """Type of an argument: a length, a stride of the batch (which may pass 2^31) or another, or a tensor."""
    if name in ("tokens", "L", "eps"):
        return "fp32" if name == "eps" else "i32"
    if name.endswith(("_b", "_l", "_h")):
        return "i64:16" if name.endswith("_b") else "i32:16"
    return "*fp32:16" if name in ("cos", "sin", "partial") else "*bf16:16"
