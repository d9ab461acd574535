"""The packets of a source's sound, found by the clock of its pictures, undecoded.

First step of a clip's sound, inside the sandbox. Read from the beginning of the file, never by a jump: so the sound of
a clip does not depend on which other clips are cut with it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import av.error
from av.audio.stream import AudioStream
from av.container import InputContainer
from av.packet import Packet
from av.stream import Disposition
from av.video.stream import VideoStream

from curation.media.probe import open_media
from curation.media.stream.parts import PartClock
from curation.media.stream.timeline import Timeline

LEAD_S = 1.0
"""What is decoded before a clip, so that the decoder has come to its sound: more than any codec looks back."""

_LATE_S = 0.5
"""How far packets may stand out of their order in time."""

_JOIN_S = 1.0
"""How far from a join, in the file, packets of the part on its other side may stand."""

_IMPAIRED = Disposition.hearing_impaired | Disposition.visual_impaired


@dataclass(frozen=True, slots=True)
class Moment:
    """A point of a source's time: seconds of the container's clock within part number `part` of the timeline."""

    part: int
    time_s: float


@dataclass(frozen=True, slots=True)
class _Placed:
    moment: Moment
    packet: Packet


def stream_of(container: InputContainer, video: VideoStream) -> AudioStream | None:
    """The stream that players take: the first with the default flag, else the first, of those that can be decoded."""
    able = [stream for stream in container.streams.audio if stream.codec_context is not None]
    plain = [stream for stream in able if not stream.disposition & _IMPAIRED] or able
    flagged = [stream for stream in plain if stream.disposition & Disposition.default]
    if not flagged and container.format.name == "mpegts":  # it may hold several programs, which only libav tells
        best = container.streams.best("audio", related=video)
        flagged = [stream for stream in plain if best is not None and stream.index == best.index]
    return next(iter(flagged or plain), None)


def moment_of(timeline: Timeline, video: VideoStream, picture: int) -> Moment:
    """When `picture` is shown, by the container's clock."""
    if timeline.parts:
        return Moment(timeline.part_of(picture), timeline.stamp_of(picture) * timeline.tick)
    origin = float((video.start_time or 0) * (video.time_base or 0))
    return Moment(0, origin + float(timeline.times[picture]))


class SoundPackets:
    """The packets of one source's sound; a context manager. `stream` is None where the source has no sound.

    Goes forward only: ask for clips in their order.
    """

    def __init__(self, path: Path, timeline: Timeline, progress: Callable[[], None]) -> None:
        self._timeline, self._progress = timeline, progress
        self._open = ExitStack()
        self._container, self.video = self._open.enter_context(open_media(path))
        self.stream = stream_of(self._container, self.video)
        self._held: deque[_Placed] = deque()
        self._ahead = self._placed()

    def __enter__(self) -> SoundPackets:
        return self

    def __exit__(self, *exc: object) -> None:
        self._open.close()

    def between(self, start: Moment, seconds: float) -> list[Packet]:
        """What may sound in `seconds` from `start` on, and what a decoder needs before it."""
        lead, end_s = Moment(start.part, start.time_s - LEAD_S), start.time_s + seconds
        self._forget(lead)
        while not self._is_past(start.part, end_s) and (found := next(self._ahead, None)) is not None:
            self._held.append(found)
            self._forget(lead)
        return [one.packet for one in self._held if one.moment.part == start.part and one.moment.time_s < end_s]

    def _forget(self, lead: Moment) -> None:
        """Let go of what ends before `lead`; a packet lasts until the next one."""
        held = self._held
        while len(held) > 1 and _order(held[1].moment) <= _order(lead):
            held.popleft()

    def _is_past(self, part: int, end_s: float) -> bool:
        if not self._held:
            return False
        last = self._held[-1].moment
        if last.part == part:
            return last.time_s >= end_s + _LATE_S
        return last.part > part and last.time_s > self._bounds(last.part)[0] + _JOIN_S

    def _placed(self) -> Iterator[_Placed]:
        """Every packet of the sound with its moment. One without a time follows the one before it."""
        if self.stream is None:
            return
        several = len(self._timeline.parts) > 1
        where, tick, following = _Where(self._timeline), float(self.stream.time_base or 1), 0.0
        for packet in _demuxed(self._container, [self.video, self.stream] if several else [self.stream]):
            self._progress()
            if packet.stream.index == self.video.index:
                where.see(packet)
                continue
            stamp = packet.pts if packet.pts is not None else packet.dts
            time_s = stamp * tick if stamp is not None else following
            following = time_s + (packet.duration or 0) * tick
            yield _Placed(Moment(where.part_at(time_s), time_s), packet)

    def _bounds(self, part: int) -> tuple[float, float]:
        return _bounds(self._timeline, part)


class _Where:
    """Which part of the timeline the file has come to, told by the packets of the pictures."""

    def __init__(self, timeline: Timeline) -> None:
        self._timeline = timeline
        self._clock = PartClock(timeline.tick)
        self._part = 0
        self._at = _bounds(timeline, 0)[0]

    def see(self, packet: Packet) -> None:
        """The next packet of the pictures."""
        stamp = packet.pts if packet.pts is not None else packet.dts
        if packet.is_discard or stamp is None:
            return
        if self._clock.begins(stamp, packet.dts):
            self._part = min(self._part + 1, len(self._timeline.parts) - 1)
        self._at = stamp * self._timeline.tick

    def part_at(self, time_s: float) -> int:
        """The part of a packet of sound that comes now: near a join it may be of the part on the other side."""
        part, (first, last) = self._part, _bounds(self._timeline, self._part)
        away = {part: abs(time_s - self._at)}
        if part > 0 and self._at - first < _JOIN_S:
            away[part - 1] = abs(time_s - _bounds(self._timeline, part - 1)[1])
        if part + 1 < len(self._timeline.parts) and last - self._at < _JOIN_S:
            away[part + 1] = abs(time_s - _bounds(self._timeline, part + 1)[0])
        return min(away, key=lambda which: away[which])


def _bounds(timeline: Timeline, part: int) -> tuple[float, float]:
    """Seconds of a part's first and last picture, by the container's clock."""
    if not timeline.parts:
        return 0.0, 0.0
    stamps = timeline.parts[part].stamps
    return float(stamps[0]) * timeline.tick, float(stamps[-1]) * timeline.tick


def _order(moment: Moment) -> tuple[int, float]:
    return moment.part, moment.time_s


def _demuxed(container: InputContainer, streams: list[AudioStream | VideoStream]) -> Iterator[Packet]:
    """The packets that hold something, up to where the container is torn."""
    packets = container.demux(*streams)
    while True:
        try:
            packet = next(packets, None)
        except av.error.MemoryError as error:
            raise MemoryError from error
        except Exception as error:  # PyAV raises more than its own errors over damaged input
            if isinstance(error, OSError) and not isinstance(error, av.error.FFmpegError):
                raise  # the disk's: silence would be kept in place of what it may give the next time
            return
        if packet is None:
            return
        if packet.size:
            yield packet
