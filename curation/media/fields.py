"""Interlaced material: found from pictures, and made progressive.

A picture of interlaced video holds two fields, its even and its odd lines, taken at two moments. `FieldTest` finds such
pictures in a sample of a shot's frames (measuring pass); `Deinterlacer` makes whole pictures of them (both passes, by
way of `develop.py`). A file's flags are a weak hint only: they tell how it was coded, not what it shows.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from fractions import Fraction
from typing import Literal

import av
import av.error
import cv2
import numpy as np
from av.filter import Graph
from av.filter.context import FilterContext

from curation.media.colour import copy_tags
from curation.media.geometry import Plane

Parity = Literal["tff", "bff"]
"""Which field is the earlier one: the top lines (0, 2, ...), or the bottom ones."""

PARITIES: tuple[Parity, ...] = ("tff", "bff")

BAND, BANDS = 16, 16
"""Columns looked at: so many bands of so many, spread over the width; all of a narrower picture."""

# Tuned on real clips and on the same ones woven into fields; the figures are in docs/colour.md.
_STILL, _NOISE = 1.04, 0.02
_CLEAR, _CLEAR_FLAGGED = 2.0, 1.5
_SHARE = 1 / 3
_LEAST, _LEAST_FLAGGED = 2, 1


@dataclass(frozen=True, slots=True)
class _Look:
    """Mean distances of one picture's lines from what their neighbours suggest, in levels.

    `own`: from the line itself. `tff`, `bff`: from the same line of the neighbouring pictures that is nearer in time
    (before or after it) if the material has this parity.
    """

    own: float
    tff: float
    bff: float

    def parity(self, clear: float) -> Parity | Literal["progressive"] | None:
        """None: nothing moves enough to tell."""
        near, far = sorted((self.tff - self.own, self.bff - self.own))
        if far <= (_STILL - 1) * self.own + _NOISE:
            return None
        # In interlaced video the line itself is one field away, just as the nearer neighbour is: `near` is about 0.
        # In progressive video the line itself is of the same moment, both neighbours are a whole picture away.
        if far <= clear * near or max(self.tff, self.bff) <= _STILL * min(self.tff, self.bff):
            return "progressive"
        return "tff" if self.tff < self.bff else "bff"


class FieldTest:
    """Collects evidence over the sampled frames of one shot; costs about 2 ms for a 1080p frame."""

    def __init__(self) -> None:
        self._looks: list[_Look] = []
        self._flagged = 0

    def push(self, before: Plane, luma: Plane, after: Plane, flagged: bool = False) -> None:
        """One frame between its neighbours: luma (height, width), uint8; `flagged` as its decoder says.

        Neighbours of another size, or a picture too small to tell, are passed over.
        """
        if before.shape != luma.shape or after.shape != luma.shape or luma.shape[0] < 8:
            return
        self._looks.append(_look(_sample(before), _sample(luma), _sample(after)))
        self._flagged += flagged

    @property
    def share(self) -> float:
        """The share of the frames pushed that are combed in the more frequent parity."""
        return max(self._counts()[:2]) / len(self._looks) if self._looks else 0.0

    def verdict(self) -> Parity | None:
        """The parity of interlaced material; None where it is progressive, or moves too little to tell.

        Two frames and a third of all that move must be clearly of one parity, and twice as many as of the other. A
        third, because hard telecine combs two pictures of five. Where the file's flags agree, one frame will do.
        """
        tff, bff, progressive = self._counts()
        least = _LEAST_FLAGGED if self._mostly_flagged else _LEAST
        count, other, parity = (tff, bff, PARITIES[0]) if tff >= bff else (bff, tff, PARITIES[1])
        enough = count >= least and count >= _SHARE * (count + other + progressive) and count >= 0.1 * len(self._looks)
        return parity if enough and count > 2 * other else None

    @property
    def _mostly_flagged(self) -> bool:
        return 2 * self._flagged > len(self._looks)

    def _counts(self) -> tuple[int, int, int]:
        clear = _CLEAR_FLAGGED if self._mostly_flagged else _CLEAR
        found = [look.parity(clear) for look in self._looks]
        return found.count("tff"), found.count("bff"), found.count("progressive")


def _sample(luma: Plane) -> np.ndarray:
    """Some columns of a plane as int16."""
    width = luma.shape[1]
    if width > BAND * BANDS:
        starts = np.linspace(0, width - BAND, BANDS).astype(int)
        luma = np.hstack([luma[:, at : at + BAND] for at in starts])
    return luma.astype(np.int16)


def _look(before: np.ndarray, luma: np.ndarray, after: np.ndarray) -> _Look:
    between = luma[:-2] + luma[2:]

    def off(lines: np.ndarray, first: int) -> float:
        """Sum over every second line from `first` of what `between` says it is not (twice the difference)."""
        return cv2.norm(between[first::2], 2 * lines[1:-1][first::2], cv2.NORM_L1)

    size = 2 * between.size
    # `between` begins with line 1, so 0 stands for the bottom lines here. A bottom line of the picture before is one
    # field away from this picture's top lines if top comes first, and three if bottom does; and so on.
    return _Look(
        own=(off(luma, 0) + off(luma, 1)) / size,
        tff=(off(before, 0) + off(after, 1)) / size,
        bff=(off(before, 1) + off(after, 0)) / size,
    )


class Deinterlacer:
    """Turns each interlaced picture into one whole picture of its first field's moment (libavfilter's `bwdif`).

    8 bits or more, planar YUV, gray or RGB as they are; of other formats libavfilter makes planar ones.
    """

    def __init__(self, parity: Parity) -> None:
        self._options = f"mode=send_frame:parity={parity}:deint=all"
        self._key: tuple[object, ...] | None = None
        self._graph: Graph | None = None  # its filters do not keep it alive
        self._source: FilterContext | None = None
        self._sink: FilterContext | None = None
        self._held: deque[av.VideoFrame] = deque()
        self._count = 0

    def push(self, frame: av.VideoFrame) -> list[av.VideoFrame]:
        """The next frame; gives the one before it. Another size or format starts anew."""
        key = (frame.format.name, frame.width, frame.height)
        made = [] if key == self._key else self._restart(frame, key)
        assert self._source is not None
        # The filter gets a clock of its own, for its output's times count in half ticks.
        pts, frame.pts = frame.pts, self._count
        self._count += 1
        self._source.push(frame)
        frame.pts = pts
        self._held.append(frame)
        return made + self._pull()

    def flush(self) -> list[av.VideoFrame]:
        """No frame follows; gives the last one."""
        if self._source is None:
            return []
        self._source.push(None)
        made = self._pull()
        assert not self._held, "a frame was lost"
        self._source = self._key = None
        return made

    def _restart(self, like: av.VideoFrame, key: tuple[object, ...]) -> list[av.VideoFrame]:
        made = self.flush()
        self._graph = graph = Graph()
        graph.threads = 1
        base = Fraction(1, 1000)
        self._source = graph.add_buffer(width=like.width, height=like.height, format=like.format, time_base=base)
        whole, self._sink = graph.add("bwdif", self._options), graph.add("buffersink")
        self._source.link_to(whole)
        whole.link_to(self._sink)
        graph.configure()
        self._key = key
        return made

    def _pull(self) -> list[av.VideoFrame]:
        assert self._sink is not None
        made = []
        while True:
            try:
                frame = self._sink.pull()
            except (av.error.BlockingIOError, av.error.EOFError):
                return made
            assert isinstance(frame, av.VideoFrame)
            source = self._held.popleft()
            frame.pts = source.pts
            if source.time_base is not None:
                frame.time_base = source.time_base
            copy_tags(source, frame)
            made.append(frame)
