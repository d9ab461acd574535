"""FLOPs of an autoencoder, counted on it: it runs on the meta device, which computes nothing.

The transformer's cost has a formula (`cost`); an autoencoder's has none worth writing down.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

import torch
from torch.utils.flop_counter import FlopCounterMode

from curation.errors import UserError
from training.cost.formulas import BACKWARD, tiles_of

if TYPE_CHECKING:
    from training.models.dcae.config import DcAeConfig

SIDE, TILE_FRAMES = 256, 32


def encode_flops(autoencoder: str, frames: int, height: int, width: int) -> int:
    """Forward FLOPs of encoding one clip with the tiles of spec section 1.4; "dcae" or "hunyuan" at public sizes."""
    if autoencoder not in ENCODERS:
        raise UserError(f"there is no autoencoder {autoencoder!r}", f"choose one of {', '.join(ENCODERS)}")
    make, tile_frames = ENCODERS[autoencoder]
    with torch.device("meta"):
        encode = make()
    tiles = tiles_of(frames, height, width, SIDE, tile_frames)
    return sum(count * _flops(encode, shape) for shape, count in tiles.items())


@dataclass(frozen=True, slots=True)
class Work:
    """FLOPs of encoding and decoding without tiles, a pixel of a frame: of a video and of a still image.

    All that a Video DC-AE does is proportional to frames x height x width, its linear attention too.
    """

    video: float
    image: float

    @classmethod
    def of(cls, config: DcAeConfig) -> Self:
        """Counted on a small clip and image. In the main thread: torch's counter hooks every module's forward."""
        from training.models.dcae.autoencoder import VideoDcAe

        with torch.device("meta"):
            made = VideoDcAe(config)
        side, clip = config.spec.space, 2 * config.spec.time  # a latent of one frame is a still image's
        video, image = (_flops(lambda x: made.decoder(made.encoder(x)), (frames, side, side)) for frames in (clip, 1))
        return cls(video / (clip * side**2), image / side**2)

    def forward(self, frames: int, height: int, width: int) -> float:
        """Of one clip."""
        return (self.image if frames == 1 else self.video) * frames * height * width

    def train(self, frames: int, height: int, width: int) -> float:
        """Forward and backward of one clip, without what the losses compute."""
        return (1 + BACKWARD) * self.forward(frames, height, width)


def count_flops(run: Callable[[], object]) -> int:
    """FLOPs of the convolutions and matrix products that `run` executes, as torch counts them."""
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        run()
    return counter.get_total_flops()


def _flops(encode: Callable[[torch.Tensor], object], shape: tuple[int, int, int]) -> int:
    return count_flops(lambda: encode(torch.empty(1, 3, *shape, device="meta")))


def _dcae() -> Any:
    from training.models.dcae.config import preset
    from training.models.dcae.network import Encoder

    return Encoder(preset("f32t4c128"))


def _hunyuan() -> Any:
    from training.models.hunyuan import HunyuanConfig, HunyuanVae

    return HunyuanVae(HunyuanConfig(space_tiles=None)).moments


ENCODERS: Mapping[str, tuple[Callable[[], Any], int | None]] = {
    "dcae": (_dcae, TILE_FRAMES),
    "hunyuan": (_hunyuan, None),
}
"""How the network is made, and the frames of a tile; None where time is not tiled."""
