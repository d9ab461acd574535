"""The cutting pass: a second decode, of kept clips only, that yields them as H.264 MP4 files (report, section 2.1.1).

Runs inside the sandbox on one segment of a source. It goes forward through the source and jumps to a key frame only
where that leaves frames out, so no frame of a segment is decoded twice. Clips start on exactly the frame that was
measured; they have a constant rate, upright pictures, square pixels and no borders.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import av
import numpy as np

from curation.contract import Clip, Facts, Reason
from curation.media.encode import Mp4, repack
from curation.media.found import Tally
from curation.media.frames import Decoder, check_size, planar
from curation.media.geometry import Cadence, cadence
from curation.media.plan import Encode, MediaPlan
from curation.media.probe import Timeline, Unfit, describe, open_media, scan


def cut(
    path: Path,
    clips: Sequence[Clip],
    plan: MediaPlan,
    encode: Encode,
    max_pixels: int,
    progress: Callable[[int], None] = lambda frames: None,
) -> Iterator[tuple[Clip, bytes] | Tally]:
    """Yield each clip with its MP4 bytes, in order of time, then the tally.

    `clips` come from one source and were measured with the same `plan`. Raises `Unfit(BROKEN)` where a frame that was
    measured cannot be decoded again.
    """
    with open_media(path) as (container, stream):
        timeline = scan(container, stream, progress)
    with open_media(path, plan.hwaccel) as (container, stream):
        check_size(stream, max_pixels)
        rough = describe(container, stream, timeline)
        decoder = Decoder(container, stream, timeline, 1 / rough.nominal_fps)
        reel = _Reel(decoder, timeline, 0.5 / rough.nominal_fps)
        for clip in sorted(clips, key=lambda c: c.start_s):
            reel.advance(clip.start_s)
            if reel.head is None:
                raise Unfit(Reason.BROKEN, clip.start_s, "the clip's first frame could not be decoded again")
            facts = describe(container, stream, timeline, reel.head[1])
            out = Mp4(clip, encode, reel.head[1])
            for frame in _ticks(reel, clip, facts, cadence(facts, plan.clips.max_fps), progress):
                out.add(frame)
            yield clip, out.close()
        yield decoder.tally


class _Reel:
    """The decoder with one frame of sight: `head` is the next frame as (seconds from the first frame, frame).

    A frame is decoded when it is looked at, not before: what follows a segment is another worker's.
    """

    def __init__(self, decoder: Decoder, timeline: Timeline, half: float) -> None:
        self.decoder, self._timeline, self._half = decoder, timeline, half
        self._frames = iter(decoder)
        self._head: tuple[float, av.VideoFrame] | None = None
        self._at = -np.inf

    @property
    def head(self) -> tuple[float, av.VideoFrame] | None:
        """The next frame, or None after the last one."""
        if self._head is None and (found := next(self._frames, None)) is not None:
            self._at = found[0] - self._timeline.first_s
            self._head = (self._at, found[1])
        return self._head

    def drop(self) -> None:
        """Go past the head."""
        self._head = None

    def advance(self, start_s: float) -> None:
        """Make the frame shown at `start_s` the head: by a jump to a key frame where that skips frames."""
        keys = self._timeline.key_times
        before = keys[keys <= start_s + self._half]
        if not self._timeline.by_order and len(before) and before[-1] > max(self._at, 0.0) + 2 * self._half:
            self.decoder.seek(self._timeline.first_s + float(before[-1]))
            self._frames = iter(self.decoder)
            self._head = None
        while self.head is not None and self.head[0] < start_s - self._half:
            self.drop()


def _ticks(
    reel: _Reel, clip: Clip, facts: Facts, pace: Cadence, progress: Callable[[int], None]
) -> Iterator[av.VideoFrame]:
    """The clip's frames at its constant rate: exactly `clip.frames`, whole source frames dropped or repeated."""
    emitted = taken = 0
    first_tick: int | None = None
    last: av.VideoFrame | None = None
    while emitted < clip.frames and reel.head is not None:
        time, frame = reel.head
        tick = pace.tick(taken, time)
        first_tick = tick if first_tick is None else first_tick
        if tick - first_tick >= clip.frames:
            break
        while last is not None and emitted < tick - first_tick:
            yield last
            emitted += 1
        if emitted == tick - first_tick:
            last = repack(planar(frame), clip, facts)
            yield last
            emitted += 1
        taken += 1
        reel.drop()
        progress(reel.decoder.tally.decoded)
    while last is not None and emitted < clip.frames:
        yield last
        emitted += 1
