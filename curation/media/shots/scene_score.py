"""The scene score: how much a frame differs from the one before, in luma as libavfilter's `scdet` and in colour.

First step of the measuring pass: every decoded frame's planes go in, a `FrameScore` comes out, and the detectors of
this room decide on it where a shot ends. The report takes its shots from the same score (section 2.1.1).

    mafd  = mean |luma - previous luma|, as a percentage of 256        (mean absolute frame difference)
    score = min(mafd, |mafd - previous mafd|), within 0..100

The second term is why a steady pan scores low: the picture changes, but it changes as much as it did before.
The difference in colour comes from a thumbnail, which also lets a detector compare pictures that are not neighbours.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

Plane = np.ndarray
"""uint8, shape (height, width); a view of the decoder's own buffer will do."""

Thumb = np.ndarray
"""uint8, shape (3, 27, 48): luma, U and V, all of one size."""

THUMB = (48, 27)
"""Width and height of a thumbnail."""

PERCENT = 100.0 / 256.0

# A thumbnail's pixel is the mean of so many samples a side, and is softened with its neighbours: all pixels of a large
# picture would cost more than the score.
_SAMPLES = 2


@dataclass(frozen=True, slots=True)
class FrameScore:
    """What a frame is to the frame before it, and its thumbnail. All differences are percentages of 256."""

    score: float
    """The scene score, 0..100; equal to `scdet` before its rounding to three decimals."""
    mafd: float
    """Mean absolute difference of luma, 0..100."""
    chroma: float
    """Mean absolute differences of U and V, added: 0..200. From the thumbnails."""
    soft: float
    """Mean absolute difference of luma, 0..100, from the thumbnails: what moves a little shows little in it."""
    thumb: Thumb


class SceneScore:
    """Scores a stream of 8-bit 4:2:0 frames.

    Keeps a reference to the last luma plane instead of a copy, so the caller must leave it valid and unchanged until
    the next `push` returns. Rows may be padded: a strided view of a decoder's plane is fine.
    """

    __slots__ = ("_mafd", "_previous", "_thumb")

    def __init__(self) -> None:
        self._mafd = 0.0
        self._previous: Plane | None = None
        self._thumb: Thumb | None = None

    def push(self, y: Plane, u: Plane, v: Plane) -> FrameScore:
        """The next frame's score; `y`, `u` and `v` are uint8 planes (height, width) of any subsampling.

        The first frame has no differences, and neither has the first of a new size: a filter graph starts afresh there.
        """
        thumb, small = thumbnail(y, u, v), self._thumb
        previous, self._previous, self._thumb = self._previous, y, thumb
        if previous is None or small is None or previous.shape != y.shape:
            self._mafd = 0.0
            return FrameScore(0.0, 0.0, 0.0, 0.0, thumb)
        before, self._mafd = self._mafd, cv2.norm(y, previous, cv2.NORM_L1) * PERCENT / y.size
        score = min(self._mafd, abs(self._mafd - before), 100.0)
        return FrameScore(score, self._mafd, colour_difference(thumb, small), luma_difference(thumb, small), thumb)


def thumbnail(y: Plane, u: Plane, v: Plane) -> Thumb:
    """A copy of the picture at `THUMB`, each pixel the mean of a few samples, softened: a small motion shows little."""
    width, height = THUMB
    grid = np.empty((3, height * _SAMPLES, width * _SAMPLES), np.uint8)
    for plane, samples in zip((y, u, v), grid, strict=True):
        cv2.resize(plane, samples.shape[::-1], dst=samples, interpolation=cv2.INTER_NEAREST)
    # All three at once, one above the other.
    means = cv2.resize(grid.reshape(-1, width * _SAMPLES), (width, 3 * height), interpolation=cv2.INTER_AREA)
    thumb = np.empty((3, height, width), np.uint8)
    for plane, small in zip(means.reshape(thumb.shape), thumb, strict=True):
        cv2.blur(plane, (3, 3), dst=small)
    return thumb


def colour_difference(a: Thumb, b: Thumb) -> float:
    """Mean absolute differences of U and V, added: 0..200."""
    return cv2.norm(a[1:].reshape(-1), b[1:].reshape(-1), cv2.NORM_L1) * 2 * PERCENT / a[1:].size


def luma_difference(a: Thumb, b: Thumb) -> float:
    """Mean absolute difference of luma, 0..100."""
    return cv2.norm(a[0], b[0], cv2.NORM_L1) * PERCENT / a[0].size
