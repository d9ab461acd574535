"""Decoding: the sound pictures of one source, each with its number and time, and their planes as arrays without a copy.

Both passes read pictures from here. A picture that the decoder marks or conceals, and all that may be predicted from
it, is left out and ends what came before it: see `Picture.broken_by`.
"""

from __future__ import annotations

import functools
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass

import av
import av.error
import numpy as np
import xxhash
from av.container import InputContainer
from av.video.format import VideoFormat
from av.video.plane import VideoPlane
from av.video.stream import VideoStream

from curation.contract import Ending, Reason
from curation.media.pictures.alpha import AlphaPlanes
from curation.media.pictures.geometry import Orientation, Plane, orientation
from curation.media.probe import Unfit
from curation.media.results import Tally
from curation.media.stream.breaks.losses import Losses
from curation.media.stream.suspicion import Sent, Suspicion
from curation.media.stream.timeline import Timeline
from curation.media.stream.twin import Twin

Planes = tuple[Plane, Plane, Plane]
"""Y, U and V of an 8-bit 4:2:0 frame."""

_HOPELESS = 1000
"""Errors after which a decoder that has shown nothing is given up."""


@dataclass(frozen=True, slots=True)
class Shape:
    """What must not change within a shot: coded size in pixels, sample aspect ratio, orientation, pixel format, and the
    numbers that tag its light.
    """

    width: int
    height: int
    sar: float
    orientation: Orientation
    format: str
    light: tuple[int, int, int, int]


@dataclass(frozen=True, slots=True)
class Picture:
    """A decoded picture: its number in the timeline, and seconds from the first one.

    `broken_by`: why what came before it does not go on with it; None where it does. `check`: see `checksum`.
    """

    index: int
    time_s: float
    frame: av.VideoFrame
    shape: Shape
    check: int
    broken_by: Ending | None = None


@dataclass(frozen=True, slots=True)
class _Shown:
    """A decoded frame, its number and that of the one before it. `after_loss`: one between the two was dropped."""

    frame: av.VideoFrame
    index: int
    before: int
    sent: Sent | None
    sar: float
    after_loss: bool


class Decoder:
    """The pictures of the video stream in display order.

    Pictures that do not move forward in time are dropped and counted, and end what came before them. `first_look`:
    False where the pictures were all measured before, so that what only a second decoder shows (`twin`) is known.
    """

    def __init__(
        self,
        container: InputContainer,
        stream: VideoStream,
        timeline: Timeline,
        tally: Tally | None = None,
        first_look: bool = True,
    ) -> None:
        self.tally = tally or Tally()
        self._first_look = first_look
        self._container, self._stream, self._timeline = container, stream, timeline
        self._container_sar = float(stream.sample_aspect_ratio or 0)
        self._first_sar = self._codec_sar()
        self._aspect = self._sar()
        self._start(-1)

    def __iter__(self) -> Iterator[Picture]:
        for shown in self._closed():
            self._after = shown.index if self._after is None else self._after
            self._lost = self._lost or shown.after_loss
            sound = self._suspicion.is_sound(shown.frame, shown.index, shown.sent)
            if sound and not self._alpha.lacks(shown.frame):
                yield self._picture(shown)
            else:
                self.tally.suspect += 1
                self._lost = True

    def _closed(self) -> Iterator[_Shown]:
        """Frames in their order, each once nothing is to come that it may be predicted from."""
        waiting: deque[_Shown] = deque()
        lost = False
        for frame in self._frames():
            self.tally.decoded += 1
            differs = self._twin is not None and self._twin.differs(frame)
            sent = self._suspicion.land(frame, self._last, differs)
            index = self._number(frame)
            if index is None or index <= self._last:
                self.tally.unordered += 1
                lost = True
                continue
            aspect = sent.sar if sent is not None else self._aspect
            waiting.append(_Shown(frame, index, self._last, sent, aspect, lost))
            self._last, lost = index, False
            while waiting and not self._is_open(waiting):
                yield waiting.popleft()
        yield from waiting
        self._lost = self._lost or lost

    def _is_open(self, waiting: deque[_Shown]) -> bool:
        """Whether the first of the frames that wait has to go on waiting."""
        first, last = waiting[0], waiting[-1].frame if len(waiting) > 1 else None
        return len(waiting) < Suspicion.MOST_WAITING and self._suspicion.is_open(first.frame, first.sent, last)

    @property
    def ending(self) -> Ending:
        """Why nothing follows the last picture that was handed out."""
        missing = self._last + 1 < self._timeline.pictures and not self._timeline.by_order
        return Ending.DAMAGE if self._lost or missing else Ending.END

    def seek(self, picture: int) -> None:
        """Go to the container's idea of the last key picture at or before number `picture`. Not by order.

        Nothing says where it lands: the next picture's number, and its checksum, do.
        """
        assert not self._timeline.by_order
        self._container.seek(self._timeline.stamp_of(picture), stream=self._stream, backward=True)
        part = next(part for part in self._timeline.parts if part.first <= picture < part.end)
        self._start(part.first - 1)
        self._sought = part.end

    def _start(self, last: int) -> None:
        self._last = self._handed = last
        self._after: int | None = None  # the first picture shown after the last one that was handed out
        self._sought: int | None = None
        self._lost = False
        self._suspicion = Suspicion(self._timeline)
        self._alpha = AlphaPlanes(self._stream)
        self._twin = Twin(self._stream, checksum) if self._first_look else None
        codec = self._stream.codec_context
        self._losses = Losses(codec.name, codec.extradata, self._timeline)
        self._shape: Shape | None = None
        self._turned: Orientation | None = None

    def _picture(self, shown: _Shown) -> Picture:
        frame, index = shown.frame, shown.index
        if frame.key_frame or self._turned is None:  # a display matrix is the stream's, so key pictures carry it
            self._turned = orientation(frame)
        light = (frame.color_primaries, frame.color_trc, int(frame.colorspace), int(frame.color_range))
        frame = self._alpha.put_over(frame)
        shape = Shape(frame.width, frame.height, shown.sar, self._turned, frame.format.name, light)
        broken_by = self._broken_by(shape, index, shown.before)
        self._shape, self._lost, self._handed, self._after = shape, False, index, None
        return Picture(index, float(self._timeline.times[index]), frame, shape, checksum(frame), broken_by)

    def _broken_by(self, shape: Shape, index: int, before: int) -> Ending | None:
        """Why the pictures up to the last one that was handed out do not go on with this one."""
        if self._shape is None:
            return None
        after = index if self._after is None else self._after
        for ending in (self._timeline.breaks.get(number) for number in range(self._handed + 1, after + 1)):
            if ending is not None:
                return ending
        if shape != self._shape:
            return Ending.SIZE
        return Ending.DAMAGE if self._lost or index > before + 1 else None

    def _number(self, frame: av.VideoFrame) -> int | None:
        """The number of a decoded picture; None where it is not in the timeline."""
        timeline, following = self._timeline, self._last + 1
        if timeline.by_order:
            return following if following < timeline.pictures else None
        if frame.pts is None:  # its packet is in no timeline, so the next number is another picture's
            return None
        return timeline.picture_at(frame.pts, self._last, self._sought)

    def _frames(self) -> Iterator[av.VideoFrame]:
        """Decoded frames. Those of a packet wait for the next one: if that fails, they are suspicious too."""
        held: list[av.VideoFrame] = []
        for frames in self._decoded():
            yield from held
            held = frames
        yield from held

    def _decoded(self) -> Iterator[list[av.VideoFrame]]:
        """The frames that come after each packet that the decoder takes."""
        packets = self._container.demux(self._stream)
        while True:
            try:
                packet = next(packets, None)
                if packet is None:
                    return
                if not packet.size and packet.dts is not None:
                    continue  # Theora's for a picture that is shown on; libav takes an empty packet for the end
                breaks = self._losses.before(packet)
                if self._twin is not None:
                    self._twin.take(packet)
                frames = packet.decode()
                self._alpha.take(packet)
                if packet.is_keyframe:  # the codec's aspect is this packet's now; its picture may come out much later
                    self._aspect = self._sar()
                self._suspicion.send(packet, self._aspect, self._last, breaks, self._losses.half)
                yield frames  # type: ignore[misc]
            except av.error.MemoryError as error:
                raise MemoryError from error
            except av.error.EOFError:
                return
            except av.error.FFmpegError as error:
                self.tally.damaged += 1
                self._suspicion.fail(self._last)
                if self.tally.damaged > _HOPELESS and not self.tally.decoded:
                    raise Unfit(Reason.NO_FRAMES, detail=str(error)) from error

    def _sar(self) -> float:
        codec = self._codec_sar()
        return (self._container_sar if codec == self._first_sar else codec) or codec or 1.0

    def _codec_sar(self) -> float:
        return float(self._stream.codec_context.sample_aspect_ratio or 0)


def check_size(stream: VideoStream, max_pixels: int) -> None:
    """Refuse frames larger than the sandbox decodes, before the first one is allocated."""
    pixels = stream.codec_context.width * stream.codec_context.height
    if pixels > max_pixels:
        raise Unfit(Reason.TOO_MANY_PIXELS, float(pixels))
    stream.codec_context.options = {"max_pixels": str(max_pixels)}


def checksum(frame: av.VideoFrame) -> int:
    """63 bits that stand for a decoded picture: XXH3 of its first plane (luma, mostly), as the decoder gave it."""
    plane = frame.planes[0]  # all planes are made anew each time they are asked for
    if plane.line_size < 0:  # rows from the bottom up, which a buffer of PyAV does not show
        frame = frame.reformat(format="yuv420p", threads=1)
        plane = frame.planes[0]
    width = _row_bytes(frame.format.name, frame.width)
    rows = np.ndarray((frame.height, width), np.uint8, memoryview(plane), strides=(plane.line_size, 1))
    return xxhash.xxh3_64_intdigest(np.ascontiguousarray(rows).data) >> 1


def checksum_of(checks: Iterator[int] | list[int]) -> int:
    """63 bits that stand for a row of pictures, from the checksum of each."""
    return xxhash.xxh3_64_intdigest(np.array(list(checks), np.int64).tobytes()) >> 1


@functools.cache
def _bits_a_pixel(name: str) -> int:
    """Bits of a pixel in the first plane of a pixel format."""
    format_ = VideoFormat(name)
    if format_.is_planar:
        return -(-format_.components[0].bits // 8) * 8
    return format_.padded_bits_per_pixel


def _row_bytes(name: str, width: int) -> int:
    return -(-_bits_a_pixel(name) * width // 8)


def planes(frame: av.VideoFrame) -> Planes:
    """Y, U and V of a 4:2:0 frame as views (height, width) of the decoder's buffers: valid while the frame lives."""
    y, u, v = frame.planes
    return _plane(y), _plane(u), _plane(v)


def _plane(plane: VideoPlane) -> Plane:
    shape, strides = (plane.height, plane.width), (plane.line_size, 1)
    return np.ndarray(shape, np.uint8, memoryview(plane), strides=strides)
