"""Black borders (letterbox, pillarbox) of a clip, found on the frames that the measuring pass looks at anyway.

As in libavfilter's cropdetect, a line is black when its mean luma is at most a limit in every frame seen. Beyond it,
a border must come in a pair (top with bottom, left with right) of about equal width: a dark corner has no twin.
"""

from __future__ import annotations

import cv2
import numpy as np

from curation.contract import Crop
from curation.media.geometry import Plane

MAX_SHARE = 0.4
"""A border wider than this share of the picture is a dark scene."""


class Borders:
    """Collects the brightest mean of every row and column over the frames of a clip."""

    def __init__(self, limit: float) -> None:
        self._limit = limit
        self._rows: np.ndarray | None = None
        self._columns: np.ndarray | None = None
        self._whole = False

    def push(self, luma: Plane) -> None:
        """Look at one frame: luma, shape (height, width), the same size each time."""
        if self._whole:
            return
        rows = cv2.reduce(luma, 1, cv2.REDUCE_AVG, dtype=cv2.CV_32F).ravel()
        columns = cv2.reduce(luma, 0, cv2.REDUCE_AVG, dtype=cv2.CV_32F).ravel()
        self._rows = rows if self._rows is None else np.maximum(self._rows, rows)
        self._columns = columns if self._columns is None else np.maximum(self._columns, columns)
        # Lines only ever become brighter, so a picture that reaches an edge of each pair stays whole.
        self._whole = all(max(p[0], p[1], p[-1], p[-2]) > self._limit for p in (self._rows, self._columns))

    def crop(self) -> Crop:
        """The picture inside the borders, in coded pixels; all of it where there are none."""
        assert self._rows is not None and self._columns is not None
        top, bottom = self._pair(self._rows)
        left, right = self._pair(self._columns)
        return Crop(left, top, len(self._columns) - left - right, len(self._rows) - top - bottom)

    def _pair(self, profile: np.ndarray) -> tuple[int, int]:
        size = len(profile)
        bright = np.flatnonzero(profile > self._limit)
        whole = (0, size % 2)  # an odd size loses its last line, because 4:2:0 video has even sizes
        if not len(bright):
            return whole
        first, last = int(bright[0]), size - 1 - int(bright[-1])
        twins = abs(first - last) <= max(4, 0.15 * max(first, last))
        if min(first, last) < 2 or max(first, last) > MAX_SHARE * size or not twins:
            return whole
        first += first % 2
        last += (size - first - last) % 2
        return first, last
