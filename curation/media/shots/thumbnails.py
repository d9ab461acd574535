"""What two or three thumbnails say of each other: how far apart, one a mix of the others, one the other moved.

`scene_rule` asks it about the few frames whose scores stand out. Thumbnails are those of `scene_score`.
"""

from __future__ import annotations

import numpy as np

from curation.media.shots.scene_score import Thumb, colour_difference, luma_difference

# Motion is searched in blocks of this size (rows, columns), up to this many pixels away. The thumbnail is 27x48.
_BLOCK = (9, 12)
_REACH = 8


def distance(a: Thumb, b: Thumb) -> float:
    """How much two pictures differ, in percent of 256: in luma or, where that is more, in colour."""
    return max(luma_difference(a, b), colour_difference(a, b))


def share(picture: Thumb, old: Thumb, new: Thumb) -> tuple[float, float]:
    """How much of `new` is in the picture, and what is of neither.

    The first is 0 for `old`, 1 for `new` and between them for a mix. The second is the root mean square distance from
    the nearest mix, as a share of that between `old` and `new`: near 0 for a mix, in linear light or not.
    """
    way, done = ((to.astype(np.float32) - old).reshape(-1) for to in (new, picture))
    length = float(way @ way)
    if length == 0:
        return 0.0, float("inf")
    part = float(done @ way) / length
    rest = done - part * way
    return part, float(np.sqrt(rest @ rest / length))


def unexplained(old: Thumb, new: Thumb) -> float:
    """What motion cannot explain of the difference, as a share of it: near 0 for a picture that only moved.

    Each block of either picture is looked for in the other one; the worse of the two directions counts, for a flat
    block is found everywhere.
    """
    whole = float(np.abs(old.astype(np.int16) - new).mean())
    return max(_residual(old, new), _residual(new, old)) / whole if whole else 0.0


def _residual(searched: Thumb, wanted: Thumb) -> float:
    """Mean absolute difference (0..255) of each block of `wanted` from the place in `searched` that it fits best."""
    _, height, width = wanted.shape
    rows, columns = _BLOCK
    wanted = wanted.astype(np.int16)
    edge = np.pad(searched, ((0, 0), (_REACH, _REACH), (_REACH, _REACH)), mode="edge").astype(np.int16)
    best = []
    for top in range(0, height, rows):
        for left in range(0, width, columns):
            block = wanted[:, top : top + rows, left : left + columns]
            around = edge[:, top : top + rows + 2 * _REACH, left : left + columns + 2 * _REACH]
            places = np.lib.stride_tricks.sliding_window_view(around, block.shape)[0]
            off = places.reshape(-1, block.size) - block.reshape(-1)
            np.abs(off, out=off)
            best.append(off.sum(axis=1, dtype=np.int32).min() / block.size)
    return float(np.mean(best))
