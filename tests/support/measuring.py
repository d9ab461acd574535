"""Measuring and cutting in the test's own process, and the contract's clips made from what was measured."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path

from curation.contract import Clip, Facts, Span
from curation.identity import clip_id
from curation.media.cut import cut
from curation.media.measure import measure
from curation.media.plan import Encode, MediaPlan, Rules
from curation.media.results import Again, ClipMeasure, Tally

LENIENT = MediaPlan(rules=Rules(banned_profiles=(), min_fps=5, min_bpp=0, min_aspect=0, max_aspect=100))
"""Every rule that rejects real clips switched off."""

FAST = Encode(preset="ultrafast", crf=23)
MAX_PIXELS = 7680 * 4320


@dataclass(frozen=True)
class Result:
    facts: Facts
    clips: list[ClipMeasure]
    tally: Tally


def measured(path: Path, plan: MediaPlan = LENIENT) -> Result:
    """One measuring pass; raises `Unfit` as the pass does."""
    found = list(measure(path, plan, MAX_PIXELS))
    again = max((at + 1 for at, item in enumerate(found) if isinstance(item, Again)), default=0)
    facts, *clips, tally = found[again:]
    assert isinstance(facts, Facts)
    assert isinstance(tally, Tally)
    return Result(facts, [c for c in clips if isinstance(c, ClipMeasure)], tally)


def as_clips(result: Result, video_id: str = "0" * 32) -> list[Clip]:
    """The clips as the pyramid would hand them to the cutting pass."""
    places = [{field.name: getattr(clip, field.name) for field in dataclasses.fields(Span)} for clip in result.clips]
    ids = [clip_id(video_id, clip.start_frame, clip.end_frame, "plan") for clip in result.clips]
    return [Clip(clip_id=name, video_id=video_id, **place) for name, place in zip(ids, places, strict=True)]


def cuts(path: Path, clips: list[Clip], plan: MediaPlan = LENIENT, encode: Encode = FAST) -> tuple[list[bytes], Tally]:
    """One cutting pass: the MP4 files in order of time, and what decoding cost."""
    *made, tally = cut(path, clips, plan, encode, MAX_PIXELS)
    assert isinstance(tally, Tally)
    return [item[1] for item in made if isinstance(item, tuple)], tally
