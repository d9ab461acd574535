"""Videos that say what their light is in the stream, in the container alone, or in neither. The pictures stay.

`stream` writes tags into the bitstream (ffmpeg's metadata filters), `container` writes others around it.
"""

from __future__ import annotations

import subprocess
from pathlib import Path

import av
import imageio_ffmpeg

Tags = tuple[int, int, int, int]
"""Primaries, transfer, matrix, range: numbers of ITU-T H.273; range 1 limited, 2 full, 0 unsaid."""

_FILTERS = {
    "h264": "h264_metadata=colour_primaries={0}:transfer_characteristics={1}:matrix_coefficients={2}",
    "hevc": "hevc_metadata=colour_primaries={0}:transfer_characteristics={1}:matrix_coefficients={2}",
    "av1": "av1_metadata=color_primaries={0}:transfer_characteristics={1}:matrix_coefficients={2}",
}
_RANGE = {"h264": "video_full_range_flag={}", "hevc": "video_full_range_flag={}", "av1": "color_range={}"}
_RANGES = {"h264": {1: "0", 2: "1"}, "hevc": {1: "0", 2: "1"}, "av1": {1: "tv", 2: "pc"}}


def stream(source: Path, target: Path, codec: str, tags: Tags) -> Path:
    """`source` with these tags in its stream. A range of 0 leaves the stream's as it is."""
    filters = _FILTERS[codec].format(*tags)
    if tags[3]:
        filters += ":" + _RANGE[codec].format(_RANGES[codec][tags[3]])
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-y", "-v", "error", "-i", str(source), "-c", "copy"]
    done = subprocess.run([*command, "-bsf:v", filters, str(target)], capture_output=True)
    assert done.returncode == 0, done.stderr.decode()
    return target


def container(source: Path, target: Path, tags: Tags) -> Path:
    """The packets of `source` in a container (by the name's ending) that says these tags, whatever the stream says."""
    with av.open(str(source)) as one, av.open(str(target), "w") as other:
        video = one.streams.video[0]
        copy = other.add_stream_from_template(video, opaque=True)
        context = copy.codec_context
        context.color_primaries, context.color_trc, context.colorspace, context.color_range = tags
        for packet in one.demux(video):
            if packet.size:
                packet.stream = copy
                other.mux(packet)
    return target
