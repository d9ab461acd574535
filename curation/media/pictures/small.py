"""Small BGR pictures straight from the planes of a decoded one: no full-size colour conversion.

The content value (`measures.jitter`) and the shot detectors that look at pictures take them in the measuring pass.
"""

from __future__ import annotations

import cv2
import numpy as np

from curation.media.pictures.geometry import Plane

WIDTH = 256
"""PySceneDetect's own working width; smaller pictures are used as they are."""


def small_bgr(y: Plane, u: Plane, v: Plane, width: int = WIDTH, height: int = 0) -> np.ndarray:
    """A small BGR picture (height, width, 3) of 8-bit 4:2:0 planes, limited range, BT.601 (as OpenCV converts).

    Height 0 keeps the aspect, never enlarges and makes sizes even. With a height, the picture has exactly this size,
    and each of its pixels is the mean of all that it stands for.
    """
    if height:
        twice = _bgr(y, u, v, 2 * width, 2 * height, cv2.INTER_AREA)
        return cv2.resize(twice, (width, height), interpolation=cv2.INTER_AREA)
    w = min(width, y.shape[1]) // 2 * 2
    return _bgr(y, u, v, w, max(2, round(y.shape[0] * w / y.shape[1])) // 2 * 2, cv2.INTER_LINEAR)


def _bgr(y: Plane, u: Plane, v: Plane, w: int, h: int, interpolation: int) -> np.ndarray:
    """BGR of this even size, from planes made small first."""
    packed = np.empty(w * h * 3 // 2, np.uint8)
    _reduce(y, packed[: w * h].reshape(h, w), interpolation)
    quarter = w * h // 4
    for plane, start in ((u, w * h), (v, w * h + quarter)):
        _reduce(plane, packed[start : start + quarter].reshape(h // 2, w // 2), interpolation)
    return cv2.cvtColor(packed.reshape(h * 3 // 2, w), cv2.COLOR_YUV2BGR_I420)


def _reduce(plane: Plane, small: Plane, interpolation: int) -> None:
    """The plane at the size of `small`, written there."""
    (height, width), (h, w) = plane.shape, small.shape
    step = width // w
    if interpolation == cv2.INTER_LINEAR and step % 2 and (height, width) == (step * h, step * w):
        # The middles of the small pixels fall on pixels (of 720 lines, and of 2160): nothing is left to interpolate.
        np.copyto(small, plane[step // 2 :: step, step // 2 :: step])
    else:
        cv2.resize(plane, (w, h), dst=small, interpolation=interpolation)
