"""Camera jitter: PySceneDetect's content value, averaged from frame to frame (report, section 2.1.2).

The content value of `ContentDetector` with its default weights is the mean absolute difference of hue, saturation and
value between neighbouring frames, on pictures 256 pixels wide. It is computed here straight from small planes of the
decoded picture: no full-size colour conversion. Runs inside the measuring pass.
"""

from __future__ import annotations

import cv2
import numpy as np

from curation.identity import fingerprint
from curation.media.pictures.small import WIDTH

JITTER_FINGERPRINT = fingerprint("content-value", 1, {"width": WIDTH, "weights": [1, 1, 1, 0]})


class Jitter:
    """Adds up the content values of one clip's frames."""

    def __init__(self) -> None:
        self._before: np.ndarray | None = None
        self._spare: np.ndarray | None = None
        self._sum = 0.0
        self._pairs = 0

    def push(self, bgr: np.ndarray) -> None:
        """The clip's next frame as a small BGR picture."""
        hsv = cv2.cvtColor(bgr, cv2.COLOR_BGR2HSV, dst=self._spare)
        if self._before is not None and self._before.shape == hsv.shape:
            self._sum += cv2.norm(hsv, self._before, cv2.NORM_L1) / hsv.size
            self._pairs += 1
        self._spare, self._before = self._before, hsv

    def mean(self) -> float:
        """Mean content value over neighbouring frames; 0 for a clip of one frame."""
        return self._sum / self._pairs if self._pairs else 0.0
