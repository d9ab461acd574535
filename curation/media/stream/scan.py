"""The scan of a source's packets that makes its timeline: first step of both passes, before a picture is decoded."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field, replace

import av.error
import numpy as np
from av.container import InputContainer
from av.packet import Packet
from av.video.stream import VideoStream

from curation.media.stream.mpeg4 import NotCoded
from curation.media.stream.parts import PartClock, Spot, spot_of
from curation.media.stream.recovery import pictures_until_clean
from curation.media.stream.timeline import Part, Seam, Timeline

_COUNTED = "mov"
"""The container whose header counts real pictures; AVI's count includes repeats that have no packet."""

_UNTIMED = 0.5
"""Share of packets without a timestamp above which the others say nothing: raw streams, and some program streams."""

_FEW_UNTIMED = 0.01
"""The same share above which a hole in the clock may be theirs."""

_MARKED_BEFORE = 3
"""Packets before a join whose mark may be of the join: the demuxer is one behind."""

_SKIPS_LEADING = ("hevc", "vvc")
"""Codecs that mark the pictures which need one before the start: a decoder that starts there leaves just those out."""

_BY_ORDER = ("h264", "hevc", "m4v", "mpegvideo", "obu", "vc1", "dv")
"""Formats without presentation times."""


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
    chunks: list[tuple[int, int, int]] = field(default_factory=list)  # spot, size
    filled: list[int] = field(default_factory=list)
    hidden_key: bool = False
    starts_hidden: bool = False
    starts_clean: bool = False
    untimed: int = 0
    unpresented: int = 0
    reordered: bool = False
    new_streams: list[tuple[int, int]] = field(default_factory=list)  # part, stamp
    places: list[list[int]] = field(default_factory=lambda: [[]])
    entries: set[Spot] = field(default_factory=set)
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
            self.places.append([])
            self.entries.add(spot_of(packet))
            self._sew(packet)
        self.latest.append((-1 if packet.pos is None else packet.pos, packet.is_corrupt))
        self.stamps[-1].append(stamp)
        self.places[-1].append(spot_of(packet)[1])
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
            self.entries.add(spot_of(packet))
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

    def holds(self, listed: int) -> bool:
        """Whether these are all the packets that a table lists; False where there is none."""
        return 0 < listed <= self.packets + self.hidden + self.unseen

    def fill(self, packet: Packet, codec: str) -> None:
        """A packet without a picture of its own: the last one is shown on, but for those of VP8, that show nothing."""
        if packet.pts is not None and codec != "vp8":
            self.filled.append(packet.pts)

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
    chunked = container.format.name == "avi"
    try:
        for packet in container.demux(stream):
            if chunked and packet.size and packet.dts is not None:
                found.chunks.append((*spot_of(packet), packet.size))
            if packet.is_discard:
                found.hide(packet)
            elif packet.size and _is_unseen(packet, codec, not_coded):
                found.unseen += 1
                found.fill(packet, codec)
            elif not packet.size:
                found.fill(packet, codec)
            else:
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
    tabled = _COUNTED in format_ and found.holds(stream.frames) and not announced
    own = tabled or chunked or found.untimed > _FEW_UNTIMED * found.packets
    return replace(
        timeline,
        led_sound=found.starts_clean and codec in _SKIPS_LEADING,
        seams=tuple(found.seams),
        filled=np.sort(np.array(found.filled, np.int64)),
        chunks=np.array(found.chunks, np.int64).reshape(-1, 3),
        pauses="own" if own else "doubtful",
    )


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
        sent=tuple(np.array(spots, np.int64).T for spots in zip(found.stamps, found.places, strict=True) if spots[0]),
        entries=frozenset(found.entries if parts else ()),
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
