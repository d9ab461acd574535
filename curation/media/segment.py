"""One segment of a source under measurement: pictures that go on with each other, one geometry, one rate.

Part of the measuring pass, which begins a new segment wherever the material breaks. A boundary between shots is known
only some frames later (the detector's lookahead), so frames wait in a short queue and are measured once no boundary can
come before them.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterator

import av
import numpy as np

from curation.contract import Ending, Facts, Reason, Verdict
from curation.media.clip_builder import OpenClip, Waiting
from curation.media.frames import Picture, Planes, planes
from curation.media.pictures.colour import refusal
from curation.media.pictures.develop import Conversion, Development
from curation.media.pictures.fields import Fields
from curation.media.pictures.small import small_bgr
from curation.media.plan import MediaPlan
from curation.media.results import ClipMeasure
from curation.media.shots.base import Boundary, ShotDetector
from curation.media.shots.scene_score import SceneScore
from curation.media.shots.table import make
from curation.media.stream.rates import RateRun, cadence
from curation.media.stream.timeline import Timeline

_NO_GAP = 1.5
"""Intervals from one picture to the next within which none was lost."""
MIN_SIDE = 16
"""A smaller picture is one macroblock or less: nothing to measure, and nothing that H.264 encodes well."""


class Segment:
    """Takes pictures in order and yields finished clips. `shot`: the number of its first shot."""

    def __init__(
        self,
        facts: Facts,
        timeline: Timeline,
        plan: MediaPlan,
        first: Picture,
        shot: int = 0,
        development: Development | None = None,
    ) -> None:
        self._facts, self._timeline, self._plan = facts, timeline, plan
        self._run: RateRun = timeline.run_of(first.index)
        self._cadence = cadence(self._run, plan.clips, plan.rules.min_fps)
        self._scene = SceneScore()
        self._detector: ShotDetector = make(plan.shots.detector, plan.shots.options, self._run.rate)
        self._delay = self._detector.lookahead + plan.shots.trim_frames
        self._development = development or Development()
        light = self._development.light(first.frame)
        self._conversion = Conversion.of(light, self._development.parity)
        self._fields = Fields(self._run.rate) if self._development.parity is None else None
        self._developing: deque[Picture] = deque()
        self._queue: deque[Waiting] = deque()
        self._boundaries: deque[Boundary] = deque()
        self._first, self._next = first.index, first.index
        self._start_next: int | None = first.index
        self._shot_start = first.index
        self._clip: OpenClip | None = None
        self.refused = refused_by(facts, self._run.average, self._run.rate, plan) or refusal(light, plan.clips.hdr)
        self.seconds = 0.0
        self.shot = shot
        self.longest_s = 0.0

    def push(self, picture: Picture) -> Iterator[ClipMeasure]:
        """The next picture: its number is one more than the last one's. Raises `Interlaced` once that is known."""
        self._developing.append(picture)
        for frame in self._development.push(picture.frame):
            yield from self._take(self._developing.popleft(), frame)

    def finish(self, ending: Ending) -> Iterator[ClipMeasure]:
        """No picture goes on with the last one, for this reason."""
        for frame in self._development.flush():
            yield from self._take(self._developing.popleft(), frame)
        self._announce(self._detector.finish())
        while self._queue:
            yield from self._settle(self._queue.popleft())
        yield from self._close(self._next, ending)
        self._end_shot(self._next)

    def _take(self, picture: Picture, frame: av.VideoFrame) -> Iterator[ClipMeasure]:
        yuv = planes(frame)
        if self._fields is not None:
            self._fields.push(yuv[0], picture.frame.interlaced_frame)
        self._announce(self._detector.push(self._scene.push(*yuv), self._small(yuv)))
        self._queue.append(Waiting(picture.index, picture.time_s, picture.check, frame, yuv))
        self._next = picture.index + 1
        while len(self._queue) > self._delay:
            yield from self._settle(self._queue.popleft())

    def _small(self, yuv: Planes) -> np.ndarray | None:
        wanted = self._detector.wants_picture
        return small_bgr(*yuv, width=wanted[0], height=wanted[1]) if wanted else None

    def _announce(self, boundaries: list[Boundary]) -> None:
        trim, first = self._plan.shots.trim_frames, self._first
        self._boundaries.extend(Boundary(max(first, first + b.end - trim), first + b.start + trim) for b in boundaries)

    def _settle(self, waiting: Waiting) -> Iterator[ClipMeasure]:
        """Measure a frame whose shot is certain."""
        while self._boundaries and waiting.index >= self._boundaries[0].end:
            yield from self._close(waiting.index, Ending.SHOT)
            boundary = self._boundaries.popleft()
            self._end_shot(boundary.end)
            self._start_next = self._shot_start = boundary.start
        tick = self._cadence.tick(waiting.index)
        if self._clip is not None and self._clip.is_full(tick):
            yield from self._close(waiting.index, Ending.LENGTH)
        if self._clip is None:
            self._open(waiting, tick)
        if self._clip is not None:
            self._clip.push(tick, waiting)

    def _open(self, waiting: Waiting, tick: int) -> None:
        """Begin a clip with this frame, unless it lies between two shots or between two frames of the cadence."""
        if self.refused is not None or self._start_next is None or waiting.index < self._start_next:
            return
        if self._cadence.leads(waiting.index):
            start = 0 if self._timeline.by_order else self._timeline.start_before(waiting.index)
            key_s = float(self._timeline.times[start])
            self._clip = OpenClip(self._facts, self._plan, self._cadence, self.shot, tick, key_s, self._conversion.text)

    def _close(self, end_frame: int, ending: Ending) -> Iterator[ClipMeasure]:
        if self._clip is not None:
            measured = self._clip.close(end_frame, self._end_s(end_frame), ending)
            self._clip = None
            if measured is not None:
                yield measured

    def _end_s(self, end_frame: int) -> float:
        """When the last picture before `end_frame` ends: with the next one, or where a gap follows after its time."""
        times = self._timeline.times
        last = float(times[end_frame - 1])
        step = float(times[end_frame]) - last if end_frame < len(times) else math.inf
        return last + (step if step <= _NO_GAP * self._run.interval else self._run.interval)

    def _end_shot(self, end_frame: int) -> None:
        if end_frame > self._shot_start:
            times = self._timeline.times
            seconds = float(times[end_frame - 1] - times[self._shot_start]) + self._run.interval
            self.seconds += seconds
            if self.refused is None:
                self.longest_s = max(self.longest_s, seconds)
        if self._fields is not None:
            self._fields.end_shot()
        self.shot += 1


def refused_by(facts: Facts, average: float, rate: float, plan: MediaPlan) -> Verdict | None:
    """The rule on a source that a segment of it breaks. `average`, `rate`: pictures a second."""
    rules = plan.rules
    if not rules.min_aspect <= facts.aspect <= rules.max_aspect:
        return Verdict(Reason.BAD_ASPECT, facts.aspect, f"{facts.width}x{facts.height} as displayed")
    if max(average, rate) < rules.min_fps:
        return Verdict(Reason.LOW_FPS, max(average, rate), f"{max(average, rate):.3g} pictures a second")
    if min(facts.coded_width, facts.coded_height) < MIN_SIDE:
        return Verdict(Reason.NO_CLIP, detail=f"{facts.coded_width}x{facts.coded_height} pixels")
    return None
