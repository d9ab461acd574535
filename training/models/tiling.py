"""Running a network over a video in overlapping tiles that fade into each other: the memory of one tile, not of a clip.

`tile_time` is outermost, `tile_plane` inside a time tile. The rule is that of the public code (golden README, "Tiling
rule"), so that latents equal those made elsewhere with the same tiles.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

Network = Callable[[Tensor], Tensor]

_TIME, _HEIGHT, _WIDTH = 2, 3, 4


@dataclass(frozen=True, slots=True)
class Cut:
    """How one axis is cut. `tile`, `stride` and `least` are positions of the input, `blend` and `keep` of the output.

    A tile takes `tile` positions and starts `stride` after the one before; the last may be shorter. The first `blend`
    positions of its output fade in over the end of the tile before, and `keep` of them stay, of the last tile all. A
    last tile of fewer than `least` positions is left out: the tile before it covers them already.
    """

    tile: int
    stride: int
    blend: int
    keep: int
    least: int = 1

    def __post_init__(self) -> None:
        assert 1 <= self.stride <= self.tile and self.blend >= 0 and self.keep >= 1
        assert self.least - 1 <= self.tile - self.stride, "a tile left out must lie inside the one before"

    @classmethod
    def of(cls, tile_in: int, tile_out: int, overlap: float, least: int = 1) -> Cut:
        """The public rule: a tile starts every int(tile_in * (1 - overlap)), blending int(tile_out * overlap)."""
        blend = int(tile_out * overlap)
        return cls(tile_in, int(tile_in * (1 - overlap)), blend, tile_out - blend, least)

    def spans(self, size: int) -> list[tuple[int, int]]:
        """(start, length) of every tile of an axis of `size`."""
        starts = [start for start in range(0, size, self.stride) if start == 0 or size - start >= self.least]
        return [(start, min(self.tile, size - start)) for start in starts]


def tile_time(x_BCTHW: Tensor, cut: Cut, network: Network) -> Tensor:
    """`network` over tiles of time, each faded into the finished one before."""
    tiles: list[Tensor] = []
    for start, length in cut.spans(x_BCTHW.shape[_TIME]):
        tile = network(x_BCTHW.narrow(_TIME, start, length))
        tiles.append(crossfade(tiles[-1], tile, cut.blend, _TIME) if tiles else tile)
    return _joined(tiles, cut.keep, _TIME)


def tile_plane(x_BCTHW: Tensor, cut: Cut, network: Network) -> Tensor:
    """`network` over square tiles of every frame, each faded into the finished one above, then the one to its left."""
    columns = cut.spans(x_BCTHW.shape[_WIDTH])
    bands: list[Tensor] = []
    above: list[Tensor] = []
    for top, height in cut.spans(x_BCTHW.shape[_HEIGHT]):
        band = x_BCTHW.narrow(_HEIGHT, top, height)
        tiles: list[Tensor] = []
        for column, (left, width) in enumerate(columns):
            tile = network(band.narrow(_WIDTH, left, width))
            if above:
                tile = crossfade(above[column], tile, cut.blend, _HEIGHT)
            if tiles:
                tile = crossfade(tiles[-1], tile, cut.blend, _WIDTH)
            tiles.append(tile)
        bands.append(_joined(tiles, cut.keep, _WIDTH))
        above = tiles
    return _joined(bands, cut.keep, _HEIGHT)


def crossfade(before: Tensor, tile: Tensor, length: int, dim: int) -> Tensor:
    """`tile` with its first n positions on `dim` faded in over the last n of `before`: weight i/n at position i.

    n is `length`, or less where either tile is shorter.
    """
    n = min(length, before.shape[dim], tile.shape[dim])
    if n == 0:
        return tile
    ramp = torch.arange(n, device=tile.device, dtype=tile.dtype) / n
    ramp = ramp.view([-1 if axis == dim else 1 for axis in range(tile.ndim)])
    head = torch.lerp(before.narrow(dim, before.shape[dim] - n, n), tile.narrow(dim, 0, n), ramp)
    return torch.cat([head, tile.narrow(dim, n, tile.shape[dim] - n)], dim)


def _joined(tiles: list[Tensor], keep: int, dim: int) -> Tensor:
    """The first `keep` positions of every tile, and all of the last."""
    kept = [tile.narrow(dim, 0, min(keep, tile.shape[dim])) for tile in tiles[:-1]]
    return torch.cat([*kept, tiles[-1]], dim)
