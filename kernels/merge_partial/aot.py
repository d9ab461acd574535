"""Every launch of the merge kernel that the shipped settings make, for compiling ahead of time."""

from __future__ import annotations

from kernels.aot import AotCase
from kernels.merge_partial.kernel import merge
from kernels.runtime import config_for


def cases() -> list[AotCase]:
    return [_case(dtype, dim) for dtype in ("bf16", "fp16", "fp32") for dim in (32, 64, 128)]


def _case(dtype: str, dim: int) -> AotCase:
    steps = {name: "i32:16" for name in merge.arg_names if name.startswith(("out_s", "other_s"))}
    numbers = {"lse_sb": "i32", "lse_sh": "i32", "length": "i32"}
    pointers = {"out": "*fp32:16", "lse": "*fp32:16", "out_b": f"*{dtype}:16", "lse_b": "*fp32:16"}
    constants = {"D": dim, "WIDTH": dim}
    return AotCase(f"{dtype}_d{dim}", merge, pointers | steps | numbers, constants, config_for("merge_partial", "any"))
