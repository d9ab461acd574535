"""`ziggurat lora`: adapters of low rank into plain weights, to other programs, and out of two models."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from curation.errors import UserError
from pipelines.config import modelfile
from pipelines.sampling.networks import need_torch

if TYPE_CHECKING:
    from training.lora.adapter import Adapter
    from training.lora.extract import LayerError
    from training.models.mmdit import MMDiTConfig
    from training.models.weights import Tensors

Note = Callable[[str], None]
Format = Literal["diffusers", "peft"]


@dataclass(frozen=True, slots=True)
class MergedAdapter:
    """The files of weights, and what is in them now. `rounding`: the share of the adapter that their type lost."""

    files: Sequence[str]
    layers: int
    rank: int
    scale: float
    rounding: float


@dataclass(frozen=True, slots=True)
class ExportedAdapter:
    """The files. `layers`: of the format, which may have several for one of ours."""

    files: Sequence[str]
    format: Format
    layers: int
    rank: int


@dataclass(frozen=True, slots=True)
class ExtractedAdapter:
    """The files. `error`: the norm of what the adapter lacks of the difference, over the norm of the difference;
    `layers`: the same of each. `left`: tensors that differ and are not in it."""

    files: Sequence[str]
    rank: int
    error: float
    layers: Sequence[LayerError]
    left: Sequence[str]


def merge(adapter: str, model_name: str, to: str, averages: bool, note: Note) -> MergedAdapter:
    """Write the model's transformer with the adapter in its weights, a shard in memory at a time.

    `note` hears where the adapter was made for other weights. UserError: it does not fit, or the file is there.
    """
    model = modelfile.load(model_name)
    need_torch()
    from training.lora import base, trained
    from training.lora.merge import Merged
    from training.models.weights import write

    found = trained.read(adapter, averages)
    _, weights = base.weights_of(model.spec.denoiser)
    merged = Merged(weights, found)
    if found.base and not base.known(found.base, weights):
        note(f"the adapter was made for other weights than those of model {model.name}")
    files = write(merged, Path(to))
    return MergedAdapter(_names(files), len(found.layers), found.rank, found.scale, merged.rounding)


def export(adapter: str, model_name: str, form: Format, to: str, averages: bool) -> ExportedAdapter:
    """Write the adapter as a folder that diffusers' Flux, or peft, reads. UserError: it does not fit the model, or the
    format has no place for it."""
    model = modelfile.load(model_name)
    need_torch()
    from training.lora import diffusers, files, trained
    from training.models.mmdit import preset

    found, config = trained.read(adapter, averages), preset(model.denoiser.preset)
    _check(found, config)
    if form == "peft":
        return ExportedAdapter(_names(files.save(found, to)), form, len(found.layers), found.rank)
    written = diffusers.save(found, config, to)
    return ExportedAdapter(_names(written), form, len(diffusers.converted(found, config)) // 2, found.rank)


def extract(
    base: str, tuned: str, rank: int, targets: Sequence[str], to: str, model_name: str | None = None
) -> ExtractedAdapter:
    """Write the best adapter of that rank from one checkpoint to another, in peft's format.

    Both in the layout of Flux or of Open-Sora v2; with a model, in any, and the adapter is in the model's.
    """
    model = None if model_name is None else modelfile.load(model_name)
    need_torch()
    import torch

    from training.lora import extract as extraction
    from training.lora import files
    from training.lora.base import in_layout_of
    from training.models.layouts import detect
    from training.models.mmdit import preset
    from training.models.weights import Files

    if (Path(to) / files.CONFIG).exists():
        raise UserError(f"{to} holds an adapter already", "choose another folder, or remove it first")
    pair: Sequence[Tensors] = [Files(base), Files(tuned)]
    if model is not None:
        config = preset(model.denoiser.preset)
        pair, stacked = [in_layout_of(config, one) for one in pair], config.fused_qkv
    else:
        layouts = [detect(one) for one in pair]
        if layouts[0] != layouts[1] or layouts[0].names != "flux":
            cause = "the two checkpoints are in different layouts, or in that of diffusers"
            raise UserError(cause, "give --model, so that they are brought to the model's own")
        stacked = layouts[0].fused
    device = "cuda" if torch.cuda.is_available() else "cpu"
    found = extraction.extract(pair[0], pair[1], rank, targets, stacked, device)
    return ExtractedAdapter(_names(files.save(found.adapter, to)), rank, found.error, found.layers, found.left)


def _check(adapter: Adapter, config: MMDiTConfig) -> None:
    import torch

    from training.models.mmdit import MMDiT
    from training.models.weights import InMemory

    with torch.device("meta"):
        adapter.check(InMemory(dict(MMDiT(config).state_dict())))


def _names(files: Sequence[Path]) -> list[str]:
    return [str(path) for path in files]
