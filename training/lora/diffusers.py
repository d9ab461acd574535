"""An adapter for diffusers' `FluxTransformer2DModel`, and for what reads diffusers' files of adapters.

B goes through `models.convert` as if it were the layer's weight, for its rows are the weight's: rows of stacked
projections are cut apart, and those of queries and keys reordered where the rotation differs. A reads the same input
in each of the parts, and is copied to them. diffusers takes alpha for the rank unless it is told otherwise, so alpha /
rank is in B.
"""

from __future__ import annotations

from pathlib import Path

from torch import Tensor

from curation.errors import UserError
from training.lora.adapter import Adapter
from training.models.convert import Converted
from training.models.layouts import DIFFUSERS, layout_of
from training.models.mmdit import MMDiTConfig
from training.models.weights import InMemory, listing, write

FILE = "pytorch_lora_weights.safetensors"
PREFIX = "transformer."


def converted(adapter: Adapter, config: MMDiTConfig) -> dict[str, Tensor]:
    """Factors by diffusers' names: `transformer_blocks.0.attn.to_q.lora_A.weight` (R, I), ...

    UserError: the network has an input for a condition, which diffusers' lacks, or layers of no name there.
    """
    if config.cond_embed:
        raise UserError(
            "the model has an input for a condition (cond_in), and FluxTransformer2DModel has no place for it: "
            "the adapter would meet other activations there than it was trained on",
            "export with --format peft, or train on a preset without cond_embed, as flux_dev",
        )
    rows = {f"{layer}.weight": b_OR * adapter.scale for layer, (_, b_OR) in adapter.layers.items()}
    view = Converted(InMemory(rows, "the adapter"), layout_of(config), DIFFUSERS, config)
    if view.unused:
        layers = [name.removesuffix(".weight") for name in view.unused]
        raise UserError(f"the adapter changes layers that the model lacks: {listing(layers)}", "give its own model")
    found: dict[str, Tensor] = {}
    for name in view.names():
        (source,) = view.sources(name)
        layer = name.removesuffix(".weight")
        found[f"{layer}.lora_A.weight"] = adapter.layers[source.removesuffix(".weight")].a_RI.clone()
        found[f"{layer}.lora_B.weight"] = view.read(name).contiguous()
    return found


def save(adapter: Adapter, config: MMDiTConfig, folder: Path | str) -> list[Path]:
    """Write a folder that `FluxPipeline.load_lora_weights` reads; the file written.

    UserError: as `converted`, or a file of that name.
    """
    tensors = {f"{PREFIX}{name}": tensor for name, tensor in converted(adapter, config).items()}
    return write(InMemory(tensors), Path(folder) / FILE)
