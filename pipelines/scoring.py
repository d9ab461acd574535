"""The scoring stages: clip ids -> SampledClips -> Scored, by one sample filter on stored frames.

Fetching and scoring are two stages, because a filter may live in an environment of its own that reads no pyramid.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import pyarrow as pa

from curation.contract import CLIPS
from curation.filters.base import NO_SAMPLES, SampleFilter
from pipelines.engine import Report
from pipelines.results import Scored


@dataclass(frozen=True, slots=True)
class SampledClips:
    """Clips with their sample frames (JPEG), on their way to a filter."""

    clip_ids: tuple[str, ...]
    frames: tuple[tuple[bytes, ...], ...]


@dataclass(frozen=True, slots=True)
class FetchStage:
    """Settings of `Fetch`."""

    pyramid: Any

    def __call__(self) -> Fetch:
        return Fetch(self.pyramid)


class Fetch:
    """Clip ids -> SampledClips: reads stored sample frames, next to the filter that wants them."""

    def __init__(self, pyramid: Any) -> None:
        self._pyramid = pyramid

    def __call__(self, item: tuple[str, ...], report: Report) -> SampledClips:
        report(f"{len(item)} clips", 0)
        found = dict(self._pyramid.samples(item))
        return SampledClips(item, tuple(tuple(found.get(clip_id, ())) for clip_id in item))


@dataclass(frozen=True, slots=True)
class ScoreStage:
    """Settings of `Score`: `make` builds the filter in the worker."""

    make: Callable[[], SampleFilter]

    def __call__(self) -> Score:
        return Score(self.make())


class Score:
    """SampledClips -> Scored, by one sample filter."""

    def __init__(self, sample_filter: SampleFilter) -> None:
        self._filter = sample_filter

    def __call__(self, item: SampledClips, report: Report) -> Scored:
        report(f"{self._filter.name}: {len(item.clip_ids)} clips", 0)
        clips = [[_picture(jpeg) for jpeg in frames] for frames in item.frames]
        measured = self._filter.measure(clips)
        score = self._filter.score
        columns: dict[str, list[Any]] = {
            "clip_id": list(item.clip_ids),
            score: [m.value for m in measured],
            f"{score}_by": [None if m.why == NO_SAMPLES else self._filter.fingerprint for m in measured],
            f"{score}_why": [m.why for m in measured],
        }
        if any(m.embedding is not None for m in measured):
            columns["embedding"] = [None if m.embedding is None else m.embedding.astype(np.float16) for m in measured]
        schema = pa.schema([CLIPS.field(name) for name in columns])
        return Scored(pa.table(columns, schema=schema), len(measured))


def _picture(jpeg: bytes) -> np.ndarray:
    picture = cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR)
    assert picture is not None, "a sample frame that is no JPEG"
    return picture
