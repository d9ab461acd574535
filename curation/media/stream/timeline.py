"""The timeline: one scan of a source's packets gives the clock, the index of every picture, and where it breaks.

First step of both passes, before a picture is decoded: so both count pictures and seconds alike. A *part* is a stretch
whose timestamps rise; files that were joined, and streams that were cut off and began again, have several.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from functools import cached_property

import av.error
import numpy as np
from av.container import InputContainer
from av.packet import Packet
from av.video.stream import VideoStream

from curation.contract import Ending
from curation.media.stream.mpeg4 import NotCoded
from curation.media.stream.parts import PartClock
from curation.media.stream.rates import RateRun, rate_runs, typical
from curation.media.stream.recovery import pictures_until_clean

_COUNTED = "mov"
"""The container whose header counts real pictures; AVI's count includes repeats that have no packet."""

_UNTIMED = 0.5
"""Share of packets without a timestamp above which the others say nothing: raw streams, and some program streams."""

_MARKED_BEFORE = 3
"""Packets before a join whose mark may be of the join: the demuxer is one behind."""

_SKIPS_LEADING = ("hevc", "vvc")
"""Codecs that mark the pictures which need one before the start: a decoder that starts there leaves just those out."""

_BY_ORDER = ("h264", "hevc", "m4v", "mpegvideo", "obu", "vc1", "dv")
"""Formats without presentation times."""


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
    packets that are whole in spite of their mark.
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

    @property
    def pictures(self) -> int:
        return len(self.times)

    def by_frame(self) -> Timeline:
        """The timeline of a field-coded stream, whose packets hold half a picture each.

        Two fields are one picture by their places in time, not in turn: one of them may be lost.
        """
        leads = [part.first + _leading_fields(part.stamps) for part in self.parts] or [np.arange(0, self.pictures, 2)]
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
            halves=frozenset(stamp for part in self.parts for stamp in _lone_fields(part.stamps)),
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


def _pictures_of(fields: np.ndarray) -> np.ndarray:
    """The number of the picture that each of these fields (stamps, two a picture) is of."""
    if len(fields) < 2:
        return np.zeros(len(fields), np.int64)
    steps = np.diff(fields)
    places = np.cumsum(np.maximum(1, np.rint(steps / (typical(steps) or 1)).astype(np.int64)))
    return np.concatenate([[0], places]) // 2


def _leading_fields(stamps: np.ndarray) -> np.ndarray:
    """Which of these fields is the first one that is there of its picture."""
    return np.unique(_pictures_of(stamps), return_index=True)[1]


def _lone_fields(stamps: np.ndarray) -> list[int]:
    """The stamps of those that are the only one of their picture."""
    _, first, count = np.unique(_pictures_of(stamps), return_index=True, return_counts=True)
    return stamps[first[count == 1]].tolist()


@dataclass(slots=True)
class _Scan:
    """What is collected packet by packet."""

    clock: PartClock
    stamps: list[list[int]] = field(default_factory=lambda: [[]])
    keys: list[tuple[int, int]] = field(default_factory=list)  # part, stamp
    bytes: int = 0
    packets: int = 0
    hidden: int = 0
    unseen: int = 0
    hidden_key: bool = False
    starts_hidden: bool = False
    starts_clean: bool = False
    untimed: int = 0
    unpresented: int = 0
    reordered: bool = False
    new_streams: list[tuple[int, int]] = field(default_factory=list)  # part, stamp
    latest: deque[tuple[int, bool]] = field(default_factory=lambda: deque(maxlen=_MARKED_BEFORE))  # place, marked
    seams: list[Seam] = field(default_factory=list)
    refreshes: list[tuple[tuple[int, int], int]] = field(default_factory=list)  # place of a key, pictures to wait

    def take(self, packet: Packet, codec: str, extradata: bytes | None) -> None:
        self.packets += 1
        self.bytes += packet.size
        self.unpresented += packet.pts is None
        stamp = packet.pts if packet.pts is not None else packet.dts
        if stamp is None:
            self.untimed += 1
            return
        if self.clock.begins(stamp, packet.dts):
            self.stamps.append([])
            self._sew(packet)
        self.latest.append((-1 if packet.pos is None else packet.pos, packet.is_corrupt))
        self.stamps[-1].append(stamp)
        self.reordered = self.reordered or packet.pts != packet.dts
        if self.hidden_key:
            self.hidden_key = False
            self.starts_hidden = self.starts_hidden or sum(map(len, self.stamps)) == 1
            self.keys.append((len(self.stamps) - 1, stamp))
        if packet.is_keyframe:
            self._take_key(packet, (len(self.stamps) - 1, stamp), codec, extradata)

    def _take_key(self, packet: Packet, place: tuple[int, int], codec: str, extradata: bytes | None) -> None:
        if packet.has_sidedata("new_extradata"):
            self.new_streams.append(place)
        wait = pictures_until_clean(codec, bytes(packet), extradata)
        if wait:
            self.refreshes.append((place, wait))
        else:
            self.keys.append(place)
        if self.packets == 1:
            self.starts_clean = wait == 0

    def _sew(self, packet: Packet) -> None:
        """A part begins with this packet."""
        marked = frozenset(place for place, is_corrupt in self.latest if is_corrupt)
        self.latest.clear()
        if marked and packet.pos is not None and 0 <= min(marked) < packet.pos:
            self.seams.append(Seam(min(marked), packet.pos, marked))

    def hide(self, packet: Packet) -> None:
        """A packet that an edit list leaves out: it is decoded all the same, and a key one is a start."""
        self.hidden += 1
        self.hidden_key = self.hidden_key or packet.is_keyframe

    @property
    def is_clean(self) -> bool:
        """Whether every packet has a presentation time of its own."""
        return not self.unpresented and all(len(set(part)) == len(part) for part in self.stamps)


def scan(
    container: InputContainer, stream: VideoStream, progress: Callable[[int], None] = lambda packets: None
) -> Timeline:
    """Read every packet of `stream` without decoding one. Leaves the container at its end: open it again to decode."""
    codec, extradata = stream.codec_context.name, stream.codec_context.extradata
    found = _Scan(PartClock(float(stream.time_base or 1)))
    not_coded = NotCoded(extradata)
    try:
        for packet in container.demux(stream):
            if packet.is_discard:
                found.hide(packet)
            elif packet.size and _is_unseen(packet, codec, not_coded):
                found.unseen += 1
            elif packet.size:
                found.take(packet, codec, extradata)
                progress(found.packets)
    except av.error.MemoryError as error:
        raise MemoryError from error
    except av.error.FFmpegError:
        pass  # a container torn in the middle: what was read before counts, and `announced` tells how much is missing
    format_ = container.format.name
    announced = _announced(found, stream) if _COUNTED in format_ else 0
    # AVI stores no presentation times: libav makes them, right only where nothing is reordered.
    guessed = format_ == "avi" and not (found.is_clean and codec != "mpeg4" and not stream.codec_context.has_b_frames)
    by_order = guessed or format_ in _BY_ORDER or bool(stream.codec_context.has_b_frames and not found.reordered)
    timeline = _timeline(found, announced, by_order, 1 / guessed_rate(stream))
    led_sound = found.starts_clean and codec in _SKIPS_LEADING
    return replace(timeline, led_sound=led_sound, seams=tuple(found.seams))


def _announced(found: _Scan, stream: VideoStream) -> int:
    """How many pictures the file's own table of packets shows, 0 where none is missing or a part has its own table.

    Not the header's count and duration: an edit list leaves packets out, shows them twice, or begins with nothing.
    """
    if not stream.frames or len(stream.index_entries) <= found.packets + found.hidden + found.unseen:
        return 0
    shown = sum(bool(entry.size) and not entry.is_discard for entry in stream.index_entries)
    return shown - found.unseen


def _is_unseen(packet: Packet, codec: str, not_coded: NotCoded) -> bool:
    """Whether a packet shows no picture: one of VP8 that is only referred to (RFC 6386, 9.1), of MPEG-4 not coded, and
    the headers of Theora (bit 7), which stand where files were joined.
    """
    if codec == "theora":
        return memoryview(packet)[0] >> 7 == 1  # pyright: ignore[reportArgumentType]
    if codec == "mpeg4":
        return not_coded.holds(bytes(packet))
    return codec == "vp8" and not memoryview(packet)[0] >> 4 & 1  # pyright: ignore[reportArgumentType]


def guessed_rate(stream: VideoStream) -> float:
    """Pictures a second as the header says: for streams without timestamps."""
    return float(stream.guessed_rate or stream.average_rate or stream.codec_context.framerate or 25)


def _timeline(found: _Scan, announced: int, by_order: bool, interval: float) -> Timeline:
    parts, times, joins, repeated = _parts(found, interval)
    starts = _pictures(parts, found.keys)
    refreshes = _pictures(parts, [place for place, _ in found.refreshes])
    refreshes = [picture + wait for picture, (_, wait) in zip(refreshes, found.refreshes, strict=True)]
    joins += [picture for picture in _pictures(parts, found.new_streams) if picture]
    if found.untimed > _UNTIMED * found.packets:  # the codec's own rate, then
        times, by_order = np.arange(found.packets) * interval, True
        parts, joins, starts, refreshes = [], [], [], []
    return Timeline(
        parts=tuple(part for _, part in parts),
        times=times,
        starts=np.unique(np.array(starts, np.int64)),
        tick=found.clock.tick,
        bytes=found.bytes,
        packets=found.packets,
        announced=max(found.packets, announced),
        untimed=(found.untimed + repeated) / found.packets if parts else 0.0,
        by_order=by_order,
        joins=tuple(sorted(set(joins))),
        led=0 if found.starts_hidden else min(starts, default=(refreshes[1:] or refreshes or [0])[0]),
        refreshes=tuple(sorted(refreshes)),
    )


def _pictures(parts: list[tuple[int, Part]], places: list[tuple[int, int]]) -> list[int]:
    """The numbers of the pictures with these stamps in these parts."""
    known = dict(parts)
    return [known[number].first + int(np.searchsorted(known[number].stamps, stamp)) for number, stamp in places]


def _parts(found: _Scan, interval: float) -> tuple[list[tuple[int, Part]], np.ndarray, list[int], int]:
    """The parts by their number, the time of each picture, where parts begin, and how many stamps were repeated.

    A part begins one usual interval after the part before it has ended, whatever its own clock says.
    """
    parts: list[tuple[int, Part]] = []
    times: list[np.ndarray] = []
    joins: list[int] = []
    count = repeated = 0
    for number, raw in enumerate(found.stamps):
        stamps = np.sort(np.array(raw, np.int64))
        if not len(stamps):
            continue
        steps = np.diff(stamps) * found.clock.tick
        repeated += int((steps == 0).sum())
        own = (stamps - stamps[0]) * found.clock.tick
        if times:
            joins.append(count)
            own = own + times[-1][-1] + (float(np.median(steps)) if len(steps) else interval)
        parts.append((number, Part(count, stamps)))
        times.append(own)
        count += len(stamps)
    return parts, np.concatenate(times) if times else np.empty(0), joins, repeated
