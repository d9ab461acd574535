"""Picture geometry that both passes share: the size of a clip, its cadence, and fitting a plane into them.

The measuring pass scores exactly the pixels that the cutting pass encodes, because both call `fit`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction

import cv2
import numpy as np

from curation.contract import Crop, Facts

Plane = np.ndarray
"""uint8, shape (height, width): one plane of a picture, often a view of the decoder's own buffer."""

SAR_TOLERANCE = 0.01
"""Sample aspect ratios this close to 1 are rounding in the file, not shape: no resampling for them."""


@dataclass(frozen=True, slots=True)
class Cadence:
    """How source frames become a clip's constant-rate frames: whole frames are dropped or repeated, never blended.

    `stride`: every how manieth source frame is taken; 0 for a variable rate, where frames are taken on a grid of
    `rate` ticks a second. `fps` is the clip's frame rate; it is below `rate` by at most 0.2 % (30 becomes 29.97).
    """

    stride: int
    rate: float
    fps: Fraction

    def tick(self, index: int, time_s: float) -> int:
        """The clip-rate tick of source frame `index` at `time_s` seconds after the first frame."""
        if self.stride:
            return index // self.stride
        return math.floor(time_s * self.rate + 0.1)


def cadence(facts: Facts, max_fps: float) -> Cadence:
    """The cadence that brings a source to at most `max_fps` (see `Cadence`)."""
    slack = max_fps * 1.002
    if facts.variable_rate:
        rate = min(facts.nominal_fps, max_fps)
        return Cadence(0, rate, _ratio(rate))
    stride = max(1, math.ceil(facts.nominal_fps / slack))
    rate = facts.nominal_fps / stride
    return Cadence(stride, rate, _ratio(min(rate, max_fps)))


def _ratio(fps: float) -> Fraction:
    """The usual fraction for a frame rate: 25, 24000/1001 and so on, else one with a small denominator."""
    for denominator in (1, 1001):
        numerator = round(fps * denominator / 1000) * 1000 if denominator == 1001 else round(fps)
        if abs(numerator / denominator - fps) < 2e-3:
            return Fraction(numerator, denominator)
    return Fraction(fps).limit_denominator(1000)


def displayed(width: int, height: int, sar: float, rotation: int) -> tuple[float, float]:
    """Width and height as a player shows coded pixels: sample aspect applied, then rotated."""
    wide = width * sar if abs(sar - 1) > SAR_TOLERANCE else float(width)
    return (float(height), wide) if rotation in (90, 270) else (wide, float(height))


def clip_size(crop: Crop, facts: Facts, max_side: int) -> tuple[int, int]:
    """Even width and height of a clip, upright, square pixels, longer side at most `max_side`."""
    width, height = displayed(crop.width, crop.height, facts.sar, facts.rotation)
    scale = min(1.0, max_side / max(width, height))
    return _even(width * scale), _even(height * scale)


def _even(size: float) -> int:
    return max(2, round(size / 2) * 2)


def view(plane: Plane, crop: Crop, subsampling: int = 1) -> Plane:
    """The crop of a plane without a copy; `subsampling` is 2 for the chroma planes of 4:2:0."""
    y, x = crop.y // subsampling, crop.x // subsampling
    return plane[y : y + crop.height // subsampling, x : x + crop.width // subsampling]


def upright(plane: Plane, rotation: int) -> Plane:
    """The plane as a player shows it. Costs nothing for rotation 0."""
    return plane if rotation == 0 else np.ascontiguousarray(np.rot90(plane, -rotation // 90))


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
