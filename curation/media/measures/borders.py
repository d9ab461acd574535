"""Black borders (letterbox, pillarbox) of a clip, found on the frames that the measuring pass looks at anyway.

As in libavfilter's cropdetect, a line is black when its mean luma is at most a limit in every frame seen. A border may
carry a logo or a subtitle between black lines. It must come in a pair (top with bottom, left with right): a dark corner
has no twin.
"""

from __future__ import annotations

import cv2
import numpy as np

from curation.contract import Crop
from curation.media.pictures.geometry import Plane

MAX_SHARE = 0.4
"""A border wider than this share of the picture is a dark scene."""

_NOISE = 8.0
"""A pixel of a border is brighter than the limit by so much at most: coding leaves noise along a sharp edge."""

_EDGE = 24.0
"""Levels by which the first line of the picture differs from a border of unlike width."""

_CLEAN = 0.95
_MOSTLY = 0.3
"""Share of black pixels in a line of a border, without and with an overlay."""


class Borders:
    """Collects over the frames of a clip how bright, and how far from black, each row and column is at most."""

    def __init__(self, limit: float) -> None:
        self._limit = limit
        self._rows: _Lines | None = None
        self._columns: _Lines | None = None
        self._whole = False

    def push(self, luma: Plane) -> None:
        """Look at one frame: luma, shape (height, width), the same size each time."""
        if self._whole:
            return
        _, black = cv2.threshold(luma, self._limit + _NOISE, 1, cv2.THRESH_BINARY_INV)
        self._rows = _Lines.of(luma, black, 1).darkest(self._rows)
        self._columns = _Lines.of(luma, black, 0).darkest(self._columns)
        # Lines only ever become brighter, so a picture that reaches an edge of each pair stays whole.
        self._whole = not any(lines.may_be_bordered(self._limit) for lines in (self._rows, self._columns))

    def crop(self) -> Crop:
        """The picture inside the borders, in coded pixels; all of it where there are none."""
        assert self._rows is not None and self._columns is not None
        top, bottom = self._rows.pair(self._limit)
        left, right = self._columns.pair(self._limit)
        height, width = len(self._rows.means), len(self._columns.means)
        return Crop(left, top, width - left - right, height - top - bottom)


class _Lines:
    """All rows, or all columns: `means` of luma, and the share of `black` pixels, each the worst seen."""

    def __init__(self, means: np.ndarray, black: np.ndarray) -> None:
        self.means, self.black = means, black

    @classmethod
    def of(cls, luma: Plane, black: Plane, axis: int) -> _Lines:
        means = (cv2.reduce(plane, axis, cv2.REDUCE_AVG, dtype=cv2.CV_32F).ravel() for plane in (luma, black))
        return cls(*means)

    def darkest(self, other: _Lines | None) -> _Lines:
        """What holds for these lines and for `other`."""
        if other is None:
            return self
        return _Lines(np.maximum(self.means, other.means), np.minimum(self.black, other.black))

    def may_be_bordered(self, limit: float) -> bool:
        return bool(max(self.means[0], self.means[1], self.means[-1], self.means[-2]) <= limit)

    def pair(self, limit: float) -> tuple[int, int]:
        """Width of the border at the beginning and at the end, made even; 0 and at most 1 where there is none."""
        size = len(self.means)
        clean = (self.means <= limit) & (self.black >= _CLEAN)
        mostly = clean | (self.black >= _MOSTLY)
        plain = _plain(clean), _plain(clean[::-1])
        covered = _covered(clean, mostly), _covered(clean[::-1], mostly[::-1])
        for first, last in (covered, plain, (plain[0], covered[1]), (covered[0], plain[1])):
            if self._are_twins(first, last, clean):
                first += first % 2
                return first, last + (size - first - last) % 2
        return 0, size % 2  # an odd size loses its last line, because 4:2:0 video has even sizes

    def _are_twins(self, first: int, last: int, clean: np.ndarray) -> bool:
        narrow, wide = sorted((first, last))
        if narrow < 2 or wide > MAX_SHARE * len(self.means):
            return False
        if wide - narrow <= max(4, 0.15 * wide):
            return True
        return 2 * narrow >= wide and self._are_flat(first, last, clean) and self._are_sharp(first, last)

    def _are_flat(self, first: int, last: int, clean: np.ndarray) -> bool:
        """Whether two borders of unlike width are one even black, overlays apart, as no scene is."""
        border = clean.copy()
        border[first : len(clean) - last] = False
        means = self.means[border]
        return float(np.mean(np.abs(means - np.median(means)) <= 1.0)) >= 0.5

    def _are_sharp(self, first: int, last: int) -> bool:
        """Whether the picture begins at once beside both borders."""
        inside = len(self.means) - last
        outer, inner = self.means[[first - 1, inside]], self.means[[first, inside - 1]]
        return bool(np.all(np.abs(inner - outer) >= _EDGE))


def _plain(clean: np.ndarray) -> int:
    """How many lines from the edge on are clean."""
    return len(clean) if clean.all() else int(np.argmin(clean))


def _covered(clean: np.ndarray, mostly: np.ndarray) -> int:
    """The same where something may lie on the border: it begins and ends with clean lines, and half of it is clean."""
    reach = _plain(mostly)
    ends = np.flatnonzero(clean[1:reach] & clean[: reach - 1]) + 2 if reach > 1 and clean[0] else np.empty(0, int)
    wide = ends[np.cumsum(clean)[ends - 1] * 2 >= ends] if len(ends) else ends
    return int(wide[-1]) if len(wide) else 0
