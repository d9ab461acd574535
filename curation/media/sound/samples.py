"""From packets of sound to samples at their places in a clip: decoded, brought to one form, gaps left open.

Second step of a clip's sound, inside the sandbox. What damage has taken is a gap like any other; it never ends a clip.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import islice
from typing import TypeVar

import av.error
import numpy as np
from av.audio.frame import AudioFrame
from av.audio.resampler import AudioResampler
from av.audio.stream import AudioStream
from av.packet import Packet

T = TypeVar("T")
_Timed = tuple[float | None, AudioFrame]
"""A decoded frame and its time, seconds of the container's clock, where it has one."""

RATES = (8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000)
"""Samples a second that a clip may have; every other rate becomes the last one."""

SLACK_S = 0.015
"""Stamps that stray by less are rounding; by more, there is a gap, or an overlap. Less than one frame of AAC."""

_SIGHT = 16
"""Frames that are looked at to tell a gap from a stray stamp."""

_RATE_LIMITS = (4_000, 768_000)
_MOST_CHANNELS = 64


@dataclass(frozen=True, slots=True)
class Form:
    """What a clip's sound is: samples a second, and "mono" or "stereo"."""

    rate: int
    layout: str

    @property
    def channels(self) -> int:
        return 1 if self.layout == "mono" else 2

    @classmethod
    def of(cls, frame: AudioFrame) -> Form:
        """The source's own rate and channels where a clip may have them; more channels are mixed down to two."""
        rate = frame.sample_rate if frame.sample_rate in RATES else RATES[-1]
        return cls(rate, "mono" if frame.layout.nb_channels == 1 else "stereo")


@dataclass(frozen=True, slots=True)
class Window:
    """What a clip takes of a source's time: from `start_s` on, played `speed` times as fast (near 1)."""

    start_s: float
    speed: float = 1.0


@dataclass(frozen=True, slots=True)
class Piece:
    """Samples (channels, count) float32, within -1 to 1; the first one is the clip's sample number `position`, which is
    negative before the clip.
    """

    form: Form
    position: int
    samples: np.ndarray


def pieces(packets: Sequence[Packet], stream: AudioStream, window: Window) -> Iterator[Piece]:
    """The samples of these packets in the order in which they are decoded; all in the form of the first frame.

    `stream` is of a container opened anew, so that its decoder remembers no other clip.
    """
    form: Form | None = None
    stretch: _Stretch | None = None
    for (time_s, frame), following in _with_following(_frames(packets, stream)):
        form = form or Form.of(frame)
        if stretch is None or not stretch.goes_on_with((time_s, frame), following):
            if stretch is not None:
                yield from stretch.finish()
            begin_s = time_s if time_s is not None else stretch.end_s if stretch is not None else window.start_s
            stretch = _Stretch(form, window, frame, begin_s)
        yield from stretch.push(frame)
    if stretch is not None:
        yield from stretch.finish()


class _Stretch:
    """Frames of one form that follow each other without a gap, resampled as one. `begin_s`: the first one's time."""

    def __init__(self, form: Form, window: Window, first: AudioFrame, begin_s: float) -> None:
        self._form, self._kind, self._begin_s = form, _kind(first), begin_s
        self._source_rate, self._taken = first.sample_rate, 0
        self._played_rate = round(first.sample_rate * window.speed)
        # Channels that are mixed into fewer must not add up to more than full scale.
        mixed = first.layout.nb_channels > form.channels
        options = {"rematrix_maxval": "1.0"} if mixed else None
        self._resampler = AudioResampler("fltp", form.layout, form.rate, options=options)
        self._position = round((begin_s - window.start_s) / window.speed * form.rate)

    @property
    def end_s(self) -> float:
        return self._begin_s + self._taken / self._source_rate

    def goes_on_with(self, head: _Timed, following: Iterable[_Timed]) -> bool:
        """Whether `head` comes right after what was pushed. A stamp that strays while a later one is right again is
        the demuxer's guess, within a packet of several frames, and no gap.
        """
        if head[0] is None:
            return _kind(head[1]) == self._kind
        at_s = self.end_s
        for time_s, frame in (head, *following):
            if _kind(frame) != self._kind:
                return False
            if time_s is not None and abs(time_s - at_s) <= SLACK_S:
                return True
            at_s += frame.samples / self._source_rate
        return False

    def push(self, frame: AudioFrame) -> Iterator[Piece]:
        count = frame.samples
        frame.sample_rate, frame.pts, frame.time_base = self._played_rate, self._taken, Fraction(1, self._played_rate)
        self._taken += count
        yield from self._out(frame)

    def finish(self) -> Iterator[Piece]:
        yield from self._out(None)

    def _out(self, frame: AudioFrame | None) -> Iterator[Piece]:
        for made in _or_none(lambda: self._resampler.resample(frame)) or []:
            if made is None:  # a resampler with nothing to do hands on the end as well
                continue
            samples = np.clip(np.nan_to_num(made.to_ndarray(), nan=0.0, posinf=0.0, neginf=0.0), -1.0, 1.0)
            yield Piece(self._form, self._position, samples)
            self._position += samples.shape[1]


def _with_following(frames: Iterator[_Timed]) -> Iterator[tuple[_Timed, list[_Timed]]]:
    """Each frame with those that come after it, up to `_SIGHT`."""
    sight: deque[_Timed] = deque(islice(frames, _SIGHT))
    while sight:
        yield sight.popleft(), list(sight)
        sight.extend(islice(frames, 1))


def _frames(packets: Sequence[Packet], stream: AudioStream) -> Iterator[_Timed]:
    context, tick = stream.codec_context, float(stream.time_base or 1)
    context.thread_type = "NONE"
    context.thread_count = 1
    for packet in (*packets, None):
        for frame in _or_none(lambda packet=packet: context.decode(packet)) or []:
            if _is_sane(frame):
                yield (frame.pts * tick if frame.pts is not None else None), frame


def _or_none(work: Callable[[], T]) -> T | None:
    """What PyAV gives; None where the data is damaged, over which it raises more than its own errors."""
    try:
        return work()
    except (MemoryError, av.error.MemoryError) as error:
        raise MemoryError from error
    except Exception:
        return None


def _kind(frame: AudioFrame) -> tuple[str, str, int]:
    return frame.format.name, frame.layout.name, frame.sample_rate


def _is_sane(frame: AudioFrame) -> bool:
    """Whether a header that lies about rate or channels would not make a flood of samples."""
    low, high = _RATE_LIMITS
    rate, channels = frame.sample_rate, frame.layout.nb_channels
    return frame.samples > 0 and low <= rate <= high and 1 <= channels <= _MOST_CHANNELS
