"""What `kernels.aot` compiles: every setting of both ops at the widest row that it serves, in bf16."""

from __future__ import annotations

from typing import Any

from kernels.aot import AotCase
from kernels.layernorm_modulate import kernel
from kernels.layernorm_modulate.op import constants, width_bucket
from kernels.runtime import config_for

WIDTHS = (64, 130, 256, 1024, 3072, 4096)
"""Those of the presets (64 and 3072), one that is no power of two, and the end of every bucket."""
KERNELS: dict[str, tuple[str, Any]] = {
    "forward": ("layernorm_modulate", kernel.layernorm_modulate_forward),
    "backward": ("layernorm_modulate_backward", kernel.layernorm_modulate_backward),
    "gated forward": ("gate_residual_layernorm_modulate", kernel.gate_residual_layernorm_modulate_forward),
    "gated backward": (
        "gate_residual_layernorm_modulate_backward",
        kernel.gate_residual_layernorm_modulate_backward,
    ),
}
"""By what a report calls them: the op that has the settings, and the kernel."""


def cases() -> list[AotCase]:
    return [_case(title, width) for title in KERNELS for width in WIDTHS]


def _case(title: str, width: int) -> AotCase:
    op, compiled = KERNELS[title]
    config = config_for(op, width_bucket(width))
    compiled_for = constants(width)
    names = [name for name in compiled.arg_names if name not in {*compiled_for, *config.blocks}]
    hint = ":16" if width % 16 == 0 else ""
    return AotCase(f"{title} D={width}", compiled, {name: _type(name, hint) for name in names}, compiled_for, config)


def _type(name: str, hint: str) -> str:
    """Type of an argument: a length, a stride of the batch (which may pass 2^31) or of tokens, or a tensor."""
    if name in ("L", "eps"):
        return {"L": "i32", "eps": "fp32"}[name]
    if name.endswith(("_b", "_l")):
        return ("i64" if name.endswith("_b") else "i32") + hint
    return "*fp32:16" if name == "partial" else "*bf16:16"
