"""The sound of one clip as AAC: as long as its pictures, in sync with the first one, silent where there is none.

    SoundPackets -> pieces -> Track -> Mp4

Used by the cutting pass, inside the sandbox. The encoder's delay (1024 samples of priming) is taken back by the edit
list that the MP4 muxer writes: the first sample that is heard is the one that belongs to the first picture.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import cast

import av
import numpy as np
from av.audio.codeccontext import AudioCodecContext
from av.audio.frame import AudioFrame
from av.audio.stream import AudioStream
from av.codec.context import Flags
from av.packet import Packet

from curation.contract import Clip
from curation.media.probe import open_media
from curation.media.sound.packets import SoundPackets, moment_of
from curation.media.sound.samples import Form, Window, pieces
from curation.media.stream.rates import Cadence
from curation.media.stream.timeline import Timeline

_BIT_RATE = 96_000
"""Bits a second of one channel."""

_UNHEARD_S = 0.005
"""A clip that is played so little slower than its source that sound and picture end within this is not stretched."""

_AT_ONCE = 1 << 16


@dataclass(frozen=True, slots=True)
class Track:
    """Encoded sound. `length` and `sounding` in samples: of the whole, and of what came from the source."""

    form: Form
    packets: tuple[Packet, ...]
    length: int
    sounding: int

    @property
    def silence(self) -> str | None:
        """What the clip's file says of silence that was filled in; None where there is none."""
        missing = (self.length - self.sounding) / self.form.rate
        seconds = self.length / self.form.rate
        return f"silence filled in: {missing:.3f} of {seconds:.3f} s" if missing >= 0.001 else None


class Sound:
    """The sound of a source's clips; a context manager. Ask for clips in their order."""

    def __init__(self, path: Path, timeline: Timeline, progress: Callable[[], None]) -> None:
        self._path, self._timeline = path, timeline
        self._open = ExitStack()
        self._packets = self._open.enter_context(SoundPackets(path, timeline, progress))

    def __enter__(self) -> Sound:
        return self

    def __exit__(self, *exc: object) -> None:
        self._open.close()

    def of(self, clip: Clip, pace: Cadence) -> Track | None:
        """The clip's sound; None where the source has none in the clip's time that can be decoded."""
        if self._packets.stream is None:
            return None
        start = moment_of(self._timeline, self._packets.video, clip.start_frame)
        speed = _speed(clip, pace)
        # Of what is not stretched as much is taken as the clip lasts, which is up to `_UNHEARD_S` more than its source.
        packets = self._packets.between(start, float(clip.frames / pace.fps) * speed)
        with open_media(self._path) as (container, _):
            stream = cast(AudioStream, container.streams[self._packets.stream.index])
            encoder: _Encoder | None = None
            for piece in pieces(packets, stream, Window(start.time_s, speed)):
                encoder = encoder or _Encoder(piece.form, round(clip.frames / pace.fps * piece.form.rate))
                encoder.put(piece.position, piece.samples)
        return encoder.close() if encoder is not None else None


def _speed(clip: Clip, pace: Cadence) -> float:
    """How fast the clip plays its source: below 1 where a rate a little above the allowed one is played slower."""
    speed = float(pace.fps) / pace.rate
    return speed if abs(1 / speed - 1) * clip.frames / pace.rate > _UNHEARD_S else 1.0


class _Encoder:
    """Takes samples at their places and makes AAC of `length` samples."""

    def __init__(self, form: Form, length: int) -> None:
        self._form, self._length = form, length
        self._at = self._sounding = 0
        self._codec = cast(AudioCodecContext, av.CodecContext.create("aac", "w"))
        prepare(self._codec, form)
        self._made: list[Packet] = []

    def put(self, position: int, samples: np.ndarray) -> None:
        """Samples (channels, count) from `position` on; what lies outside the clip or is there already is left out."""
        samples = samples[:, max(0, self._at - position) :]
        position = max(position, self._at)
        samples = samples[:, : max(0, self._length - position)]
        if samples.shape[1]:
            self._rest(position)
            self._encode(samples)
            self._sounding += samples.shape[1]

    def close(self) -> Track | None:
        """The track; None where nothing sounds."""
        if not self._sounding:
            return None
        self._rest(self._length)
        self._made.extend(self._codec.encode(None))
        return Track(self._form, tuple(self._made), self._length, self._sounding)

    def _rest(self, until: int) -> None:
        """Silence up to sample number `until`."""
        while self._at < until:
            self._encode(np.zeros((self._form.channels, min(_AT_ONCE, until - self._at)), np.float32))

    def _encode(self, samples: np.ndarray) -> None:
        frame = AudioFrame.from_ndarray(np.ascontiguousarray(samples), "fltp", self._form.layout)
        frame.sample_rate, frame.pts, frame.time_base = self._form.rate, self._at, Fraction(1, self._form.rate)
        self._made.extend(self._codec.encode(frame))
        self._at += samples.shape[1]


def prepare(codec: AudioCodecContext, form: Form) -> None:
    """Settings of the AAC encoder. `bitexact` leaves out the library's version, which is not the clip's."""
    codec.sample_rate, codec.layout, codec.format = form.rate, form.layout, "fltp"
    codec.time_base = Fraction(1, form.rate)
    codec.bit_rate = form.channels * min(_BIT_RATE, 6 * form.rate)  # 6144 bits a frame and channel are AAC's most
    codec.flags |= Flags.bitexact
