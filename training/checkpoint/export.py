"""From a checkpoint to one file of weights, in the layouts that other programs read (`models.convert`)."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import torch

from curation.errors import UserError
from training.checkpoint.folder import Head
from training.checkpoint.load import tensors
from training.checkpoint.state import AVERAGE, WEIGHT
from training.models.convert import save_mmdit
from training.models.dcae.autoencoder import VideoDcAe
from training.models.dcae.config import preset as autoencoder_preset
from training.models.layouts import LAYOUTS
from training.models.mmdit import MMDiT, preset
from training.models.weights import Allowed

Number = Literal["float32", "bfloat16"]


def export(
    checkpoint: Path, target: Path, layout: str = "opensora_v2", averages: bool = False, dtype: Number = "bfloat16"
) -> tuple[list[Path], list[str]]:
    """Write the transformer's weights, or their averages, as safetensors; the files written, and what was left out.

    diffusers has no place for the condition's input. UserError: no such layout, no averages,
    a file of that name, a run that trained an adapter.
    """
    if layout not in LAYOUTS:
        raise UserError(f"there is no layout {layout!r}", f"choose one of {', '.join(LAYOUTS)}")
    head = Head.read(checkpoint)
    if head.identity.alpha is not None:
        raise UserError(f"{checkpoint} holds an adapter and not the weights under it", "take `ziggurat lora merge`")
    with torch.device("meta"):
        network = MMDiT(preset(head.network))
    found = tensors(checkpoint, AVERAGE if averages else WEIGHT)
    network.load_state_dict({name: tensor.to(getattr(torch, dtype)) for name, tensor in found.items()}, assign=True)
    dropped = Allowed(drop=("cond_in.",)) if LAYOUTS[layout].names == "diffusers" else None
    files = save_mmdit(network, target, LAYOUTS[layout], dropped)
    return files, ["cond_in"] if dropped is not None and network.config.cond_embed else []


def export_autoencoder(checkpoint: Path, target: Path, averages: bool = True, dtype: Number = "float32") -> list[str]:
    """Write the autoencoder's weights, its averages by default, as one safetensors file under the public names; which
    of `discriminator` and `projection` were trained with it and stay behind.

    UserError: the checkpoint is of another kind of network, has no averages, or there is a file of that name.
    """
    under = "autoencoder."
    head = Head.read(checkpoint)
    network = head.network
    with torch.device("meta"):
        made = VideoDcAe(autoencoder_preset(network))
    found = tensors(checkpoint, AVERAGE if averages else WEIGHT, under)
    made.load_state_dict(
        {name.removeprefix(under): tensor.to(getattr(torch, dtype)) for name, tensor in found.items()}, assign=True
    )
    made.save(target)
    trained = {name.partition(".")[0] for name in head.identity.shapes}
    return sorted(trained - {"autoencoder"})
