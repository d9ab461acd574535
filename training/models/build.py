"""A model's description becomes networks on a device: for sampling, encoding and training alike.

`ModelSpec` says which networks there are and where their weights lie; a model file makes one. Each function here builds
one part, so that the trainer takes the transformer without the text encoder, and the encoder the other way round.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

import torch

from curation.errors import UserError
from training.models.base import Autoencoder, LatentSpec

if TYPE_CHECKING:
    from training.models.flux_image import ImageModel
    from training.models.mmdit.model import MMDiT
    from training.models.text.embedded import EmbeddedText
    from training.models.text.t5_clip import T5Clip
    from training.models.text.tokenizer import TooLong
    from training.models.weights import Allowed, Tensors


@dataclass(frozen=True, slots=True, kw_only=True)
class DenoiserSpec:
    """The transformer: a preset of `mmdit.config`, its weights in any public layout; without `path` drawn from `seed`.

    `compile`: its blocks are compiled.
    """

    preset: str
    path: str | None = None
    seed: int = 0
    compile: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class AutoencoderSpec:
    """`hunyuan`, or `dcae` with a preset. Without `path` its weights are drawn from `seed`. `latent_std`: what a Video
    DC-AE's latents are divided by; None: what the released one's are."""

    kind: Literal["hunyuan", "dcae"]
    preset: str
    path: str | None = None
    seed: int = 0
    latent_std: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class TextSpec:
    """`t5clip` from two folders, or `embedded`, the encoder that ships in a package."""

    kind: Literal["t5clip", "embedded"]
    t5: str | None = None
    clip: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelSpec:
    """A whole model. `image`: Flux's folder; `device`: "auto" is the GPU where there is one; `dtype`: torch's name."""

    name: str
    denoiser: DenoiserSpec
    autoencoder: AutoencoderSpec
    text: TextSpec
    image: str | None
    device: str
    dtype: str
    threads: int
    kernels: bool


@dataclass(frozen=True, slots=True)
class Networks:
    """What a model file describes, ready to run."""

    denoiser: MMDiT
    autoencoder: Autoencoder
    text: EmbeddedText | T5Clip
    device: torch.device
    dtype: torch.dtype


def networks(spec: ModelSpec, weights: Tensors | None = None) -> Networks:
    """All networks that sampling needs. `weights`: the transformer's, in the place of those that the spec names.
    UserError: a package, a file, a preset or a device that is not there.
    """
    from training import ops

    ops.use_kernels(spec.kernels)
    device, dtype = device_of(spec), dtype_of(spec)
    autoencoder_ = autoencoder(spec.autoencoder, device, dtype)
    text_ = text(spec.text, device, dtype)
    denoiser_ = denoiser(spec.denoiser, autoencoder_.spec, text_.widths, device, dtype, weights=weights)
    return Networks(denoiser_, autoencoder_, text_, device, dtype)


def latent_spec(spec: AutoencoderSpec) -> LatentSpec:
    """The shape of the latents, before any network is loaded."""
    from training.models.dcae import preset
    from training.models.hunyuan import HunyuanConfig

    return HunyuanConfig().spec if spec.kind == "hunyuan" else preset(spec.preset).spec


def trainable(denoiser: MMDiT) -> MMDiT:
    """The transformer as training has it: every weight with a gradient, every block recomputed."""
    denoiser.train().requires_grad_(True)
    denoiser.recompute(denoiser.config.depth, denoiser.config.depth_single_blocks)
    return denoiser


def image_model(spec: ModelSpec) -> ImageModel:
    """The model that draws a first frame."""
    if spec.image is None:
        raise UserError(f"model {spec.name} names no image model", 'add [image] with path = "FOLDER" of Flux')
    from training.models.flux_image import FluxImage

    return FluxImage(spec.image, dtype=dtype_of(spec), device=device_of(spec))


def device_of(spec: ModelSpec) -> torch.device:
    """Where the networks run. UserError: a device that is not there."""
    if spec.device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if spec.device.startswith("cuda") and not torch.cuda.is_available():
        raise UserError(f"model {spec.name} asks for {spec.device}, and torch sees no GPU", 'set run.device = "auto"')
    try:
        return torch.device(spec.device)
    except RuntimeError:
        raise UserError(f"run.device = {spec.device!r} is no device", "write auto, cpu, cuda or cuda:1") from None


def dtype_of(spec: ModelSpec) -> torch.dtype:
    """The type of the networks' numbers."""
    return getattr(torch, spec.dtype)


def denoiser(
    spec: DenoiserSpec,
    latents: LatentSpec,
    widths: tuple[int, int],
    device: torch.device,
    dtype: torch.dtype,
    allowed: Allowed | None = None,
    weights: Tensors | None = None,
) -> MMDiT:
    """The transformer, in evaluation mode, without gradients; `widths`: channels of the two texts. `allowed`: what its
    weights may lack or have too much of (`convert.NEW_LATENT`); None: they must fit. `weights`: in the place of the
    spec's.
    """
    from training.models.convert import load_mmdit
    from training.models.mmdit import MMDiT, preset
    from training.models.pretrained import locate

    config = preset(spec.preset)
    if config.in_channels != latents.token_channels or config.patch_size != latents.patch:
        raise UserError(
            f"{spec.preset} reads {config.in_channels} channels a token, the latents have {latents.token_channels}",
            "choose a preset of that autoencoder",
        )
    if (config.context_in_dim, config.vec_in_dim) != widths:
        raise UserError(
            f"{spec.preset} reads text {config.context_in_dim} and {config.vec_in_dim} channels wide, "
            f"the text encoder gives {widths[0]} and {widths[1]}",
            "choose a preset of that text encoder, or its encoder in [text]",
        )
    if weights is None and spec.path is None:
        torch.manual_seed(spec.seed)
        made = MMDiT(config).to(device, dtype)
    else:
        source = weights or locate(str(spec.path), "the transformer")
        with torch.device("meta"):
            made = MMDiT(config).to(dtype)
        load_mmdit(made, source, allowed=allowed, device=device)
    if spec.compile:
        made.compile_blocks()
    return made.eval().requires_grad_(False)


def autoencoder(spec: AutoencoderSpec, device: torch.device, dtype: torch.dtype) -> Autoencoder:
    """The autoencoder, without gradients."""
    from training.models.dcae import VideoDcAe, preset
    from training.models.hunyuan import HunyuanVae

    if spec.kind == "hunyuan" and spec.path is not None:
        return HunyuanVae.load(spec.path, dtype=dtype, device=device)
    torch.manual_seed(spec.seed)
    if spec.kind == "hunyuan":
        return HunyuanVae().to(device, dtype).eval().requires_grad_(False)
    config = preset(spec.preset)
    if spec.latent_std is not None:
        config = replace(config, latent_std=spec.latent_std)
    if spec.path is None:
        return VideoDcAe(config).to(device, dtype).eval().requires_grad_(False)
    return VideoDcAe.load(spec.path, config, dtype=dtype, device=device).requires_grad_(False)


def autoencoder_fingerprint(made: Autoencoder) -> str:
    """sha256 of an autoencoder's configuration and weights as they compute: two with one fingerprint give the same
    latents. Reads every weight.
    """
    assert isinstance(made, torch.nn.Module)
    total = hashlib.sha256(f"{type(made).__name__} {getattr(made, 'config', None)!r}".encode())
    for name, weight in sorted(made.state_dict().items()):
        flat = weight.detach().cpu().contiguous().reshape(-1)
        total.update(f"{name} {weight.dtype} {tuple(weight.shape)}".encode())
        total.update(flat.view(torch.uint8).numpy())
    return total.hexdigest()


def text(
    spec: TextSpec, device: torch.device, dtype: torch.dtype, too_long: TooLong = "error"
) -> EmbeddedText | T5Clip:
    """The text encoder. `too_long`: a prompt that is too long for it is an error, or loses its end."""
    if spec.kind == "embedded":
        from training.models.text.embedded import EmbeddedText

        return EmbeddedText(dtype=dtype, device=device, too_long=too_long)
    from training.models.text.t5_clip import T5Clip

    assert spec.t5 and spec.clip, "the model file checks it"
    return T5Clip(spec.t5, spec.clip, dtype=dtype, device=device, too_long=too_long)
