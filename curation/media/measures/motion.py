"""Motion: libavfilter's VMAF motion score, computed with vector code (report, section 2.1.2).

Each frame's luma is smoothed by VMAF's five taps; a frame's score is the mean absolute difference to the frame before,
0 for the first. A clip's `motion` is the mean over its frames. Runs inside the measuring pass, which hands it pictures
of the clip's own size, or of one that is the same for all clips (`MediaPlan.score_side`).

A picture smaller than that one is smoothed by a Gaussian that is narrower by as much: the mean difference is then about
what the enlarged picture's would be, at the price of the small one (docs/filters.md has figures).
"""

from __future__ import annotations

import functools

import cv2
import numpy as np

from curation.identity import fingerprint
from curation.media.pictures.geometry import Plane

TAPS: np.ndarray = np.array([3571, 16004, 26386, 16004, 3571], np.float32) / 65536
_SCALE = 128
"""Smoothed levels are kept in 1/128, as libavfilter keeps them: 16 bits, twice as many at once as floats."""

_SIGMA = float(np.sqrt(TAPS @ np.arange(-2, 3) ** 2))
"""Standard deviation of the five taps, pixels."""

_BORDER = cv2.BORDER_REFLECT_101 | cv2.BORDER_ISOLATED


def motion_fingerprint(score_side: int) -> str:
    """Of scores at this short side (`MediaPlan.score_side`)."""
    taps = TAPS.tolist()
    return (
        fingerprint("vmafmotion", 2, {"taps": taps, "side": score_side})
        if score_side
        else fingerprint("vmafmotion", 1, taps)
    )


@functools.cache
def taps(scale: float) -> tuple[np.ndarray, np.ndarray]:
    """What smooths the rows, at `_SCALE` times the levels, and the columns of a picture at `scale`."""
    narrow = np.exp(-0.5 * (np.arange(-2, 3) / (_SIGMA * scale)) ** 2)
    columns = TAPS if scale == 1.0 else (narrow / narrow.sum()).astype(np.float32)
    return columns * _SCALE, columns


class Motion:
    """Adds up the scores of one clip's frames."""

    def __init__(self) -> None:
        self._before: np.ndarray | None = None
        self._spare: np.ndarray | None = None
        self._sum = 0.0

    def push(self, luma: Plane, scale: float = 1.0) -> None:
        """The clip's next frame: luma at `scale`, 1 or less, times the size of scores. A frame of another size starts
        a new comparison.
        """
        # The frame before the last one lends its memory: fresh pages for every frame cost as much as the comparison.
        smooth = cv2.sepFilter2D(luma, cv2.CV_16S, *taps(scale), dst=self._spare, borderType=_BORDER)
        if self._before is not None and self._before.shape == smooth.shape:
            self._sum += cv2.norm(smooth, self._before, cv2.NORM_L1) / (smooth.size * _SCALE)
        self._spare, self._before = self._before, smooth

    def mean(self, frames: int) -> float:
        """Mean over the clip's `frames`; a repeated frame counts as one without motion."""
        return self._sum / frames
