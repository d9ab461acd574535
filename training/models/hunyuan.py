"""The HunyuanVideo autoencoder: 16 channels, 4 x 8 x 8, causal (spec section 2). The network is diffusers' own.

This adapter sets what diffusers does otherwise: whole clips are encoded, not tiles of 16 frames; the middle attention
makes no dense mask (`hunyuan_mask`); latents come scaled; a checkpoint must fit name by name.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Self

import torch
from torch import Tensor, nn

from curation.errors import UserError
from training.models.base import LatentSpec
from training.models.hunyuan_mask import FrameCausalMid
from training.models.pretrained import locate, missing_package, settings_of
from training.models.weights import Files, load

TIME, SPACE = 4, 8
LOGVAR_RANGE = (-30.0, 20.0)
WHAT = "the HunyuanVideo autoencoder"
WEIGHTS = "diffusion_pytorch_model.safetensors"


@dataclass(frozen=True, slots=True)
class Tiles:
    """Overlapping tiles along an axis, in pixels or frames; `overlap` is the share of a tile that the next repeats."""

    size: int
    overlap: float = 0.25

    @property
    def stride(self) -> int:
        return int(self.size * (1 - self.overlap))


@dataclass(frozen=True, slots=True)
class HunyuanConfig:
    """Sizes of the network (the public one by default) and how it is run.

    `space_tiles`, `time_tiles`: None for whole frames, whole clips. The public runs tile frames, never time.
    """

    latent_channels: int = 16
    block_out_channels: tuple[int, ...] = (128, 256, 512, 512)
    layers_per_block: int = 2
    norm_num_groups: int = 32
    scaling_factor: float = 0.476986
    space_tiles: Tiles | None = Tiles(256)
    time_tiles: Tiles | None = None
    posterior: Literal["sample", "mean"] = "sample"

    def __post_init__(self) -> None:
        for tiles, step in ((self.space_tiles, SPACE), (self.time_tiles, TIME)):
            assert tiles is None or (tiles.size % step == 0 and tiles.stride % step == 0), f"multiples of {step}"

    @property
    def spec(self) -> LatentSpec:
        return LatentSpec(self.latent_channels, TIME, SPACE, causal=True, patch=2)


_NETWORK = ("latent_channels", "block_out_channels", "layers_per_block", "norm_num_groups", "scaling_factor")


@dataclass(frozen=True, slots=True)
class Posterior:
    """A diagonal Gaussian over unscaled latents (B, C, T, H, W), in float32 or wider."""

    mean: Tensor
    logvar: Tensor

    @classmethod
    def of(cls, moments_BCTHW: Tensor) -> Posterior:
        """From the network's moments, mean then log variance; the latter is clamped, the moments are not."""
        wide = torch.promote_types(moments_BCTHW.dtype, torch.float32)
        mean, logvar = moments_BCTHW.to(wide).chunk(2, dim=1)
        return cls(mean, logvar.clamp(*LOGVAR_RANGE))

    def at(self, noise: Tensor) -> Tensor:
        """mean + exp(logvar / 2) * noise."""
        return self.mean + (self.logvar / 2).exp() * noise

    def sample(self, generator: torch.Generator | None = None) -> Tensor:
        """A draw; the noise is made where the generator lives, so a CPU seed gives one latent on every device."""
        device = generator.device if generator is not None else self.mean.device
        return self.at(torch.randn(self.mean.shape, generator=generator, device=device).to(self.mean))

    def kl(self) -> Tensor:
        """KL divergence from a standard normal, summed over each sample: (B,)."""
        inner = self.mean.square() + self.logvar.exp() - 1 - self.logvar
        return 0.5 * inner.flatten(1).sum(1)


class HunyuanVae(nn.Module):
    """`base.Autoencoder`. Made by `load`; the constructor's weights are random.

    Latents are float32 whatever the weights' dtype, videos come in the weights' dtype.
    """

    def __init__(self, config: HunyuanConfig | None = None) -> None:
        super().__init__()
        self.config = config or HunyuanConfig()
        self.network = _network(self.config)

    @classmethod
    def load(
        cls,
        source: str | Path,
        config: HunyuanConfig | None = None,
        *,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str = "cpu",
    ) -> Self:
        """From a safetensors file, a diffusers folder (or its parent with `vae/`) or `hub:OWNER/NAME`.

        The weights are frozen. Raises `UserError` where they are absent or another network's.
        """
        config = config or HunyuanConfig()
        file = _weights_file(locate(source, WHAT), config)
        with torch.device("meta"):
            made = cls(config).to(dtype)
        load(made.network, Files(file), _never, device=device)
        return made.eval().requires_grad_(False)

    @property
    def spec(self) -> LatentSpec:
        return self.config.spec

    def posterior(self, video_B3THW: Tensor) -> Posterior:
        """The distribution of a video's latent. Video in [-1, 1], 4k + 1 frames, sides multiples of 8."""
        return Posterior.of(self.moments(video_B3THW))

    def moments(self, video_B3THW: Tensor) -> Tensor:
        """(B, 2 C, T', H', W') after the quant convolution: mean, then log variance."""
        frames, height, width = video_B3THW.shape[-3:]
        self.spec.frames(frames)
        if height % SPACE or width % SPACE:
            raise UserError(f"a picture of {height}x{width} does not fit {WHAT}", f"sides are multiples of {SPACE}")
        return self.network.encode(video_B3THW.to(self.network.dtype)).latent_dist.parameters

    def encode(self, video_B3THW: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Scaled latent: a draw from the posterior, or its mean (`HunyuanConfig.posterior`)."""
        found = self.posterior(video_B3THW)
        latent = found.mean if self.config.posterior == "mean" else found.sample(generator)
        return latent * self.config.scaling_factor

    def decode(self, latent_BCTHW: Tensor, still: bool = True) -> Tensor:
        """Video of a scaled latent, not clamped. A latent frame alone is always an image: `still` changes nothing."""
        del still
        return self.network.decode((latent_BCTHW / self.config.scaling_factor).to(self.network.dtype)).sample


def _never(name: str, parameter: Tensor) -> None:
    raise AssertionError(f"{name}: a checkpoint that must fit exactly leaves nothing to initialise")


def _network(config: HunyuanConfig) -> Any:
    try:
        from diffusers.models.autoencoders.autoencoder_kl_hunyuan_video import AutoencoderKLHunyuanVideo
    except ImportError as error:
        raise missing_package(error) from error
    network = AutoencoderKLHunyuanVideo(**{name: getattr(config, name) for name in _NETWORK})
    halves: tuple[Any, Any] = (network.encoder, network.decoder)
    for half in halves:
        half.mid_block = FrameCausalMid(half.mid_block)
    network.use_tiling = config.space_tiles is not None
    network.use_framewise_encoding = network.use_framewise_decoding = config.time_tiles is not None
    if config.space_tiles:
        network.tile_sample_min_height = network.tile_sample_min_width = config.space_tiles.size
        network.tile_sample_stride_height = network.tile_sample_stride_width = config.space_tiles.stride
    if config.time_tiles:
        network.tile_sample_min_num_frames = config.time_tiles.size
        network.tile_sample_stride_num_frames = config.time_tiles.stride
    return network


def _weights_file(path: Path, config: HunyuanConfig) -> Path:
    """The weights in a file or folder; a folder's config.json must agree with `config`."""
    if path.is_file():
        return path
    folder = path / "vae" if (path / "vae").is_dir() else path
    file, settings = folder / WEIGHTS, folder / "config.json"
    for needed in (file, settings):
        if not needed.is_file():
            raise UserError(f"{folder} has no {needed.name}", f"give a diffusers folder of {WHAT}, or its weights file")
    written = settings_of(settings, WHAT)
    for name in _NETWORK:
        value = getattr(config, name)
        if written.get(name, value) != (list(value) if isinstance(value, tuple) else value):
            raise UserError(f"{settings} has {name} {written[name]}, not {value}", f"give a folder of {WHAT}")
    return file
