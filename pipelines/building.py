"""A model file becomes networks on a device. The door from the command line to `training`; torch is imported here."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from curation.errors import UserError
from pipelines.config.modelfile import AutoencoderSection, DenoiserSection, ModelFile, QualitySection, TextSection

if TYPE_CHECKING:
    import torch

    from training.models.base import Autoencoder, LatentSpec
    from training.models.flux_image import ImageModel
    from training.models.mmdit.model import MMDiT
    from training.models.text.embedded import EmbeddedText
    from training.models.text.t5_clip import T5Clip
    from training.quality.score import VBenchScorer
    from training.sampling.sampler import Sampler


def sampler(model: ModelFile) -> Sampler:
    """All that `training.sampling` needs. UserError: a package, a file, a preset or a device that is not there."""
    torch_ = _torch()
    from training import ops
    from training.sampling.sampler import Sampler

    ops.use_kernels(model.run.kernels)
    device, dtype = _device(model), getattr(torch_, model.run.dtype)
    autoencoder = _autoencoder(model.autoencoder, device, dtype)
    text = _text(model.text, device, dtype)
    denoiser = _denoiser(model.denoiser, autoencoder.spec, text.widths, device, dtype)
    for name, section in (("transformer", model.denoiser), ("autoencoder", model.autoencoder)):
        if section.path is None:
            print(f"note: the {name}'s weights are random (seed {section.seed}): no picture is meant", file=sys.stderr)
    return Sampler(denoiser, autoencoder, text, device, dtype, model.run.threads)


def latent_spec(model: ModelFile) -> LatentSpec:
    """The shape of the model's latents, before any network is loaded."""
    _torch()
    from training.models.dcae import preset
    from training.models.hunyuan import HunyuanConfig

    section = model.autoencoder
    return HunyuanConfig().spec if section.kind == "hunyuan" else preset(section.preset).spec


@contextmanager
def room_for(what: str) -> Iterator[None]:
    """A block that may need more memory than there is: `UserError` then, instead of torch's page of advice."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        import torch

        known = ("DefaultCPUAllocator", "calculation overflowed")
        if not isinstance(error, torch.OutOfMemoryError) and not any(words in str(error) for words in known):
            raise
        remedy = 'ask for fewer frames or a smaller size, or set run.dtype = "bfloat16" in the model file'
        raise UserError(f"too little memory for {what}", remedy) from error


def trainable(sampler: Sampler) -> MMDiT:
    """The sampler's transformer as training has it: every weight with a gradient, every block recomputed."""
    from training.models.mmdit import MMDiT

    denoiser = sampler.denoiser
    assert isinstance(denoiser, MMDiT)
    denoiser.train().requires_grad_(True)
    denoiser.recompute(denoiser.config.depth, denoiser.config.depth_single_blocks)
    return denoiser


def image_model(model: ModelFile) -> ImageModel:
    """The model that draws a first frame."""
    torch_ = _torch()
    if model.image.path is None:
        raise UserError(f"model {model.name} names no image model", 'add [image] with path = "FOLDER" of Flux')
    from training.models.flux_image import FluxImage

    return FluxImage(model.image.path, dtype=getattr(torch_, model.run.dtype), device=_device(model))


def scorer(section: QualitySection, metrics: Sequence[str], device: str, fps: float) -> VBenchScorer:
    """VBench's metrics with weights from the model file."""
    _torch()
    from training.quality import score

    paths = section.model_dump(exclude={"weights"})
    return score.VBenchScorer(score.load(list(metrics), score.Files(**paths), device, fps), section.weights)


def _torch() -> object:
    try:
        import torch
    except ImportError:
        raise UserError("torch is not installed", "pip install -e '.[train]'") from None
    return torch


def _device(model: ModelFile) -> torch.device:
    import torch

    wanted = model.run.device
    if wanted == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if wanted.startswith("cuda") and not torch.cuda.is_available():
        raise UserError(f"model {model.name} asks for {wanted}, and torch sees no GPU", 'set run.device = "auto"')
    try:
        return torch.device(wanted)
    except RuntimeError:
        raise UserError(f"run.device = {wanted!r} is no device", "write auto, cpu, cuda or cuda:1") from None


def _denoiser(
    section: DenoiserSection, spec: LatentSpec, widths: tuple[int, int], device: torch.device, dtype: torch.dtype
) -> MMDiT:
    import torch

    from training.models.convert import load_mmdit
    from training.models.mmdit import MMDiT, preset
    from training.models.pretrained import locate

    config = preset(section.preset)
    if config.in_channels != spec.token_channels or config.patch_size != spec.patch:
        raise UserError(
            f"{section.preset} reads {config.in_channels} channels a token, the latents have {spec.token_channels}",
            "choose a preset of that autoencoder",
        )
    if (config.context_in_dim, config.vec_in_dim) != widths:
        raise UserError(
            f"{section.preset} reads text {config.context_in_dim} and {config.vec_in_dim} channels wide, "
            f"the text encoder gives {widths[0]} and {widths[1]}",
            "choose a preset of that text encoder, or its encoder in [text]",
        )
    if section.path is None:
        torch.manual_seed(section.seed)
        made = MMDiT(config).to(device, dtype)
    else:
        with torch.device("meta"):
            made = MMDiT(config).to(dtype)
        load_mmdit(made, locate(section.path, "the transformer"), device=device)
    if section.compile:
        made.compile_blocks()
    return made.eval().requires_grad_(False)


def _autoencoder(section: AutoencoderSection, device: torch.device, dtype: torch.dtype) -> Autoencoder:
    import torch

    from training.models.dcae import VideoDcAe, preset
    from training.models.hunyuan import HunyuanVae

    if section.path is None:
        torch.manual_seed(section.seed)
        made = HunyuanVae() if section.kind == "hunyuan" else VideoDcAe(preset(section.preset))
        return made.to(device, dtype).eval().requires_grad_(False)
    if section.kind == "hunyuan":
        return HunyuanVae.load(section.path, dtype=dtype, device=device)
    return VideoDcAe.load(section.path, section.preset, dtype=dtype, device=device).requires_grad_(False)


def _text(section: TextSection, device: torch.device, dtype: torch.dtype) -> EmbeddedText | T5Clip:
    if section.kind == "embedded":
        from training.models.text.embedded import EmbeddedText

        return EmbeddedText(dtype=dtype, device=device, too_long="error")
    from training.models.text.t5_clip import T5Clip

    assert section.t5 and section.clip, "the model file checks it"
    return T5Clip(section.t5, section.clip, dtype=dtype, device=device, too_long="error")
