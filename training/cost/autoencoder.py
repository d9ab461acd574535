"""FLOPs of encoding a video, counted on the autoencoder: it runs on the meta device, which computes nothing.

The transformer's cost has a formula (`cost`); an autoencoder's has none worth writing down.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from curation.errors import UserError
from training.cost.formulas import tiles_of

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
