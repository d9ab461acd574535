"""What the ReLU linear attention op compiles to: two kernels a direction, for every size bucket."""

from __future__ import annotations

from typing import Any

import triton.language as tl

from kernels.aot import AotCase
from kernels.relu_linear_attention import kernel
from kernels.relu_linear_attention.op import HEAD_DIM
from kernels.runtime import DEFAULT_ARCH, Config, table

FORWARD = {kernel.state_kernel: ("k", "v"), kernel.apply_kernel: ("q", "out")}
BACKWARD = {
    kernel.queries_backward_kernel: ("q", "grad", "grad_q"),
    kernel.keys_backward_kernel: ("k", "v", "grad_k", "grad_v"),
}
"""The kernels of each direction, and their tensors in the inputs' dtype; every other pointer is float32."""


def cases() -> list[AotCase]:
    directions = {"relu_linear_attention": FORWARD, "relu_linear_attention_backward": BACKWARD}
    return [
        _case(bucket, config, function, tensors, single)
        for op, functions in directions.items()
        for bucket, config in table(DEFAULT_ARCH)[op].items()
        if bucket != "interpreter"
        for function, tensors in functions.items()
        for single in ({"heads": 1, "chunks": 1}, {})[bucket != "short" :]
    ]


def _case(bucket: str, config: Config, function: Any, tensors: tuple[str, ...], single: dict[str, int]) -> AotCase:
    """`single`: arguments that are 1, of which Triton makes constants."""
    kind = "fp32" if bucket == "fp32" else "bf16"
    constants = {"D": HEAD_DIM, "DOT": tl.bfloat16 if kind == "bf16" else tl.float32, **single}
    signature = {
        name: _kind(name, tensors, kind) for name in function.arg_names if name not in {**constants, **config.blocks}
    }
    return AotCase(
        f"{function.__name__} {bucket}{' of one chunk' if single else ''}", function, signature, constants, config
    )


def _kind(name: str, tensors: tuple[str, ...], kind: str) -> str:
    if name in tensors:
        return f"*{kind}:16"
    if name.endswith("state"):
        return "*fp32:16"
    if "_stride_" in name or name == "n":
        return "i32:16"
    return "fp32" if name == "eps" else "i32"
