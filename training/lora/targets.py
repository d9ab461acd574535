"""Short names of the layers that an adapter may change, in both layouts of the network: linear layers of its blocks.

    attn   what attention's inputs and outputs pass
    mlp    what the MLP's pass; layers of a single block that hold both (v_mlp or linear1, and linear2) are in both
    mod    modulations by time and text
    all    the three of them

Left as they are: the layers at both ends of the network (`img_in`, `txt_in`, `final_layer`, ...), norms and biases.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from curation.errors import UserError

ALL = "all"

_DOUBLE = {
    "attn": (("img_attn.proj", "txt_attn.proj"), ("q_proj", "k_proj", "v_proj"), ("qkv",)),
    "mlp": (("img_mlp.0", "img_mlp.2", "txt_mlp.0", "txt_mlp.2"), (), ()),
    "mod": (("img_mod.lin", "txt_mod.lin"), (), ()),
}
"""Of a double block: layers by name, and projections of both streams' attention, separate and stacked."""

_SINGLE = {
    "attn": (("linear2",), ("q_proj", "k_proj", "v_mlp"), ("linear1",)),
    "mlp": (("linear2",), ("v_mlp",), ("linear1",)),
    "mod": (("modulation.lin",), (), ()),
}
"""Of a single block: layers of both layouts, of the separate one and of the stacked one."""

NAMES = (*_DOUBLE, ALL)


def layers(target: str, stacked: bool) -> tuple[str, ...]:
    """What a short name means in a layout, N for a block's number: `double_blocks.N.img_attn.qkv`, ..."""
    if target == ALL:
        return tuple(dict.fromkeys(layer for name in _DOUBLE for layer in layers(name, stacked)))
    both, separate, together = _DOUBLE[target]
    projections = [f"{stream}_attn.{name}" for stream in ("img", "txt") for name in (together if stacked else separate)]
    single_both, single_separate, single_together = _SINGLE[target]
    return (
        *(f"double_blocks.N.{name}" for name in (*projections, *both)),
        *(f"single_blocks.N.{name}" for name in ((single_together if stacked else single_separate) + single_both)),
    )


def chosen(names: Iterable[str], targets: Sequence[str], stacked: bool) -> tuple[str, ...]:
    """Those of `names` that the targets mean."""
    wanted = {layer for target in targets for layer in layers(target, stacked)}
    return tuple(name for name in names if re.sub(r"\.\d+\.", ".N.", name, count=1) in wanted)


def check_targets(targets: Sequence[str]) -> None:
    """UserError, with the layers behind each name, where one is unknown or there is none."""
    unknown = [target for target in targets if target not in NAMES]
    if unknown or not targets:
        cause = f"there is no lora target {unknown[0]!r}" if unknown else "lora.targets is empty"
        raise UserError(cause, f"choose among {'; '.join(map(_told, _DOUBLE))}; all: the three")


def _told(target: str) -> str:
    """`mod: double_blocks.N.(img_mod.lin, txt_mod.lin), single_blocks.N.(modulation.lin)`, both layouts."""
    found = dict.fromkeys((*layers(target, stacked=False), *layers(target, stacked=True)))
    parts = []
    for block in ("double_blocks.N.", "single_blocks.N."):
        names = [name.removeprefix(block) for name in found if name.startswith(block)]
        parts.append(f"{block}({', '.join(names)})")
    return f"{target}: {', '.join(parts)}"
