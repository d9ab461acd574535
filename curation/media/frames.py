"""Decoding: the frames of one source with their times, and their planes as arrays without a copy.

Both passes read frames from here. Damaged packets are counted and skipped; the pass decides how many are too many.
"""

from __future__ import annotations

from collections.abc import Iterator

import av
import av.error
import numpy as np
from av.container import InputContainer
from av.video.plane import VideoPlane
from av.video.stream import VideoStream

from curation.contract import Reason
from curation.media.found import Tally
from curation.media.geometry import Plane
from curation.media.probe import Timeline, Unfit

Planes = tuple[Plane, Plane, Plane]
"""Y, U and V of an 8-bit 4:2:0 frame."""

_PLANAR = frozenset({"yuv420p", "yuvj420p"})


class Decoder:
    """Frames of the video stream in display order, as (time in seconds in the container's clock, frame).

    A frame without a timestamp gets the one before plus one `interval` (seconds); frames that do not move forward in
    time are dropped and counted.
    """

    def __init__(self, container: InputContainer, stream: VideoStream, timeline: Timeline, interval: float) -> None:
        self.tally = Tally()
        self._container, self._stream, self._timeline, self._interval = container, stream, timeline, interval
        self._base = float(stream.time_base or 1)
        self._last: float | None = None

    def __iter__(self) -> Iterator[tuple[float, av.VideoFrame]]:
        for frame in self._decoded():
            self.tally.decoded += 1
            time = self._time(frame)
            if self._last is not None and time <= self._last:
                self.tally.unordered += 1
                continue
            self._last = time
            yield time, frame

    def seek(self, time_s: float) -> None:
        """Go to the last key frame at or before `time_s` (container's clock). Not for a timeline by order."""
        assert not self._timeline.by_order
        self._container.seek(int(time_s / self._base), stream=self._stream, backward=True)
        self._last = None

    def _time(self, frame: av.VideoFrame) -> float:
        shown = self.tally.decoded - 1
        if self._timeline.by_order and shown < len(self._timeline.times):
            return self._timeline.first_s + float(self._timeline.times[shown])
        if frame.pts is not None and not self._timeline.by_order:
            return frame.pts * self._base
        return 0.0 if self._last is None else self._last + self._interval

    def _decoded(self) -> Iterator[av.VideoFrame]:
        packets = self._container.demux(self._stream)
        while True:
            try:
                packet = next(packets, None)
                if packet is None:
                    return
                yield from packet.decode()  # type: ignore[misc]
            except av.error.MemoryError as error:
                raise MemoryError from error
            except av.error.EOFError:
                return
            except av.error.FFmpegError as error:
                self.tally.damaged += 1
                if self.tally.damaged > 1000 and not self.tally.decoded:
                    raise Unfit(Reason.NO_FRAMES, detail=str(error)) from error


def check_size(stream: VideoStream, max_pixels: int) -> None:
    """Refuse frames larger than the sandbox decodes, before the first one is allocated."""
    pixels = stream.codec_context.width * stream.codec_context.height
    if pixels > max_pixels:
        raise Unfit(Reason.TOO_MANY_PIXELS, float(pixels))
    stream.codec_context.options = {"max_pixels": str(max_pixels)}


def planar(frame: av.VideoFrame) -> av.VideoFrame:
    """The frame as 8-bit 4:2:0; itself where it is that already."""
    return frame if frame.format.name in _PLANAR else frame.reformat(format="yuv420p", threads=1)


def planes(frame: av.VideoFrame) -> Planes:
    """Y, U and V of a 4:2:0 frame as views (height, width) of the decoder's buffers: valid while the frame lives."""
    y, u, v = frame.planes  # makes all three anew each time it is asked
    return _plane(y), _plane(u), _plane(v)


def _plane(plane: VideoPlane) -> Plane:
    shape, strides = (plane.height, plane.width), (plane.line_size, 1)
    return np.ndarray(shape, np.uint8, memoryview(plane), strides=strides)
