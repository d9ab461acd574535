"""The Video DC-AE as sampling and training use it: `models.base.Autoencoder` around `network`, with tiles and a file.

To compile, compile the networks in place (`ae.encoder.compile()`): `encode` then still scales, and cuts into tiles.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from pathlib import Path
from typing import Self

import torch
from torch import Tensor, nn

from curation.errors import UserError
from training.models.base import LatentSpec
from training.models.dcae.config import PRESETS, DcAeConfig, preset
from training.models.dcae.network import Decoder, Encoder, init_weights
from training.models.pretrained import locate
from training.models.tiling import Cut, tile_plane, tile_time
from training.models.weights import Files, InMemory, load, write

WHAT = "the Video DC-AE"
_FIRST_OF_DECODER = "decoder.project_in.main.conv.weight"


class VideoDcAe(nn.Module):
    """`base.Autoencoder`. Deterministic: a latent is the network's output, nothing is drawn.

    Latents are float32 whatever the weights' dtype, videos come in the weights' dtype.
    """

    def __init__(self, config: DcAeConfig) -> None:
        super().__init__()
        self.config = config
        self.encoder = Encoder(config)
        self.decoder = Decoder(config)
        init_weights(self)

    @classmethod
    def load(
        cls,
        source: str | Path,
        config: DcAeConfig | str,
        *,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str = "cpu",
    ) -> Self:
        """The network of a configuration or preset with the weights of a safetensors file, ready to run or to train.

        `source` may also be a folder with one such file, or `hub:OWNER/NAME`. Raises `UserError` where it is absent
        or its names or shapes are another network's, with the first few of them.
        """
        with torch.device("meta"):
            made = cls(preset(config) if isinstance(config, str) else config).to(dtype)
        files = Files(locate(source, WHAT))
        shape = files.shape(_FIRST_OF_DECODER) if _FIRST_OF_DECODER in files.names() else ()
        if len(shape) == 5:
            _check_channels(shape[1], made.spec.channels)
        load(made, files, _never, device=device)
        return made.eval()

    def save(self, path: Path | str) -> None:
        """The weights as a new safetensors file under the public names."""
        write(InMemory(self.state_dict()), path)

    @property
    def spec(self) -> LatentSpec:
        return self.config.spec

    @property
    def last_layer(self) -> nn.Parameter:
        """The last convolution's kernel, where the adversarial loss is weighed (`autoencoder.losses`)."""
        return self.get_parameter("decoder.project_out.op_list.2.conv.weight")

    def encode(self, video_B3THW: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """(B, 3, T, H, W) in [-1, 1] -> (B, C, T/4, H/32, W/32), divided by `latent_std`.

        T is 1 or a multiple of 4; `UserError` for sizes off the grid. `generator` has no use here.
        """
        self.spec.size(*video_B3THW.shape[-3:])
        time, space = self.config.cuts("encode")
        with _sound(self.last_layer, video_B3THW.shape[2]):
            latent = self._each_sample(partial(_tiled, self.encoder, time, space), video_B3THW)
        return latent.float() / self.config.latent_std

    def decode(self, latent_BCTHW: Tensor, still: bool = True) -> Tensor:
        """(B, C, T', H', W') -> (B, 3, 4T', 32H', 32W'), about [-1, 1] and not clamped.

        A latent of one frame may be a still image's or that of a clip of 4 frames. `still` takes it for an image, as
        the public code does, and gives one frame; else 4 come back, decoded from the latent frame held for two.
        """
        _check_channels(latent_BCTHW.shape[1], self.spec.channels)
        held = latent_BCTHW.shape[2] == 1 and not still
        latent = latent_BCTHW.expand(-1, -1, 2, -1, -1) if held else latent_BCTHW
        time, space = self.config.cuts("decode")
        video = self._each_sample(partial(_tiled, self.decoder, time, space), latent * self.config.latent_std)
        return video[:, :, : self.spec.time] if held else video

    def _each_sample(self, run: Callable[[Tensor], Tensor], x_BCTHW: Tensor) -> Tensor:
        x = x_BCTHW.to(self.last_layer.dtype)
        if not self.config.one_by_one or len(x) == 1:
            return run(x)
        return torch.cat([run(sample) for sample in x.split(1)])


def _sound(weight: Tensor, frames: int) -> AbstractContextManager[object]:
    """oneDNN's bfloat16 convolution of three channels and one frame is infinite or of anything on processors with AMX
    (docs/autoencoder.md): stills are convolved without it.
    """
    wrong = weight.device.type == "cpu" and weight.dtype == torch.bfloat16 and frames == 1
    if not wrong:
        return nullcontext()
    # The others stay as they are: setting `allow_tf32` warns where there is no GPU of Intel's.
    return torch.backends.mkldnn.flags(enabled=False, allow_tf32=None, fp32_precision=None)  # pyright: ignore


def _tiled(network: nn.Module, time: Cut | None, space: Cut | None, x_BCTHW: Tensor) -> Tensor:
    """`network` over `x`, cut where there is a cut and the axis is longer than its tile."""
    if time and x_BCTHW.shape[2] > time.tile:
        return tile_time(x_BCTHW, time, partial(_tiled, network, None, space))
    if space and max(x_BCTHW.shape[3:]) > space.tile:
        return tile_plane(x_BCTHW, space, network)
    return network(x_BCTHW)


def _check_channels(given: int, wanted: int) -> None:
    """`UserError` where a latent or a file is of another autoencoder, naming the preset that fits."""
    if given == wanted:
        return
    fitting = [name for name, config in PRESETS.items() if config.latent_channels == given]
    raise UserError(
        f"{given} latent channels where this autoencoder has {wanted}",
        f"choose {fitting[0]}" if fitting else "give the autoencoder that made the latents",
    )


def _never(name: str, _: Tensor) -> None:
    raise AssertionError(f"{name} would start anew, which nothing here allows")
