"""The cutting pass: a second decode, of kept clips only, that yields them as H.264 MP4 files (report, section 2.1.1).

Runs inside the sandbox on one segment of a source. Every clip is proven: the checksums of its first, last and all its
source frames are those that the measuring pass left, or there is no clip. Clips have a constant rate, upright pictures,
square pixels and no borders.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import av

from curation.contract import Clip, Reason
from curation.media.encode import Mp4, repack
from curation.media.found import Tally
from curation.media.frames import Picture, checksum_of, planar
from curation.media.plan import Encode, MediaPlan
from curation.media.probe import Unfit, describe
from curation.media.rates import Cadence, cadence
from curation.media.reel import Reel


def cut(
    path: Path,
    clips: Sequence[Clip],
    plan: MediaPlan,
    encode: Encode,
    max_pixels: int,
    progress: Callable[[int], None] = lambda frames: None,
) -> Iterator[tuple[Clip, bytes] | Tally]:
    """Yield each clip with its MP4 bytes, in order of time, then the tally.

    `clips` come from one source and were measured with the same `plan`. Raises `Unfit(OTHER_FRAMES)` where the frames
    that were measured cannot be decoded again.
    """
    with Reel(path, plan, max_pixels, progress) as reel:
        for clip in sorted(clips, key=lambda c: c.start_frame):
            yield clip, _made(reel, clip, plan, encode)
        yield reel.tally


def _made(reel: Reel, clip: Clip, plan: MediaPlan, encode: Encode) -> bytes:
    if clip.end_frame > reel.timeline.pictures:
        raise Unfit(Reason.OTHER_FRAMES, None, f"frame {clip.end_frame - 1} is not in the file")
    pace = cadence(reel.timeline.run_of(clip.start_frame), plan.clips, plan.rules.min_fps)
    for _ in reel.approaches(clip.start_frame):
        head = reel.head
        if head is None or (head.index, head.check) != (clip.start_frame, clip.first_check):
            continue
        if (data := _encoded(reel, head, clip, pace, encode)) is not None:
            return data
    raise Unfit(Reason.OTHER_FRAMES, None, f"frames {clip.start_frame} to {clip.end_frame - 1}, tried from the start")


def _encoded(reel: Reel, first: Picture, clip: Clip, pace: Cadence, encode: Encode) -> bytes | None:
    """The clip's file from the head on; None where other frames come than were measured."""
    facts = describe(reel.container, reel.stream, reel.timeline, first)
    checks: list[int] = []
    out: Mp4 | None = None
    for frame in _ticks(_taken(reel, clip, checks), clip, pace):
        out = out or Mp4(clip, encode, frame)
        out.add(repack(frame, clip, facts))
    same = len(checks) == clip.end_frame - clip.start_frame and checksum_of(checks) == clip.all_check
    return out.close() if out and same and checks[-1] == clip.last_check else None


def _taken(reel: Reel, clip: Clip, checks: list[int]) -> Iterator[tuple[int, av.VideoFrame]]:
    """The clip's source frames with their numbers; their checksums go into `checks`."""
    while len(checks) < clip.end_frame - clip.start_frame and (head := reel.head) is not None:
        checks.append(head.check)
        yield head.index, planar(head.frame)
        reel.drop()


def _ticks(frames: Iterator[tuple[int, av.VideoFrame]], clip: Clip, pace: Cadence) -> Iterator[av.VideoFrame]:
    """The clip's frames at its constant rate: exactly `clip.frames`, whole source frames dropped or repeated."""
    first, emitted = pace.tick(clip.start_frame), 0
    last: av.VideoFrame | None = None
    for index, frame in frames:
        tick = pace.tick(index) - first
        while last is not None and emitted < min(tick, clip.frames):
            yield last
            emitted += 1
        if emitted == tick < clip.frames:
            yield frame
            emitted, last = emitted + 1, frame
    while last is not None and emitted < clip.frames:
        yield last
        emitted += 1
