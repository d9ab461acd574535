"""Picture geometry that both passes share: the size of a clip, which way is up, and fitting a plane.

The measuring pass scores exactly the pixels that the cutting pass encodes, because both call `fit`.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING

import cv2
import numpy as np

from curation.contract import Crop, Facts

if TYPE_CHECKING:
    import av

Plane = np.ndarray
"""uint8, shape (height, width): one plane of a picture, often a view of the decoder's own buffer."""

SAR_TOLERANCE = 0.01
"""Sample aspect ratios this close to 1 are rounding in the file, not shape: no resampling for them."""


_MATRIX = struct.Struct("=9i")


@dataclass(frozen=True, slots=True)
class Orientation:
    """How a player turns coded pictures: mirrored left to right first, then rotated clockwise by 0, 90, 180, 270."""

    rotation: int = 0
    mirrored: bool = False


UPRIGHT = Orientation()


def orientation(frame: av.VideoFrame) -> Orientation:
    """The orientation that a frame's display matrix says, to the nearest right angle."""
    try:
        found = frame.side_data.get("DISPLAYMATRIX")
    except ValueError:  # PyAV does not know another kind of side data that the frame has: it tells the angle only
        return Orientation(-int(frame.rotation) % 360 // 90 * 90)
    if found is None:
        return UPRIGHT
    a, b, _, c, d, *_ = _MATRIX.unpack(bytes(found)[: _MATRIX.size])  # x' = a x + c y, y' = b x + d y
    if abs(a) + abs(d) >= abs(b) + abs(c):
        return _ALONG[a < 0, d < 0]
    return _ACROSS[c < 0, b < 0]


# By whether a player shows the picture's columns from right to left, its rows from the bottom.
_ALONG = {
    (False, False): UPRIGHT,
    (True, False): Orientation(0, True),
    (True, True): Orientation(180),
    (False, True): Orientation(180, True),
}
# The same where rows and columns change places.
_ACROSS = {
    (False, False): Orientation(270, True),
    (True, False): Orientation(90),
    (True, True): Orientation(90, True),
    (False, True): Orientation(270),
}


def displayed(width: int, height: int, sar: float, rotation: int) -> tuple[float, float]:
    """Width and height as a player shows coded pixels: sample aspect applied, then rotated."""
    wide = width * sar if abs(sar - 1) > SAR_TOLERANCE else float(width)
    return (float(height), wide) if rotation in (90, 270) else (wide, float(height))


def clip_size(crop: Crop, facts: Facts, max_side: int) -> tuple[int, int]:
    """Even width and height of a clip, upright, square pixels, longer side at most `max_side`."""
    width, height = displayed(crop.width, crop.height, facts.sar, facts.rotation)
    scale = min(1.0, max_side / max(width, height))
    return even(width * scale), even(height * scale)


def even(size: float) -> int:
    """The nearest even number, 2 at least: video in 4:2:0 has no other sizes."""
    return max(2, round(size / 2) * 2)


def view(plane: Plane, crop: Crop, subsampling: int = 1) -> Plane:
    """The crop of a plane without a copy; `subsampling` is 2 for the chroma planes of 4:2:0."""
    y, x = crop.y // subsampling, crop.x // subsampling
    return plane[y : y + crop.height // subsampling, x : x + crop.width // subsampling]


def upright(plane: Plane, rotation: int, mirrored: bool = False) -> Plane:
    """The plane, or a picture (height, width, 3), as a player shows it. Costs nothing where that is as coded."""
    if rotation == 0 and not mirrored:
        return plane
    return np.ascontiguousarray(np.rot90(plane[:, ::-1] if mirrored else plane, -rotation // 90))


def fit(plane: Plane, width: int, height: int) -> Plane:
    """The plane at `width` x `height`; itself when it has that size already.

    Halving by area averages first keeps strong reductions free of aliasing; the rest is bilinear.
    """
    while plane.shape[1] >= 2 * width and plane.shape[0] >= 2 * height:
        half = (plane.shape[1] // 2, plane.shape[0] // 2)
        plane = cv2.resize(plane, half, interpolation=cv2.INTER_AREA)
    if plane.shape == (height, width):
        return plane
    return cv2.resize(plane, (width, height), interpolation=cv2.INTER_LINEAR)
