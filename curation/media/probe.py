"""Opening untrusted media and saying what it is: containers and protocols allowed, the stream that is taken, facts.

First step of both passes, inside the sandbox. `open_media` is the only place that opens a container.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import av
import av.error
from av.codec.hwaccel import HWAccel
from av.container import InputContainer
from av.stream import Disposition
from av.video.stream import VideoStream

from curation.contract import Facts, Reason, Verdict
from curation.media.pictures.colour import NO_TAGS, Tags
from curation.media.pictures.geometry import UPRIGHT, displayed
from curation.media.sandbox.handle import reading, size_of, source
from curation.media.sandbox.refusal import raw_format, refusal
from curation.media.stream import transport
from curation.media.stream.breaks import avi, matroska
from curation.media.stream.parts import Spot
from curation.media.stream.scan import guessed_rate, scan
from curation.media.stream.timeline import Timeline

if TYPE_CHECKING:
    from curation.media.frames import Picture

DEMUXERS = (
    "mov mp4 m4a 3gp 3g2 mj2 matroska webm avi mpegts mpegtsraw mpeg mpegvideo flv live_flv mxf asf rm ogg ivf h264 "
    "hevc obu m4v dv vc1 swf nut gxf mjpeg mpjpeg yuv4mpegpipe gif apng"
).split()
"""Formats that carry their own media. Playlists (hls, dash, concat) and image sequences are not among them."""

_NO_FILM = Disposition.attached_pic | Disposition.timed_thumbnails | Disposition.still_image

OPTIONS = {"format_whitelist": ",".join(DEMUXERS), "protocol_whitelist": "file", "enable_drefs": "0"}
"""For libav wherever it opens untrusted bytes."""


_HEADER_ONLY = {"codec_whitelist": "none", "fflags": "noparse+nofillin", "probesize": "32"}
"""No decoder, no parser, and no packet but the first."""


class Unfit(Exception):
    """Raised inside the passes to end a video with a verdict."""

    def __init__(self, reason: Reason, measured: float | None = None, detail: str = "") -> None:
        super().__init__(reason)
        self.verdict = Verdict(reason, measured, detail)


@contextmanager
def open_media(path: Path, hwaccel: str = "none") -> Iterator[tuple[InputContainer, VideoStream]]:
    """The container and its first real video stream; raises `Unfit` where there is none. One decoder thread.

    `hwaccel`: "cuda" decodes on a GPU, and fails where there is none: no silent way back to the processor.
    """
    if size_of(path) == 0:
        raise Unfit(Reason.EMPTY)
    try:
        device = None if hwaccel == "none" else HWAccel(device_type=hwaccel, allow_software_fallback=False)
        chosen = {"format": raw_format(path), "metadata_errors": "replace"}
        container = av.open(source(path), "r", options=OPTIONS, hwaccel=device, **chosen)
    except av.error.MemoryError as error:
        raise MemoryError from error
    except av.error.FFmpegError as error:
        if hwaccel != "none" and _opens(path):
            raise Unfit(Reason.INTERNAL, detail=f"hwaccel {hwaccel}: {error.strerror}") from error
        raise Unfit(*refusal(path, error)) from error
    with container:
        streams = [s for s in container.streams.video if not s.disposition & _NO_FILM]
        if not streams:
            raise Unfit(Reason.NO_VIDEO)
        stream = max(streams, key=_prominence)
        if stream.codec_context is None:
            raise Unfit(Reason.UNSUPPORTED_CODEC, detail="no decoder")
        stream.thread_type = "NONE"
        stream.codec_context.thread_count = 1
        yield container, stream


def _opens(path: Path) -> bool:
    """Whether a file opens without a GPU: then it is the GPU that does not."""
    try:
        with open_media(path):
            return True
    except Unfit:
        return False


def _prominence(stream: VideoStream) -> tuple[bool, int, int, int]:
    """What players choose by: the default flag, then pixels, then frames, then the order in the file."""
    context = stream.codec_context
    pixels = context.width * context.height if context is not None else 0
    return bool(stream.disposition & Disposition.default), pixels, stream.frames, -stream.index


def container_tags(path: Path, container: InputContainer, stream: VideoStream) -> Tags:
    """What the container alone says of the light of an opened source; what it does not say is unspecified.

    The open one does not tell: to know its streams libav decodes a first picture, and decoders write over what the
    container said. So it is opened once more, and no decoder with it.
    """
    demuxer, options = container.format.name.split(",")[0], OPTIONS | _HEADER_ONLY
    try:
        with av.open(source(path), "r", format=demuxer, options=options, metadata_errors="replace") as bare:
            video = next((one for one in bare.streams.video if one.index == stream.index), None)
            return NO_TAGS if video is None or video.codec_context is None else Tags.of(video.codec_context)
    except av.error.MemoryError as error:
        raise MemoryError from error
    except av.error.FFmpegError:
        return NO_TAGS


def timeline_of(
    path: Path, container: InputContainer, stream: VideoStream, progress: Callable[[int], None]
) -> Timeline:
    """The timeline of an opened source, which it leaves at its end. Field-coded packets are counted in pairs."""
    timeline = scan(container, stream, progress)
    if timeline.seams and container.format.name == "mpegts":
        timeline = replace(timeline, sound=_sound(path, timeline, stream.id))
    if container.format.name.startswith("matroska") and timeline.holes:
        with reading(path) as file:
            timeline = replace(timeline, pauses=matroska.pauses(file, size_of(path)))
    if container.format.name == "avi":
        timeline = replace(timeline, entries=timeline.entries | _after_missing(path, timeline, stream.index))
    main = timeline.main
    if main is None or abs(main.rate / guessed_rate(stream) - 2) > 0.05:
        return timeline
    with open_media(path) as (again, video):
        try:
            first = next(again.decode(video), None)
        except av.error.MemoryError as error:
            raise MemoryError from error
        except av.error.FFmpegError:
            first = None
        return timeline.by_frame() if first is not None and first.interlaced_frame else timeline


def _after_missing(path: Path, timeline: Timeline, stream: int) -> frozenset[Spot]:
    """The packets of an AVI file before which chunks are missing that its index lists."""
    with reading(path) as file:
        listed = avi.listed(file, size_of(path), stream)
    lost = avi.lost_before(timeline.chunks[:, 2].tolist(), listed)
    return frozenset((stamp, place) for stamp, place, _ in timeline.chunks[lost].tolist())


def _sound(path: Path, timeline: Timeline, pid: int) -> frozenset[int]:
    """Where packets begin that are marked only because another file was joined to theirs."""
    found: set[int] = set()
    with reading(path) as file:
        for seam in timeline.seams:
            file.seek(seam.start)
            if transport.is_whole(file.read(min(seam.end - seam.start, transport.MOST)), pid):
                found |= seam.marked
    return frozenset(found)


def describe(
    container: InputContainer, stream: VideoStream, timeline: Timeline, picture: Picture | None = None
) -> Facts:
    """The facts of a source. `picture` is its first decoded one, which alone knows its format and which way is up."""
    context, shape = stream.codec_context, picture.shape if picture else None
    width, height = (shape.width, shape.height) if shape else (context.width, context.height)
    aspect = stream.sample_aspect_ratio or context.sample_aspect_ratio
    sar = shape.sar if shape else float(aspect or 1)
    turned = shape.orientation if shape else UPRIGHT
    shown = displayed(width, height, sar, turned.rotation)
    main = timeline.main
    # Rounded, because a rule's threshold is a round number and a sum of timestamps is not.
    fps = round(main.average, 6) if main and timeline.pictures > 1 else guessed_rate(stream)
    seconds = (
        round(sum(run.seconds for run in timeline.rate_runs), 6) if timeline.pictures > 1 else timeline.pictures / fps
    )
    return Facts(
        container=container.format.name,
        codec=context.name,
        profile=str(context.profile or ""),
        pix_fmt=picture.frame.format.name if picture else str(context.pix_fmt or ""),
        coded_width=width,
        coded_height=height,
        width=max(1, round(shown[0])),
        height=max(1, round(shown[1])),
        rotation=turned.rotation,
        mirrored=turned.mirrored,
        sar=sar,
        fps=fps,
        variable_rate=main is not None and main.ticks is None,
        duration_s=seconds,
        frames=timeline.packets,
        bit_rate=timeline.bytes * 8 / seconds if seconds else 0.0,
    )
