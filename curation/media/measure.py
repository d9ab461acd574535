"""The measuring pass: one decode of a source yields its facts, its clips and all their frame measures.

    packets -> Timeline -> Facts -> rules -> pictures -> segments -> shots -> clips with measures and samples

Runs inside the sandbox, before anything is encoded. Where the material breaks (a gap, another rate, size or stream,
damage) a new segment begins, with its own geometry and rate; `segment` finds the shots and clips of each. An input that
is named as an image and is one goes a shorter way (`still`); an animation that FFmpeg does not read becomes a film
first (`animation`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

from av.container import InputContainer
from av.video.stream import VideoStream

from curation.contract import Ending, Facts, Reason
from curation.media.animation import as_film
from curation.media.frames import Decoder, Picture, check_size
from curation.media.pictures.colour import Tags, light_of, refusal
from curation.media.pictures.develop import Development
from curation.media.pictures.fields import Interlaced, Parity
from curation.media.plan import MediaPlan
from curation.media.probe import Unfit, container_tags, describe, open_media, timeline_of
from curation.media.results import Again, ClipMeasure, Tally
from curation.media.rules import judge, too_few_bits
from curation.media.segment import MIN_SIDE, Segment
from curation.media.still.look import look
from curation.media.still.measure import measure_image
from curation.media.stream.timeline import Timeline


def measure(
    path: Path,
    plan: MediaPlan,
    max_pixels: int,
    progress: Callable[[int], None] = lambda frames: None,
    image_pixels: int = 0,
) -> Iterator[Facts | ClipMeasure | Tally | Again]:
    """Yield the facts, then each clip as its shot ends, then the tally. Raises `Unfit` with the verdict.

    After `Again` all of it comes once more: the source has turned out to be interlaced.
    `progress` is called with the number of frames decoded so far, after each. `image_pixels`: the
    most that an image may have where the source's name is an image's, else 0. Where its content is one, too, it is
    measured as such.
    """
    found = look(path) if image_pixels else None
    if found is not None and not found.moves:
        yield from measure_image(path, found, plan, image_pixels)
        return
    with as_film(path, max_pixels, progress) as film:
        for item in _measured(film.path, film.plan(plan), max_pixels, progress):
            if film.format is None or not isinstance(item, Facts):
                yield item
                continue
            facts = film.facts(item)
            yield facts
            if verdict := too_few_bits(facts, plan.rules):
                raise Unfit(verdict.reason, verdict.measured, verdict.detail)


def _measured(
    path: Path, plan: MediaPlan, max_pixels: int, progress: Callable[[int], None]
) -> Iterator[Facts | ClipMeasure | Tally | Again]:
    with open_media(path) as (container, stream):
        check_size(stream, max_pixels)
        timeline, told = timeline_of(path, container, stream, progress), container_tags(path, container, stream)
        rough = describe(container, stream, timeline)
        if timeline.packets and min(rough.width, rough.height):
            yield from _judged(rough, timeline, plan)  # a rejected video keeps the facts that it was judged by
    try:
        yield from _decoded(path, timeline, told, plan, max_pixels, progress, None)
    except Interlaced as found:
        if plan.clips.interlaced == "reject":
            raise Unfit(Reason.INTERLACED, found.share, f"{found.parity}: interlaced fields") from None
        yield Again()
        yield from _decoded(path, timeline, told, plan, max_pixels, progress, found.parity)


def _decoded(
    path: Path,
    timeline: Timeline,
    told: Tags,
    plan: MediaPlan,
    max_pixels: int,
    progress: Callable[[int], None],
    parity: Parity | None,
) -> Iterator[Facts | ClipMeasure | Tally]:
    """The decode itself, deinterlacing where a parity is given. Raises `Interlaced` where it turns out to be needed.

    `told`: what the container says of the light.
    """
    with open_media(path, plan.hwaccel) as (container, stream):
        check_size(stream, max_pixels)
        decoder = Decoder(container, stream, timeline)
        pictures = iter(decoder)
        first = next(pictures, None)
        if first is None:
            raise Unfit(Reason.NO_FRAMES)
        facts = describe(container, stream, timeline, first)
        yield from _judged(facts, timeline, plan)
        if min(facts.coded_width, facts.coded_height) < MIN_SIDE:
            raise Unfit(Reason.NO_CLIP, 0.0, f"a picture of {facts.coded_width}x{facts.coded_height} pixels")
        if refused := refusal(light_of(first.frame, told), plan.clips.hdr):
            raise Unfit(refused.reason, refused.measured, refused.detail)
        yield facts
        pass_ = _Pass(container, stream, timeline, told, plan, first, parity)
        yield from pass_.push(first)
        for picture in pictures:
            progress(decoder.tally.decoded)
            yield from pass_.push(picture)
        yield from pass_.finish(decoder.ending)
        _judge_decoding(decoder.tally, timeline, plan)
        tally = replace(decoder.tally, refused_s=pass_.refused_s, refused=pass_.refused)
        if not pass_.clips:
            raise Unfit(Reason.NO_CLIP, pass_.longest_s, _left_out(tally))
        yield tally


def _left_out(tally: Tally) -> str:
    """What of a source no clip can hold, beside what is too short."""
    told = []
    if tally.suspect:
        told.append(f"{tally.suspect} frames that damage may have reached were left out")
    if tally.refused:
        told.append(f"{tally.refused_s:.1f} s that a rule refuses, {tally.refused}")
    return "; ".join(told)


def _judged(facts: Facts, timeline: Timeline, plan: MediaPlan) -> Iterator[Facts]:
    """Nothing, or the facts and then `Unfit`."""
    if verdict := judge(facts, timeline, plan.rules):
        yield facts
        raise Unfit(verdict.reason, verdict.measured, verdict.detail)


def _judge_decoding(tally: Tally, timeline: Timeline, plan: MediaPlan) -> None:
    expected = max(1, timeline.packets - timeline.led)  # what comes before the first start nobody can decode
    share = tally.decoded / expected
    if share < plan.rules.min_decoded:
        raise Unfit(Reason.BROKEN, share, f"{tally.decoded} of {expected} frames could be decoded")
    if tally.unordered / tally.decoded > plan.rules.max_untimed:
        raise Unfit(Reason.BAD_TIMESTAMPS, tally.unordered / tally.decoded)


class _Pass:
    """Takes pictures in order, parts them into segments and counts what they yield."""

    def __init__(
        self,
        container: InputContainer,
        stream: VideoStream,
        timeline: Timeline,
        told: Tags,
        plan: MediaPlan,
        first: Picture,
        parity: Parity | None,
    ) -> None:
        self._container, self._stream, self._timeline, self._plan = container, stream, timeline, plan
        self._told = told
        self._parity: Parity | None = parity
        self._segment = self._begin(first, 0)
        self._longest_s = 0.0
        self.clips = 0
        self.refused_s, self.refused = 0.0, ""

    @property
    def longest_s(self) -> float:
        """Seconds of the longest shot."""
        return max(self._longest_s, self._segment.longest_s)

    def push(self, picture: Picture) -> Iterator[ClipMeasure]:
        if picture.broken_by is not None:
            yield from self._end(picture.broken_by)
            self._segment = self._begin(picture, self._segment.shot)
        yield from self._counted(self._segment.push(picture))

    def finish(self, ending: Ending) -> Iterator[ClipMeasure]:
        yield from self._end(ending)

    def _begin(self, picture: Picture, shot: int) -> Segment:
        facts = describe(self._container, self._stream, self._timeline, picture)
        development = Development(self._parity, self._told)
        return Segment(facts, self._timeline, self._plan, picture, shot, development)

    def _end(self, ending: Ending) -> Iterator[ClipMeasure]:
        yield from self._counted(self._segment.finish(ending))
        self._longest_s = self.longest_s
        if (verdict := self._segment.refused) is not None:
            self.refused_s += self._segment.seconds
            self.refused = self.refused or f"{verdict.reason}: {verdict.detail}"

    def _counted(self, clips: Iterator[ClipMeasure]) -> Iterator[ClipMeasure]:
        for clip in clips:
            self.clips += 1
            yield clip
