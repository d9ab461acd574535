"""The timeline: the clock of a source, the index of every picture, and where it breaks.

Made of one `scan` of the packets, the first step of both passes, before a picture is decoded: so both count pictures
and seconds alike. A *part* is a stretch whose timestamps rise; files that were joined, and streams that were cut off
and began again, have several.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np

from curation.contract import Ending
from curation.media.stream.breaks.holes import Pauses, missing
from curation.media.stream.field_pairs import leading_fields, lone_fields
from curation.media.stream.parts import Spot
from curation.media.stream.rates import RateRun, rate_runs


@dataclass(frozen=True, slots=True)
class Part:
    """Pictures `first` up to `end` (exclusive) of one part: `stamps` are theirs, in ticks of the stream, in order."""

    first: int
    stamps: np.ndarray

    @property
    def end(self) -> int:
        return self.first + len(self.stamps)


@dataclass(frozen=True, slots=True)
class Seam:
    """A join right after packets that the demuxer marks as hit: bytes `start` up to `end` of the file lie between.

    `marked`: where in the file the marked packets begin.
    """

    start: int
    end: int
    marked: frozenset[int]


@dataclass(frozen=True)
class Timeline:
    """What the packets of the video stream say. Pictures are counted from 0 in the order in which they are shown.

    `times`: seconds from the first picture; they never fall, over all parts. `starts`: pictures at which a decoder can
    truly start. `tick`: seconds. `by_order`: the stamps of single pictures are not to be trusted, so the i-th picture
    shown is picture i. `led`: pictures before the first one that is sure to be right. `led_sound`: those of them that
    the decoder shows are right, too. `refreshes`: pictures at which an intra refresh is complete. `halves`: stamps of
    fields whose picture lacks the other field. `seams`: joins with a mark before them. `sound`: places in the file of
    packets that are whole in spite of their mark. `sent`: of each part, the spots of its packets in the order of the
    file. `entries`: those with which a join begins, or before which chunks are missing. `filled`: stamps of packets
    that show the last picture on. `pauses`: what a pause is. `chunks`: spot and size of each packet of an AVI.
    """

    parts: tuple[Part, ...]
    times: np.ndarray
    starts: np.ndarray
    tick: float
    bytes: int
    packets: int
    announced: int
    untimed: float
    by_order: bool
    joins: tuple[int, ...] = ()
    led: int = 0
    led_sound: bool = False
    refreshes: tuple[int, ...] = ()
    halves: frozenset[int] = frozenset()
    seams: tuple[Seam, ...] = ()
    sound: frozenset[int] = frozenset()
    sent: tuple[np.ndarray, ...] = ()
    entries: frozenset[Spot] = frozenset()
    filled: np.ndarray = field(default_factory=lambda: np.empty(0, np.int64))
    pauses: Pauses = "doubtful"
    chunks: np.ndarray = field(default_factory=lambda: np.empty((0, 3), np.int64))

    @property
    def pictures(self) -> int:
        return len(self.times)

    def by_frame(self) -> Timeline:
        """The timeline of a field-coded stream, whose packets hold half a picture each.

        Two fields are one picture by their places in time, not in turn: one of them may be lost.
        """
        leads = [part.first + leading_fields(part.stamps) for part in self.parts] or [np.arange(0, self.pictures, 2)]
        lead = np.concatenate(leads)
        firsts = np.searchsorted(lead, [part.first for part in self.parts])
        parts = [
            Part(int(first), part.stamps[fields - part.first])
            for first, part, fields in zip(firsts, self.parts, leads, strict=False)
        ]

        def halved(fields: Iterable[int]) -> list[int]:
            return [max(0, int(np.searchsorted(lead, field, side="right")) - 1) for field in fields]

        return replace(
            self,
            parts=tuple(parts),
            times=self.times[lead],
            starts=np.unique(np.array(halved(self.starts), np.int64)),
            packets=len(lead),
            announced=max(len(lead), -(-self.announced // 2)),
            joins=tuple(part.first for part in parts[1:]),
            led=halved([self.led])[0] if self.led else 0,
            refreshes=tuple(halved(self.refreshes)),
            halves=frozenset(stamp for part in self.parts for stamp in lone_fields(part.stamps)),
        )

    @cached_property
    def rate_runs(self) -> tuple[RateRun, ...]:
        """Stretches of one rate without a gap, in order; together they hold every picture."""
        return tuple(run for run, _ in self._pieces)

    @cached_property
    def breaks(self) -> dict[int, Ending]:
        """By the picture with which something else begins: why what was before ends."""
        joins = set(self.joins)
        otherwise = {True: Ending.JOIN, False: Ending.GAP}
        return {run.first: why or otherwise[run.first in joins] for run, why in self._pieces if run.first}

    @cached_property
    def _pieces(self) -> list[tuple[RateRun, Ending | None]]:
        """Timestamps that repeat part the runs as well: their clock is broken there."""
        repeated = np.flatnonzero(np.diff(self.times) <= 0) + 1
        breaks = [*self.joins, *repeated.tolist()]
        return rate_runs(self.times, breaks, self.tick) if self.pictures else []

    @cached_property
    def holes(self) -> dict[Spot, int]:
        """By the first packet after a pause: how many pictures may be missing before it."""
        found: dict[Spot, int] = {}
        for picture, count in missing(self.times, self.rate_runs, self.pauses).items() if self.parts else ():
            number = self.part_of(picture)
            if picture == self.parts[number].first:
                continue  # a join, of which no clock tells more
            first, stamp = self.stamp_of(picture - 1), self.stamp_of(picture)
            filled = int(np.subtract(*np.searchsorted(self.filled, [stamp, first])))
            if (lost := count - filled) > 0:
                sent = self.sent[number]
                at, place = sent[np.argmax(sent[:, 0] >= stamp)].tolist()
                found[at, place] = lost
        return found

    @cached_property
    def main(self) -> RateRun | None:
        """The longest run: what the source's rate is said to be."""
        return max(self.rate_runs, key=lambda run: run.seconds, default=None)

    def run_of(self, picture: int) -> RateRun:
        """The run that holds `picture`."""
        firsts = [run.first for run in self.rate_runs]
        return self.rate_runs[int(np.searchsorted(firsts, picture, side="right")) - 1]

    def picture_at(self, stamp: int, after: int, before: int | None = None) -> int | None:
        """The first picture after number `after` (and before `before`) with this stamp, None where there is none."""
        for part in self.parts:
            if part.end - 1 <= after:
                continue
            if before is not None and part.first >= before:
                return None
            at = least = max(0, after + 1 - part.first)
            if part.stamps[least] != stamp:  # it mostly is the next one
                at = least + int(np.searchsorted(part.stamps[least:], stamp))
            if at < len(part.stamps) and part.stamps[at] == stamp:
                return part.first + at
        return None

    def part_of(self, picture: int) -> int:
        """The number of the part that holds `picture`. Not where there are no parts."""
        return next(number for number, part in enumerate(self.parts) if part.first <= picture < part.end)

    def stamp_of(self, picture: int) -> int:
        """The stamp of a picture, in ticks."""
        part = self.parts[self.part_of(picture)]
        return int(part.stamps[picture - part.first])

    def refreshed_after(self, picture: int) -> int:
        """The picture from which on an intra refresh has replaced all that was predicted from `picture`.

        The second one after it: pictures after a single recovery point were seen to be wrong without a mark.
        """
        later = [number for number in self.refreshes if number > picture]
        return later[1] if len(later) > 1 else self.pictures

    def start_before(self, picture: int) -> int:
        """The last picture at or before `picture` at which a decoder can start; 0 where none is known."""
        at = int(np.searchsorted(self.starts, picture, side="right")) - 1
        return int(self.starts[at]) if at >= 0 else 0
