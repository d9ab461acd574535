"""A cloud of words: the commonest largest, each at the free place that lies nearest to the middle.

Nothing is drawn at random, so the same counts give the same cloud. Words lie level, and are placed by the boxes around
their letters, from the commonest on, along a spiral; those that find no place are left out.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from pipelines.figures.canvas import COLOURS

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.textpath import TextPath

WIDTH, HEIGHT = 1000.0, 520.0
"""Of the cloud, in points."""
LARGEST, SMALLEST = 92.0, 9.0
_GAP = 3.0
_WIDEST = 0.8 * WIDTH
"""Of one word: a longer one is written smaller than its count would have it."""
_TURN, _STEP = 0.35, 2.2


@dataclass(frozen=True, slots=True)
class Placed:
    """A word with its size in points, and the lower left corner of its box."""

    word: str
    size: float
    x: float
    y: float
    width: float
    height: float


def placed(words: Mapping[str, int]) -> list[Placed]:
    """The words that find a place, by counts, in points from the lower left corner."""
    boxes = np.empty((0, 4))
    found: list[Placed] = []
    most = max(words.values(), default=1)
    for word, count in sorted(words.items(), key=lambda pair: (-pair[1], pair[0])):
        size = max(SMALLEST, LARGEST * math.sqrt(count / most))
        size *= min(1.0, _WIDEST / _extent(word, size)[0])
        width, height = _extent(word, size)
        corner = next((one for one in _spiral(width, height) if _is_free(boxes, *one, width, height)), None)
        if corner is not None:
            found.append(Placed(word, size, *corner, width, height))
            x, y = corner
            boxes = np.vstack([boxes, (x, y, x + width, y + height)])
    return found


def draw(axes: Axes, words: Mapping[str, int]) -> None:
    """Draw the cloud of at least one word into axes that have nothing else."""
    from matplotlib.patches import PathPatch
    from matplotlib.transforms import Affine2D

    found = placed(words)
    axes.set_xlim(min(one.x for one in found), max(one.x + one.width for one in found))
    axes.set_ylim(min(one.y for one in found), max(one.y + one.height for one in found))
    axes.set_aspect("equal")
    axes.set_axis_off()
    for number, one in enumerate(found):
        path = _path(one.word, one.size)
        corner = path.get_extents()
        moved = path.transformed(Affine2D().translate(one.x - corner.x0, one.y - corner.y0))
        axes.add_patch(PathPatch(moved, color=COLOURS[number % len(COLOURS)], linewidth=0))


def _path(word: str, size: float) -> TextPath:
    from matplotlib.textpath import TextPath

    return TextPath((0, 0), word, size=size)


def _extent(word: str, size: float) -> tuple[float, float]:
    box = _path(word, size).get_extents()
    return float(box.width) + _GAP, float(box.height) + _GAP


def _spiral(width: float, height: float) -> Iterator[tuple[float, float]]:
    """Corners of a box whose middle goes outwards from that of the cloud, as long as all of it lies inside."""
    turn = 0.0
    while (far := _STEP * turn) < WIDTH / 2:
        x = WIDTH / 2 + far * math.cos(turn) - width / 2
        y = HEIGHT / 2 + far * math.sin(turn) * HEIGHT / WIDTH - height / 2
        if x >= 0 and y >= 0 and x + width <= WIDTH and y + height <= HEIGHT:
            yield x, y
        turn += _TURN / max(1.0, math.sqrt(turn))


def _is_free(boxes: NDArray[np.float64], x: float, y: float, width: float, height: float) -> bool:
    apart = (boxes[:, 0] >= x + width) | (boxes[:, 2] <= x) | (boxes[:, 1] >= y + height) | (boxes[:, 3] <= y)
    return bool(apart.all())
