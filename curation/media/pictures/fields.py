"""Interlaced material: found from pictures, and made progressive.

A picture of interlaced video holds two fields, its even and its odd lines, taken at two moments. `FieldTest` finds such
pictures in a sample of a shot's frames (measuring pass); `Deinterlacer` makes whole pictures of them (both passes, by
way of `develop.py`). A file's flags are a weak hint only: they tell how it was coded, not what it shows.
"""

from __future__ import annotations

from collections import deque
from dataclasses import astuple, dataclass
from fractions import Fraction
from typing import Literal

import av
import av.error
import cv2
import numpy as np
from av.filter import Graph
from av.filter.context import FilterContext

from curation.media.pictures.colour import copy_tags
from curation.media.pictures.geometry import Plane

Parity = Literal["tff", "bff"]
"""Which field is the earlier one: the top lines (0, 2, ...), or the bottom ones."""

PARITIES: tuple[Parity, ...] = ("tff", "bff")

BAND, BANDS = 16, 16
"""Columns looked at: so many bands of so many, spread over the width; all of a narrower picture."""

# Tuned on real clips and on the same ones woven into fields; the figures are in docs/colour.md.
_STILL, _NOISE = 1.04, 0.02


_PAIRED, _CHANGED = 0.55, 6
"""Of lines in pairs: how rarely the two of a pair differ, to how often the second and the next one do; and from which
change on (in half levels) a sample counts. Woven clips have 0.65 and more, Cinepak 0.41 to 0.45.
"""

_LOOKS_A_SECOND = 2.0
_ENOUGH = 8
"""Looks at a shot after which it is judged before it has ended."""

_LEAST_LINES = 8
"""A picture with fewer tells nothing."""


@dataclass(frozen=True, slots=True)
class _Bar:
    """From which ratio on, of so many moving frames, a parity is believed; `agree`: the share of them that say so."""

    ratio: float
    moving: int
    agree: float = 0.75


_BARS = (_Bar(1.5, 2), _Bar(1.3, 6, 0.9))
_BAR_FLAGGED = _Bar(1.2, 2)


@dataclass(frozen=True, slots=True)
class _Look:
    """Mean distances of one picture's lines from what the lines above and below suggest, in levels.

    `own`: of the lines themselves. `tff`, `bff`: of the same lines in the neighbouring pictures, taken from
    the one (before or after) that is nearer in time if the material has this parity.
    """

    own: float
    tff: float
    bff: float

    @property
    def moves(self) -> bool:
        """Whether enough changes between pictures to tell anything."""
        return max(self.tff, self.bff) > _STILL * self.own + _NOISE

    @property
    def ratio(self) -> float:
        """How much farther the bottom-first neighbours are than the top-first ones, beyond the lines themselves."""
        return (max(self.bff - self.own, 0.0) + _NOISE) / (max(self.tff - self.own, 0.0) + _NOISE)

    @property
    def leans(self) -> bool:
        """Whether it speaks for interlaced material at all."""
        return self.moves and max(self.ratio, 1 / self.ratio) >= _BAR_FLAGGED.ratio


_NOTHING = _Look(0.0, 0.0, 0.0)


class FieldTest:
    """Collects evidence over the sampled frames of one shot; costs about 2 ms for a 1080p frame.

    In progressive video both neighbours of a line are a whole picture away, so the two distances are equal: on average
    within 2 %. In interlaced video one is a field away, as the line itself is, and the other three.
    """

    def __init__(self) -> None:
        self._looks: list[_Look] = []
        self._flagged = 0

    def push(self, before: Plane, luma: Plane, after: Plane, flagged: bool = False) -> None:
        """One frame between its neighbours: luma (height, width), uint8; `flagged` as its decoder says.

        Neighbours of another size, or a picture too small to tell, are passed over.
        """
        if before.shape != luma.shape or after.shape != luma.shape or luma.shape[0] < _LEAST_LINES:
            return
        columns = Columns(luma.shape)
        self.look(columns.take(before), columns.take(luma), columns.take(after), flagged)

    def look(self, before: np.ndarray, luma: np.ndarray, after: np.ndarray, flagged: bool) -> None:
        """The same of what `Columns.take` took of the three."""
        look = _look(before, luma, after)
        if look.leans and _in_pairs(before, luma):
            look = _NOTHING
        self._looks.append(look)
        self._flagged += flagged

    @property
    def share(self) -> float:
        """The share of the frames pushed that are clearly combed in the more frequent parity."""
        ratios = [look.ratio for look in self._looks if look.moves]
        clear = _BARS[-1].ratio
        most = max(sum(ratio >= clear for ratio in ratios), sum(ratio <= 1 / clear for ratio in ratios))
        return most / len(self._looks) if self._looks else 0.0

    def verdict(self) -> Parity | None:
        """The parity of interlaced material; None where it is progressive, or moves too little to tell."""
        moving = [look for look in self._looks if look.moves]
        if not moving or len(moving) < 0.1 * len(self._looks):
            return None
        # The ratio of the sums, not the mean of the ratios: what moves most tells most.
        ratio = _Look(*(sum(values) / len(moving) for values in zip(*map(astuple, moving), strict=True))).ratio
        parity = PARITIES[0] if ratio > 1 else PARITIES[1]
        agree = sum((look.ratio > 1) == (ratio > 1) for look in moving) / len(moving)
        bars = (*_BARS, _BAR_FLAGGED) if 2 * self._flagged > len(self._looks) else _BARS
        strength = max(ratio, 1 / ratio)
        found = any(strength >= bar.ratio and len(moving) >= bar.moving and agree >= bar.agree for bar in bars)
        return parity if found else None


class Columns:
    """Takes some columns of pictures of one shape, into memory that it keeps: fresh pages cost more than a look."""

    KEPT = 3
    """What was taken stays so long: until so many others have been."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        height, width = shape
        self._starts: list[int] = []
        if width > BAND * BANDS:
            self._starts = np.linspace(0, width - BAND, BANDS).astype(int).tolist()
            width = BAND * BANDS
        self._bands = np.empty((height, width), np.uint8)
        self._kept = deque(np.empty((self.KEPT, height, width), np.int16))

    def take(self, luma: Plane) -> np.ndarray:
        """Those of a plane, as twice their levels: int16, (height, columns)."""
        if self._starts:
            luma = cv2.hconcat([luma[:, at : at + BAND] for at in self._starts], dst=self._bands)
        self._kept.rotate()
        lines = self._kept[0]
        lines[:] = luma
        return np.left_shift(lines, 1, out=lines)


def _look(before: np.ndarray, luma: np.ndarray, after: np.ndarray) -> _Look:
    between = luma[:-2] + luma[2:]
    between >>= 1

    def off(lines: np.ndarray, first: int) -> float:
        """Sum over every second line from `first` of what `between` says it is not (twice the difference)."""
        return cv2.norm(between[first::2], lines[1:-1][first::2], cv2.NORM_L1)

    size = 2 * between.size
    # `between` begins with line 1, so 0 stands for the bottom lines here. A bottom line of the picture before is one
    # field away from this picture's top lines if top comes first, and three if bottom does; and so on.
    return _Look(
        own=(off(luma, 0) + off(luma, 1)) / size,
        tff=(off(before, 0) + off(after, 1)) / size,
        bff=(off(before, 1) + off(after, 0)) / size,
    )


def _in_pairs(before: np.ndarray, luma: np.ndarray) -> bool:
    """Whether, where the picture has changed, its lines come in pairs of one content.

    So they do where a codec doubles lines (Cinepak) or a picture was enlarged that way. A pair that moves up or down is
    nearer to one neighbour than to the other, as a field is; but where fields lie between each other, no line has more
    to do with the one below than with the one above.
    """
    changed = np.abs(luma - before) > _CHANGED
    near = changed[:-1] | changed[1:]
    unlike = (luma[:-1] != luma[1:]) & near
    within, between = (float(unlike[at::2].sum()) / max(1, int(near[at::2].sum())) for at in (0, 1))
    less, more = sorted((within + _NOISE / 4, between + _NOISE / 4))
    return less < _PAIRED * more


class Interlaced(Exception):
    """Raised by the measuring pass when a shot turns out to be interlaced; `share` of its frames are clearly combed."""

    def __init__(self, parity: Parity, share: float) -> None:
        super().__init__(parity)
        self.parity: Parity = parity
        self.share = share


class Fields:
    """Feeds a `FieldTest` for each shot of a segment with some frames a second, and raises `Interlaced`."""

    def __init__(self, rate: float) -> None:
        self._every = max(2, round(rate / _LOOKS_A_SECOND))
        self._columns: Columns | None = None
        self._test = FieldTest()
        self._taken: deque[tuple[np.ndarray, bool]] = deque(maxlen=Columns.KEPT)
        self._count = self._looks = 0

    def push(self, luma: Plane, flagged: bool) -> None:
        """The next frame's luma, of one size for all; `flagged` as its decoder says."""
        self._count += 1
        place = self._count % self._every
        if 0 < place < self._every - 2 or luma.shape[0] < _LEAST_LINES:
            return
        # Columns are taken as each picture comes, while it lies in the cache, of the three that one look needs.
        self._columns = self._columns or Columns(luma.shape)
        self._taken.append((self._columns.take(luma), flagged))
        if len(self._taken) == Columns.KEPT and place == 0:
            (before, _), (now, flag), (after, _) = self._taken
            self._test.look(before, now, after, flag)
            self._looks += 1
            if self._looks >= _ENOUGH:
                self._judge()

    def end_shot(self) -> None:
        """What follows is another shot."""
        self._judge()
        self._test, self._looks = FieldTest(), 0
        self._taken.clear()

    def _judge(self) -> None:
        if (parity := self._test.verdict()) is not None:
            raise Interlaced(parity, self._test.share)


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
