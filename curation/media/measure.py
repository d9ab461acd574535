"""The measuring pass: one decode of a source yields its facts, its clips and all their frame measures.

    packets -> Facts -> rules -> frames -> scene scores -> boundaries -> clips -> (motion, sharpness, jitter, samples)

Runs inside the sandbox, before anything is encoded. A boundary is known only some frames later (the detector's
lookahead), so frames wait in a short queue and are measured once no boundary can come before them.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path

import av
import numpy as np

from curation.contract import Facts, Reason
from curation.filters.jitter import small_bgr
from curation.media.found import ClipMeasure, Tally
from curation.media.frames import Decoder, Planes, check_size, planar, planes
from curation.media.geometry import Cadence, cadence
from curation.media.openclip import OpenClip, Waiting
from curation.media.plan import MediaPlan
from curation.media.probe import Timeline, Unfit, describe, open_media, scan
from curation.media.rules import judge
from curation.media.scene import SceneScore
from curation.media.shots import Boundary, ShotDetector, make

MIN_SIDE = 16
"""A smaller picture is one macroblock or less: nothing to measure, and nothing that H.264 encodes well."""


def measure(
    path: Path, plan: MediaPlan, max_pixels: int, progress: Callable[[int], None] = lambda frames: None
) -> Iterator[Facts | ClipMeasure | Tally]:
    """Yield the facts, then each clip as its shot ends, then the tally. Raises `Unfit` with the verdict.

    `progress` is called with the number of frames decoded so far, after each.
    """
    with open_media(path) as (container, stream):
        check_size(stream, max_pixels)
        timeline = scan(container, stream, progress)
        rough = describe(container, stream, timeline)
        if timeline.packets and min(rough.width, rough.height) and judge(rough, timeline, plan.rules):
            yield rough  # a rejected video keeps the facts that it was judged by
        _judge_packets(rough, timeline, plan)
    with open_media(path, plan.hwaccel) as (container, stream):
        check_size(stream, max_pixels)
        rough = describe(container, stream, timeline)
        decoder = Decoder(container, stream, timeline, 1 / rough.nominal_fps)
        frames = iter(decoder)
        first = next(frames, None)
        if first is None:
            raise Unfit(Reason.NO_FRAMES)
        facts = describe(container, stream, timeline, first[1])
        if judge(facts, timeline, plan.rules):
            yield facts
        _judge_packets(facts, timeline, plan)
        if min(facts.coded_width, facts.coded_height) < MIN_SIDE:
            raise Unfit(Reason.NO_CLIP, 0.0, f"a picture of {facts.coded_width}x{facts.coded_height} pixels")
        yield facts
        pass_ = _Pass(facts, plan, first[0])
        yield from pass_.push(*first)
        for time, frame in frames:
            progress(decoder.tally.decoded)
            yield from pass_.push(time, frame)
        yield from pass_.finish()
        _judge_decoding(decoder.tally, facts, plan)
        if not pass_.clips:
            raise Unfit(Reason.NO_CLIP, pass_.longest_s)
        yield decoder.tally


def _judge_packets(facts: Facts, timeline: Timeline, plan: MediaPlan) -> None:
    if verdict := judge(facts, timeline, plan.rules):
        raise Unfit(verdict.reason, verdict.measured, verdict.detail)


def _judge_decoding(tally: Tally, facts: Facts, plan: MediaPlan) -> None:
    share = tally.decoded / facts.frames
    if share < plan.rules.min_decoded:
        raise Unfit(Reason.BROKEN, share, f"{tally.decoded} of {facts.frames} frames could be decoded")
    if tally.unordered / tally.decoded > plan.rules.max_untimed:
        raise Unfit(Reason.BAD_TIMESTAMPS, tally.unordered / tally.decoded)


class _Pass:
    """Takes frames in order and yields finished clips."""

    def __init__(self, facts: Facts, plan: MediaPlan, origin: float) -> None:
        self._facts, self._plan, self._origin = facts, plan, origin
        self._cadence: Cadence = cadence(facts, plan.clips.max_fps)
        self._scene = SceneScore()
        self._detector: ShotDetector = make(plan.shots.detector, plan.shots.options, facts.nominal_fps)
        self._delay = self._detector.lookahead + plan.shots.trim_frames
        self._queue: deque[Waiting] = deque()
        self._boundaries: deque[Boundary] = deque()
        self._frames = 0
        self._shot = 0
        self._start_next: int | None = 0
        self._clip: OpenClip | None = None
        self._key_s = 0.0
        self.clips = 0
        self.longest_s = 0.0

    def push(self, time: float, frame: av.VideoFrame) -> Iterator[ClipMeasure]:
        frame = planar(frame)
        if self._frames and (frame.width, frame.height) != (self._facts.coded_width, self._facts.coded_height):
            frame = frame.reformat(width=self._facts.coded_width, height=self._facts.coded_height, threads=1)
        yuv = planes(frame)
        self._announce(self._detector.push(self._scene.push(*yuv), self._picture(yuv)))
        self._key_s = time - self._origin if frame.key_frame else self._key_s
        self._queue.append(Waiting(self._frames, time - self._origin, self._key_s, frame, yuv))
        self._frames += 1
        while len(self._queue) > self._delay:
            yield from self._settle(self._queue.popleft())

    def finish(self) -> Iterator[ClipMeasure]:
        self._announce(self._detector.finish())
        while self._queue:
            yield from self._settle(self._queue.popleft())
        yield from self._close(self._frames)

    def _picture(self, yuv: Planes) -> np.ndarray | None:
        wanted = self._detector.wants_picture
        return small_bgr(*yuv, width=wanted[0], height=wanted[1]) if wanted else None

    def _announce(self, boundaries: list[Boundary]) -> None:
        trim = self._plan.shots.trim_frames
        self._boundaries.extend(Boundary(max(0, b.end - trim), b.start + trim) for b in boundaries)

    def _settle(self, waiting: Waiting) -> Iterator[ClipMeasure]:
        """Measure a frame whose shot is certain."""
        while self._boundaries and waiting.index >= self._boundaries[0].end:
            yield from self._close(waiting.index)
            self._start_next = self._boundaries.popleft().start
            self._shot += 1
        tick = self._cadence.tick(waiting.index, waiting.time_s)
        if self._clip is None:
            if self._start_next is None or waiting.index < self._start_next:
                return
            self._open(waiting, tick)
        elif self._clip.is_full(tick):
            yield from self._close(waiting.index)
            self._open(waiting, tick)
        assert self._clip is not None
        self._clip.push(tick, waiting)

    def _open(self, waiting: Waiting, tick: int) -> None:
        if self._cadence.stride and waiting.index % self._cadence.stride:
            return  # the clip begins with the next frame of the cadence
        self._clip = OpenClip(self._facts, self._plan.clips, self._cadence, self._shot, tick)

    def _close(self, end_frame: int) -> Iterator[ClipMeasure]:
        if self._clip is None:
            return
        self.longest_s = max(self.longest_s, self._clip.seconds)
        measured = self._clip.close(end_frame)
        self._clip = None
        if measured is not None:
            self.clips += 1
            yield measured
