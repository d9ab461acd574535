"""The cutting pass: a second decode, of kept clips only, that yields them as H.264 MP4 files (report, section 2.1.1).

Runs inside the sandbox on one segment of a source. Every clip is proven: the checksums of its first, last and all its
source frames are those that the measuring pass left, or there is no clip. Clips have a constant rate, upright pictures,
square pixels and no borders. Their sound comes along where the recipe keeps it (`sound`). An image is cut as `still`
says.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path

import av

from curation.contract import Clip, Facts, Kind, Reason
from curation.media.animation import as_film
from curation.media.encode import Mp4, repack
from curation.media.frames import Picture, checksum_of
from curation.media.pictures.develop import Conversion, Development
from curation.media.plan import Encode, MediaPlan
from curation.media.probe import Unfit, describe
from curation.media.reel import Reel
from curation.media.results import Tally
from curation.media.sound.track import Sound, Track
from curation.media.still.measure import cut_image
from curation.media.stream.rates import Cadence, cadence


def cut(
    path: Path,
    clips: Sequence[Clip],
    plan: MediaPlan,
    encode: Encode,
    max_pixels: int,
    progress: Callable[[int], None] = lambda frames: None,
) -> Iterator[tuple[Clip, bytes] | Tally]:
    """Yield each clip with its bytes (MP4, of an image JPEG or PNG), in order of time, then the tally.

    `clips` come from one source and were measured with the same `plan`. Raises `Unfit(OTHER_FRAMES)` where the frames
    that were measured cannot be decoded again.
    """
    if any(clip.kind is Kind.IMAGE for clip in clips):
        for clip in clips:
            yield clip, cut_image(path, clip, encode, max_pixels)
        yield Tally(decoded=len(clips))
        return
    with ExitStack() as opened:
        film = opened.enter_context(as_film(path, max_pixels, progress))
        path, plan = film.path, film.plan(plan)
        reel = opened.enter_context(Reel(path, plan, max_pixels, progress))
        sound: Sound | None = None
        if encode.sound == "aac":
            sound = opened.enter_context(Sound(path, reel.timeline, lambda: progress(reel.tally.decoded)))
        for clip in sorted(clips, key=lambda c: c.start_frame):
            yield clip, _made(reel, clip, plan, encode, sound)
        yield reel.tally


def _made(reel: Reel, clip: Clip, plan: MediaPlan, encode: Encode, sound: Sound | None) -> bytes:
    if clip.end_frame > reel.timeline.pictures:
        raise Unfit(Reason.OTHER_FRAMES, None, f"frame {clip.end_frame - 1} is not in the file")
    pace = cadence(reel.timeline.run_of(clip.start_frame), plan.clips, plan.rules.min_fps)
    parity = Conversion.parse(clip.conversion).parity
    track = sound.of(clip, pace) if sound is not None else None
    for _ in reel.approaches(max(0, clip.start_frame - 1) if parity else clip.start_frame):
        development = Development(parity, reel.told)
        if (first := _led_in(reel, clip, development)) is not None:
            facts = describe(reel.container, reel.stream, reel.timeline, first)
            taken = _Taken(reel, clip, development)
            if (data := _encoded(taken, clip, pace, facts, encode, track)) is not None:
                return data
    # Damage may decode otherwise each time: then it is the data's.
    hurt = reel.tally.damaged or reel.tally.suspect
    detail = f"frames {clip.start_frame} to {clip.end_frame - 1} come out otherwise, tried from the start"
    raise Unfit(Reason.BROKEN if hurt else Reason.OTHER_FRAMES, None, detail)


def _led_in(reel: Reel, clip: Clip, development: Development) -> Picture | None:
    """The clip's first source frame, where that is the head; None where another is.

    What stands before it in the same segment goes into the development: a deinterlaced picture is made of both.
    """
    before = reel.head
    if before is not None and before.index < clip.start_frame:
        reel.drop()
        if reel.head is not None and reel.head.broken_by is None:
            development.push(before.frame)
    head = reel.head
    same = head is not None and (head.index, head.check) == (clip.start_frame, clip.first_check)
    return head if same else None


class _Taken:
    """The clip's source frames, developed, with their numbers. `checks`: the checksum of each as decoded, so far."""

    def __init__(self, reel: Reel, clip: Clip, development: Development) -> None:
        self._reel, self._clip, self._development = reel, clip, development
        self.checks: list[int] = []

    def __iter__(self) -> Iterator[tuple[int, av.VideoFrame]]:
        start, reel = self._clip.start_frame, self._reel
        given = 0
        while len(self.checks) < self._clip.end_frame - start and (head := reel.head) is not None:
            self.checks.append(head.check)
            for frame in self._made_of(head):
                yield start + given, frame
                given += 1
            reel.drop()
        for frame in self._rest():
            if given < len(self.checks):
                yield start + given, frame
                given += 1

    def _made_of(self, picture: Picture) -> list[av.VideoFrame]:
        """What is ready once `picture` is pushed; not what led in to the clip's first frame."""
        made = self._development.push(picture.frame)
        return [frame for frame in made if len(self.checks) > 1 or self._development.parity is None]

    def _rest(self) -> list[av.VideoFrame]:
        """What is held back: it is made from the picture after the clip, where one goes on with it."""
        if self._development.parity is None:
            return []
        after = self._reel.head
        made = self._development.push(after.frame) if after is not None and after.broken_by is None else []
        return made + self._development.flush()

    def holds(self, clip: Clip) -> bool:
        """Whether the frames were those that were measured."""
        whole = len(self.checks) == clip.end_frame - clip.start_frame
        return whole and self.checks[-1] == clip.last_check and checksum_of(self.checks) == clip.all_check


def _encoded(
    taken: _Taken, clip: Clip, pace: Cadence, facts: Facts, encode: Encode, sound: Track | None
) -> bytes | None:
    """The clip's file; None where other frames came than were measured."""
    out: Mp4 | None = None
    for frame in _ticks(iter(taken), clip, pace):
        out = out or Mp4(clip, encode, frame, sound)
        out.add(repack(frame, clip, facts))
    return out.close() if out and taken.holds(clip) else None


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
