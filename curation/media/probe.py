"""Opening untrusted media and reading its facts: containers and protocols allowed, packet timestamps, sizes.

First step of both passes, inside the sandbox. `open_media` is the only place that opens a container. `scan` reads all
packets without decoding one: exact duration, rate and bit rate, whatever the header claims.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import av
import av.error
import numpy as np
from av.codec.hwaccel import HWAccel
from av.container import InputContainer
from av.stream import Disposition
from av.video.stream import VideoStream

from curation.contract import Facts, Reason, Verdict
from curation.media.geometry import displayed
from curation.media.refusal import raw_format, refusal

DEMUXERS = (
    "mov mp4 m4a 3gp 3g2 mj2 matroska webm avi mpegts mpegtsraw mpeg mpegvideo flv live_flv mxf asf rm ogg ivf h264 "
    "hevc obu m4v dv vc1 swf nut gxf mjpeg mpjpeg yuv4mpegpipe"
).split()
"""Formats that carry their own media. Playlists (hls, dash, concat) and image sequences are not among them."""

_COUNTED = "mov"
"""The container whose header counts real frames; AVI's count includes repeats that have no packet."""

_OPTIONS = {"format_whitelist": ",".join(DEMUXERS), "protocol_whitelist": "file", "enable_drefs": "0"}


class Unfit(Exception):
    """Raised inside the passes to end a video with a verdict."""

    def __init__(self, reason: Reason, measured: float | None = None, detail: str = "") -> None:
        super().__init__(reason)
        self.verdict = Verdict(reason, measured, detail)


@dataclass(frozen=True, slots=True)
class Timeline:
    """What the packets of the video stream say. `times` and `key_times` in seconds from the first frame, sorted.

    `by_order`: single packets' presentation times are not to be trusted, so the i-th frame shown has the i-th time.
    """

    times: np.ndarray
    key_times: np.ndarray
    first_s: float
    bytes: int
    packets: int
    announced: int
    untimed: float
    by_order: bool

    def by_frame(self) -> Timeline:
        """The timeline of a field-coded stream, whose packets hold half a frame each."""
        packets, announced = -(-self.packets // 2), -(-self.announced // 2)
        return replace(self, times=self.times[::2], packets=packets, announced=announced)


@contextmanager
def open_media(path: Path, hwaccel: str = "none") -> Iterator[tuple[InputContainer, VideoStream]]:
    """The container and its first real video stream; raises `Unfit` where there is none. One decoder thread.

    `hwaccel`: "cuda" decodes on a GPU, and fails where there is none: no silent way back to the processor.
    """
    if path.stat().st_size == 0:
        raise Unfit(Reason.EMPTY)
    try:
        device = None if hwaccel == "none" else HWAccel(device_type=hwaccel, allow_software_fallback=False)
        container = av.open(str(path), format=raw_format(path), options=_OPTIONS, hwaccel=device)
    except av.error.MemoryError as error:
        raise MemoryError from error
    except av.error.FFmpegError as error:
        raise Unfit(*refusal(path, error)) from error
    with container:
        streams = [s for s in container.streams.video if not s.disposition & Disposition.attached_pic]
        if not streams:
            raise Unfit(Reason.NO_VIDEO)
        stream = streams[0]
        if stream.codec_context is None:
            raise Unfit(Reason.UNSUPPORTED_CODEC, detail="no decoder")
        stream.thread_type = "NONE"
        stream.codec_context.thread_count = 1
        yield container, stream


def scan(
    container: InputContainer, stream: VideoStream, progress: Callable[[int], None] = lambda packets: None
) -> Timeline:
    """Read every packet of `stream`. Leaves the container at its end: open it again to decode."""
    base = float(stream.time_base or 1)
    stamps: list[int] = []
    keys: list[int] = []
    size = packets = untimed = hidden = 0
    reordered = False
    try:
        for packet in container.demux(stream):
            if packet.is_discard:
                hidden += 1  # an edit list leaves it out
            if packet.size == 0 or packet.is_discard:
                continue
            packets += 1
            progress(packets)
            size += packet.size
            stamp = packet.pts if packet.pts is not None else packet.dts
            if stamp is None:
                untimed += 1
                continue
            stamps.append(stamp)
            reordered = reordered or packet.pts != packet.dts
            if packet.is_keyframe:
                keys.append(stamp)
    except av.error.FFmpegError:
        pass  # a container torn in the middle: what was read before counts, and `announced` tells how much is missing
    times = np.unique(np.array(stamps, np.int64)) * base
    first = float(times[0]) if len(times) else 0.0
    repeated = len(stamps) - len(times)
    return Timeline(
        times=times - first,
        key_times=np.unique(np.array(keys, np.int64)) * base - first,
        first_s=first,
        bytes=size,
        packets=packets,
        announced=max(packets, stream.frames - hidden) if _COUNTED in container.format.name else packets,
        untimed=(untimed + repeated) / packets if packets else 0.0,
        # AVI has no presentation times; and some writers store decoding times in their place.
        by_order=container.format.name == "avi" or (stream.codec_context.has_b_frames and not reordered),
    )


def rates(timeline: Timeline, guessed: float) -> tuple[float, float, bool, float]:
    """Average fps, nominal fps, whether the rate varies, and the duration in seconds.

    A stream without timestamps gets `guessed`, the rate that the codec announces.
    """
    times = timeline.times
    if len(times) < 2:
        return guessed, guessed, False, timeline.packets / guessed if guessed else 0.0
    steps = np.diff(times)
    nominal = 1.0 / float(np.median(steps))
    span = float(times[-1])
    average = (len(times) - 1) / span
    irregular = float(np.mean(np.abs(steps * nominal - 1) > 0.25))
    if irregular <= 0.01 and abs(average / nominal - 1) < 0.1:
        nominal = average  # the median of millisecond timestamps is coarse, the average is not
        return average, nominal, False, span + 1 / nominal
    return average, nominal, True, span + 1 / nominal


def describe(
    container: InputContainer, stream: VideoStream, timeline: Timeline, first: av.VideoFrame | None = None
) -> Facts:
    """The facts of a source. `first` is its first decoded frame, which alone knows rotation and pixel format."""
    context = stream.codec_context
    width = first.width if first is not None else context.width
    height = first.height if first is not None else context.height
    rotation = (-int(first.rotation) if first is not None else 0) % 360 // 90 * 90
    aspect = stream.sample_aspect_ratio or context.sample_aspect_ratio
    sar = float(aspect) if aspect else 1.0
    guessed = float(stream.guessed_rate or stream.average_rate or context.framerate or 25)
    if first is not None and first.interlaced_frame and abs(rates(timeline, guessed)[1] / guessed - 2) < 0.05:
        timeline = timeline.by_frame()
    # Rounded, because a rule's threshold is a round number and a sum of timestamps is not.
    fps, nominal, variable, duration = (round(value, 6) for value in rates(timeline, guessed))
    shown = displayed(width, height, sar, rotation)
    return Facts(
        container=container.format.name,
        codec=context.name,
        profile=str(context.profile or ""),
        pix_fmt=first.format.name if first is not None else str(context.pix_fmt or ""),
        coded_width=width,
        coded_height=height,
        width=round(shown[0]),
        height=round(shown[1]),
        rotation=rotation,
        sar=sar,
        fps=fps,
        nominal_fps=nominal,
        variable_rate=bool(variable),
        duration_s=duration,
        frames=timeline.packets,
        bit_rate=timeline.bytes * 8 / duration if duration else 0.0,
        first_s=timeline.first_s,
    )
