"""What `kernels.aot` compiles: both kernels at the widths of the presets' MLPs and at an odd one, in bf16."""

from __future__ import annotations

from typing import Any

from kernels.aot import AotCase
from kernels.bias_gelu_tanh import kernel
from kernels.runtime import config_for

WIDTHS = (130, 256, 12288)
PREFIX = "bias_gelu_tanh_"
KERNELS: dict[str, Any] = {
    "bias_gelu_tanh": kernel.bias_gelu_tanh_forward,
    "bias_gelu_tanh_backward": kernel.bias_gelu_tanh_backward,
}


def cases() -> list[AotCase]:
    return [_case(op, width) for op in KERNELS for width in WIDTHS]


def _case(op: str, width: int) -> AotCase:
    config = config_for(op, "any")
    names = [name for name in KERNELS[op].arg_names if name not in {"D", *config.blocks}]
    hint = ":16" if width % 16 == 0 else ""
    return AotCase(
        f"{KERNELS[op].__name__.removeprefix(PREFIX)} D={width}",
        KERNELS[op],
        {name: _type(name, hint) for name in names},
        {"D": width},
        config,
    )


def _type(name: str, hint: str) -> str:
    """Type of an argument: a length, a stride of the batch (which may pass 2^31) or of tokens, or a tensor."""
    if name in ("tokens", "L"):
        return "i32"
    if name.endswith(("_b", "_l")):
        return ("i64" if name.endswith("_b") else "i32") + hint
    return "*fp32:16" if name == "partial" else "*bf16:16"
