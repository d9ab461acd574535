"""Encoding one clip: frames in, the bytes of an MP4 file out. Also how a source frame becomes a clip's picture.

Used by the cutting pass only. The moov box comes first in the file, so that readers need no seek to its end.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from fractions import Fraction

import av
import numpy as np
from av.packet import Packet
from av.video.frame import PictureType

from curation.contract import Clip, Crop, Facts
from curation.media.frames import planes
from curation.media.pictures.colour import copy_tags
from curation.media.pictures.geometry import Plane, fit, upright, view
from curation.media.plan import Encode
from curation.media.sound.track import Track, prepare

_MOOV_BASE, _MOOV_PER_FRAME = 4096, 28
"""Room kept for the moov box: its tables grow by at most this many bytes a frame (sizes, times, chunk offsets)."""


class Mp4:
    """One H.264 stream in an MP4 file in memory, and its sound where it has one.

    `like` is one of its pictures: its primaries, transfer, matrix and range go into the stream and into the `colr` box.
    """

    def __init__(self, clip: Clip, encode: Encode, like: av.VideoFrame, sound: Track | None = None) -> None:
        self._buffer = io.BytesIO()
        moov = _MOOV_BASE + _MOOV_PER_FRAME * clip.frames
        if sound is not None:
            moov += _MOOV_BASE + _MOOV_PER_FRAME * len(sound.packets)
        options = {"moov_size": str(moov)}
        if sound is not None:
            # What is shown of each stream is counted in this: by the muxer's own choice, of an odd rate milliseconds,
            # the sound ends up to one before its pictures.
            options["movie_timescale"] = str(sound.form.rate)
        self._container = av.open(self._buffer, "w", format="mp4", options=options)
        assert clip.fps is not None, "an image is no film"
        rate = Fraction(clip.fps).limit_denominator(1001)
        stream = self._container.add_stream(encode.codec, rate=rate, options=_options(encode))
        stream.width, stream.height, stream.pix_fmt = clip.width, clip.height, "yuv420p"
        stream.time_base = 1 / rate
        context = stream.codec_context
        context.thread_count = 1
        copy_tags(like, context)
        self._stream, self._tick, self._base = stream, 0, 1 / rate
        self._sound = self._with_sound(sound) if sound is not None else iter(())

    def add(self, frame: av.VideoFrame) -> None:
        """The clip's next frame, at the clip's size, 8-bit 4:2:0."""
        frame.pts, frame.time_base = self._tick, self._base
        frame.pict_type = PictureType.NONE  # the source's own choice of key frames is not the clip's
        self._tick += 1
        self._container.mux(self._stream.encode(frame))
        self._mux_sound(self._tick * self._base)

    def close(self) -> bytes:
        """Finish the file and give its bytes."""
        self._mux_sound(None)
        self._container.mux(self._stream.encode(None))
        self._container.close()
        return self._buffer.getvalue()

    def _with_sound(self, sound: Track) -> Iterator[Packet]:
        """Add a stream for sound, and give its packets."""
        stream = self._container.add_stream("aac", rate=sound.form.rate)
        prepare(stream.codec_context, sound.form)
        if sound.silence is not None:
            self._container.metadata["comment"] = sound.silence
        for packet in sound.packets:
            packet.stream = stream
        return iter(sound.packets)

    def _mux_sound(self, until_s: Fraction | None) -> None:
        """The sound that begins before `until_s`, or all of it: it lies in the file beside its pictures."""
        for packet in self._sound:
            self._container.mux(packet)
            assert packet.pts is not None and packet.time_base is not None
            if until_s is not None and packet.pts * packet.time_base >= until_s:
                return


def _options(encode: Encode) -> dict[str, str]:
    if encode.codec == "h264_nvenc":
        return {"preset": encode.preset, "rc": "vbr", "cq": str(encode.crf)}
    return {"preset": encode.preset, "crf": str(encode.crf)}


def repack(frame: av.VideoFrame, clip: Clip, facts: Facts) -> av.VideoFrame:
    """The clip's picture of a 4:2:0 source frame: cropped, upright, scaled; the frame itself where nothing changes."""
    whole = Crop(0, 0, frame.width, frame.height)
    plain = facts.rotation == 0 and not facts.mirrored
    # A crop of pixels that are no squares may come to the very size of the whole frame.
    if plain and clip.crop == whole and (clip.width, clip.height) == (frame.width, frame.height):
        return frame
    out = av.VideoFrame(clip.width, clip.height, "yuv420p")
    for index, plane in enumerate(planes(frame)):
        part = 1 if index == 0 else 2
        turned = upright(view(plane, clip.crop, part), facts.rotation, facts.mirrored)
        picture = fit(turned, clip.width // part, clip.height // part)
        _fill(out, index, picture)
    copy_tags(frame, out)
    return out


def _fill(frame: av.VideoFrame, index: int, picture: Plane) -> None:
    plane = frame.planes[index]
    rows = np.frombuffer(memoryview(plane), np.uint8).reshape(-1, plane.line_size)
    rows[: plane.height, : plane.width] = picture
