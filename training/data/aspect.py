"""Picture sizes: for a pixel budget, one size for every aspect ratio, on the grid of the latent's tokens.

A clip goes to the nearest ratio of its budget (`buckets`), a prompt names one (`sample`). Sides are multiples of 16
with HunyuanVideo's autoencoder and patch 2, of 32 with Video DC-AE (spec section 4.4).
A ratio is written width:height, a size is (height, width).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache
from math import sqrt
from types import MappingProxyType

from curation.errors import UserError

RATIOS = ("2.39:1", "2:1", "16:9", "1.85:1", "9:16", "5:8", "3:2", "4:3", "1:1")
"""Each also stands mirrored. 9:16 and 5:8 are in the published list although they are portrait."""

Size = tuple[int, int]

_RESOLUTION = re.compile(r"(?P<side>[1-9]\d*)(?P<unit>px|p)(?:_(?:(?P<max>max)|ar(?P<ratio>\d[\d.]*:\d[\d.]*)))?")


def height_over_width(ratio: str) -> float:
    width, height = map(float, ratio.split(":"))
    return height / width


def pixels(resolution: str) -> int:
    """The pixel budget: 256px is 256 * 256, 720p the 16:9 picture of that height. UserError for another name."""
    named = _parsed(resolution)
    side = int(named["side"])
    return side * side if named["unit"] == "px" else side * side * 16 // 9


def sizes(resolution: str, multiple: int = 16, training: bool = True) -> Mapping[str, Size]:
    """Ratio -> (height, width) of a resolution.

    `256px_ar16:9` has that ratio alone, `256px_max` the one with the most pixels: what a memory search measures.
    `training` tables come nearer to the budget and leave out a ratio whose size another one has (section 4.4).
    UserError: an unknown name.
    """
    named = _parsed(resolution)
    table = _table(pixels(resolution), multiple, training)
    ratio = max(table, key=lambda name: _area(table[name])) if named["max"] else named["ratio"]
    if ratio is None:
        return table
    if ratio not in table:
        raise UserError(f"{resolution} names no known ratio", f"choose one of {', '.join(table)}")
    return {ratio: table[ratio]}


def nearest(height: int, width: int, table: Mapping[str, Size]) -> str:
    """The ratio of the table that is nearest to a picture's, by the difference of height / width."""
    return min(table, key=lambda ratio: abs(height / width - height_over_width(ratio)))


def rounded_up(height: int, width: int, multiple: int = 16) -> Size:
    """The smallest size on the grid that holds a requested one."""
    return -(-height // multiple) * multiple, -(-width // multiple) * multiple


@lru_cache(maxsize=256)
def _table(budget: int, multiple: int, training: bool) -> Mapping[str, Size]:
    wide: dict[str, Size] = {}
    mirrored: dict[str, Size] = {}
    for ratio in RATIOS:
        size = _below(budget, height_over_width(ratio), multiple)
        if training:
            size = _closer(size, budget, multiple)
            if size in wide.values():
                continue
        wide[ratio] = size
        mirrored[":".join(reversed(ratio.split(":")))] = (size[1], size[0])
    # A mirrored name may be in the list itself: it keeps its place, and the mirrored size counts.
    return MappingProxyType(wide | mirrored)


def _below(budget: int, shape: float, multiple: int) -> Size:
    """The width of the exact shape, rounded down, then the greatest height within the budget."""
    width = int(sqrt(budget / shape) // multiple) * multiple
    return int(budget / width // multiple) * multiple, width


def _closer(size: Size, budget: int, multiple: int) -> Size:
    """One side moved by one multiple where that comes nearer to the budget; the first of equals."""
    height, width = size
    moved = [(height - multiple, width), (height + multiple, width), (height, width - multiple)]
    return min([size, *moved, (height, width + multiple)], key=lambda s: abs(_area(s) - budget))


def _area(size: Size) -> int:
    return size[0] * size[1]


def _parsed(resolution: str) -> re.Match[str]:
    if not (found := _RESOLUTION.fullmatch(resolution)):
        raise UserError(f"{resolution!r} is no resolution", "write 256px, 720p, 256px_ar16:9 or 256px_max")
    return found
