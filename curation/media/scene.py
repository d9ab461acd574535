"""The scene score: how much a frame differs from the one before, as libavfilter's `scdet` measures it.

First step of the measuring pass: every decoded frame's luma plane goes in, one number comes out, and
`shots.py` decides on the numbers where a shot ends. The report takes its shots from the same score (section
2.1.1).

    mafd  = mean |luma - previous luma|, as a percentage of 256        (mean absolute frame difference)
    score = min(mafd, |mafd - previous mafd|), within 0..100

The second term is why a steady pan scores low: the picture changes, but it changes as much as it did before.
"""

import cv2
import numpy as np

Luma = np.ndarray
"""uint8, shape (height, width); a view of the decoder's own buffer will do."""

_PERCENT = 100.0 / 256.0


class SceneScore:
    """Scores a stream of 8-bit luma planes; equal to `scdet` before its rounding to three decimals.

    Keeps a reference to the last plane instead of a copy, so the caller must leave it valid and unchanged
    until the next `push` returns. Rows may be padded: a strided view of a decoder's plane is fine.
    """

    __slots__ = ("_previous", "mafd")

    def __init__(self) -> None:
        self.mafd: float = 0.0
        """Mean absolute frame difference of the last frame, 0..100; 0 for the first."""
        self._previous: Luma | None = None

    def push(self, luma: Luma) -> float:
        """The score of the next frame, 0..100. `luma` is (height, width), uint8.

        The first frame scores 0, and so does the first of a new size: a filter graph starts afresh there.
        """
        previous, self._previous = self._previous, luma
        if previous is None or previous.shape != luma.shape:
            self.mafd = 0.0
            return 0.0
        before, self.mafd = self.mafd, cv2.norm(luma, previous, cv2.NORM_L1) * _PERCENT / luma.size
        return min(self.mafd, abs(self.mafd - before), 100.0)
