"""The alpha of VP8 and VP9 in Matroska and WebM: a stream of its own, whose packets ride on those of the pictures.

libav's decoders of the two leave it out without a word. The decoder of both passes (`frames`) decodes it beside the
pictures, as a second stream of the same codec whose luma is the alpha (full range), and puts the two together. What is
wrong with the alpha of a picture is damage of the picture.
"""

from __future__ import annotations

import av
import av.error
import numpy as np
from av.packet import Packet
from av.video.stream import VideoStream

from curation.contract import Reason
from curation.media.pictures.colour import copy_tags
from curation.media.probe import Unfit

_CODECS = ("vp8", "vp9")
_ALPHA = (1).to_bytes(8, "big")
"""Before the data of an addition to a block: which kind it is."""

_PLANAR = {"nv12": "yuv420p", "p010le": "yuv420p10le"}
"""What a GPU gives, and the same with a plane for each component."""

_IN_FLIGHT = 128


class AlphaPlanes:
    """Follows the packets of one stream from a key packet on; a reader that goes elsewhere takes a new one.

    A stream that says it has alpha is opaque where a packet has none.
    """

    def __init__(self, stream: VideoStream) -> None:
        context = stream.codec_context
        self._codec, self._options = context.name, dict(context.options)
        self._says_so = self._codec in _CODECS and stream.metadata.get("alpha_mode") == "1"
        self._context: av.VideoCodecContext | None = None
        self._decoded: dict[int | None, av.VideoFrame | None] = {}

    def take(self, packet: Packet) -> None:
        """The next packet, decoded already without its alpha. Raises libav's errors over damaged alpha."""
        data = self._of(packet)
        if data is None:
            return
        self._decoded[packet.pts] = None
        if len(self._decoded) > _IN_FLIGHT:
            del self._decoded[next(iter(self._decoded))]
        for frame in self._opened().decode(_packet(data, packet)):
            self._decoded[frame.pts] = None if frame.is_corrupt else frame

    def lacks(self, frame: av.VideoFrame) -> bool:
        """Whether the file has alpha for this picture, and it could not be decoded."""
        if frame.pts not in self._decoded:
            return False
        alpha = self._decoded[frame.pts]
        return alpha is None or (alpha.width, alpha.height) != (frame.width, frame.height)

    def put_over(self, frame: av.VideoFrame) -> av.VideoFrame:
        """The picture with its alpha; itself where it has none. To be asked once for each picture."""
        alpha = self._decoded.pop(frame.pts, None)
        if alpha is None and not self._says_so:
            return frame
        form = _PLANAR.get(frame.format.name, frame.format.name)
        planar = frame if form == frame.format.name else frame.reformat(format=form, threads=1)
        if alpha is not None and alpha.format.components[0].bits != frame.format.components[0].bits:
            raise Unfit(Reason.UNSUPPORTED_CODEC, detail=f"alpha in {alpha.format.name} of pictures in {form}")
        return _joined(planar, alpha)

    def _of(self, packet: Packet) -> bytes | None:
        """The alpha that rides on a packet."""
        if self._codec not in _CODECS or not packet.has_sidedata("matroska_block_additional"):
            return None
        addition = bytes(packet.get_sidedata("matroska_block_additional"))  # pyright: ignore[reportArgumentType]
        return addition.removeprefix(_ALPHA) if addition.startswith(_ALPHA) else None

    def _opened(self) -> av.VideoCodecContext:
        if self._context is None:
            context = av.CodecContext.create(self._codec, "r")
            assert isinstance(context, av.VideoCodecContext)
            context.thread_count, context.options = 1, self._options
            self._context = context
        return self._context


def _packet(data: bytes, like: Packet) -> Packet:
    made = Packet(data)
    made.pts, made.dts, made.time_base = like.pts, like.dts, like.time_base
    return made


def _joined(frame: av.VideoFrame, alpha: av.VideoFrame | None) -> av.VideoFrame:
    """Planar YUV with a fourth plane: the luma of `alpha`, opaque where there is none."""
    try:
        made = av.VideoFrame(frame.width, frame.height, frame.format.name.replace("yuv", "yuva"))
    except ValueError as error:
        raise Unfit(Reason.UNSUPPORTED_CODEC, detail=f"alpha of pictures in {frame.format.name}") from error
    for plane in range(3):
        _rows(made, plane)[:] = _rows(frame, plane)
    opaque = (1 << frame.format.components[0].bits) - 1
    _rows(made, 3)[:] = opaque if alpha is None else _rows(alpha, 0)
    made.pts = frame.pts
    if frame.time_base is not None:
        made.time_base = frame.time_base
    copy_tags(frame, made)
    return made


def _rows(frame: av.VideoFrame, number: int) -> np.ndarray:
    """The samples of a plane (height, width), as they lie in its memory."""
    plane = frame.planes[number]
    kind = np.dtype("u1" if frame.format.components[0].bits == 8 else "<u2")
    strides = (plane.line_size, kind.itemsize)
    return np.ndarray((plane.height, plane.width), kind, memoryview(plane), strides=strides)
