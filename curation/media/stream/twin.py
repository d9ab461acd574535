"""Damaged pictures of VP8 that show what lay in memory: libav's decoder leaves rows out of them without a mark.

A second decoder gets the same packets. Where the two write, they agree; what they leave out they do not, for their
pictures lie in memory that was used otherwise: the one keeps its last pictures, the other lets go of each at once. A
picture in which they differ is damaged (`frames` says so to `suspicion`). It would come out otherwise each time, so no
checksum could hold for it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

import av
import av.error
from av.packet import Packet
from av.video.stream import VideoStream

_CODEC = "vp8"
_KEPT = 8
"""Pictures kept: more than VP8 refers to."""

_IN_FLIGHT = 128


class Twin:
    """Follows the packets of one stream from a key packet on; a reader that goes elsewhere takes a new one.

    `check`: a number that stands for a picture (`frames.checksum`).
    """

    def __init__(self, stream: VideoStream, check: Callable[[av.VideoFrame], int]) -> None:
        context = stream.codec_context
        self._check = check
        self._context: av.VideoCodecContext | None = None
        self._checks: dict[int | None, int] = {}
        self._kept: deque[av.VideoFrame] = deque(maxlen=_KEPT)
        if context.name == _CODEC and not context.is_hwaccel:
            twin = av.CodecContext.create(_CODEC, "r")
            assert isinstance(twin, av.VideoCodecContext)
            twin.thread_count, twin.options = 1, dict(context.options)
            self._context = twin

    def take(self, packet: Packet) -> None:
        """The next packet, before the first decoder gets it. What this one cannot decode counts as different."""
        if self._context is None:
            return
        try:
            for frame in self._context.decode(packet):
                self._checks[frame.pts] = self._check(frame)
        except av.error.MemoryError as error:
            raise MemoryError from error
        except av.error.FFmpegError:
            return
        while len(self._checks) > _IN_FLIGHT:
            del self._checks[next(iter(self._checks))]

    def differs(self, frame: av.VideoFrame) -> bool:
        """Whether a picture of the first decoder is another than this one's. To be asked once for each."""
        if self._context is None:
            return False
        self._kept.append(frame)
        return self._checks.pop(frame.pts, None) != self._check(frame)
