"""The scoring stages: ClipsToScore -> SampledClips -> Scored, by one sample filter on stored frames.

Fetching and scoring are two stages, because a filter may live in an environment of its own that reads no pyramid. A
clip that the filter cannot take, or whose sample frames cannot be decoded, raises here; `attempts` then tries the clips
of the item one by one, and `Unscored` says what is written of the one that fails again.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa

from curation.contract import CLIP_SPACE, SCORES, Verdict, clips_schema, embeddings_schema
from curation.filters.base import NO_SAMPLES, SampleFilter
from curation.media.plan import Limits
from curation.media.sandbox.sandbox import Sandbox
from pipelines.stages.base import Report
from pipelines.stages.results import Scored, why_of


@dataclass(frozen=True, slots=True)
class ClipsToScore:
    """Clips that want one score, and the video of each."""

    clip_ids: tuple[str, ...]
    video_ids: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.clip_ids)

    def part(self, start: int, stop: int) -> ClipsToScore:
        """See `base.Divisible`."""
        return ClipsToScore(self.clip_ids[start:stop], self.video_ids[start:stop])


@dataclass(frozen=True, slots=True)
class SampledClips:
    """Clips with their sample frames (JPEG), on their way to a filter."""

    clip_ids: tuple[str, ...]
    video_ids: tuple[str, ...]
    frames: tuple[tuple[bytes, ...], ...]

    def __len__(self) -> int:
        return len(self.clip_ids)

    def part(self, start: int, stop: int) -> SampledClips:
        """See `base.Divisible`."""
        return SampledClips(self.clip_ids[start:stop], self.video_ids[start:stop], self.frames[start:stop])


class SampleError(ValueError):
    """A stored sample frame that is no picture."""


@dataclass(frozen=True, slots=True)
class FetchStage:
    """Settings of `Fetch`."""

    pyramid: Any

    def __call__(self) -> Fetch:
        return Fetch(self.pyramid)


class Fetch:
    """ClipsToScore -> SampledClips: reads stored sample frames, next to the filter that wants them."""

    def __init__(self, pyramid: Any) -> None:
        self._pyramid = pyramid

    def __call__(self, item: ClipsToScore, report: Report) -> SampledClips:
        report(f"{len(item)} clips", 0)
        found = dict(self._pyramid.samples(item.clip_ids))
        frames = tuple(tuple(found.get(clip_id, ())) for clip_id in item.clip_ids)
        return SampledClips(item.clip_ids, item.video_ids, frames)


@dataclass(frozen=True, slots=True)
class ScoreStage:
    """Settings of `Score`: `make` builds the filter in the worker; `limits` are those of decoding sample frames."""

    make: Callable[[], SampleFilter]
    limits: Limits = field(default_factory=Limits)

    def __call__(self) -> Score:
        return Score(self.make(), self.limits)


class Score:
    """SampledClips -> Scored, by one sample filter.

    Sample frames were made by a decoder that met a stranger's video, so they are decoded where it is: in the sandbox.
    """

    def __init__(self, sample_filter: SampleFilter, limits: Limits | None = None) -> None:
        self._filter = sample_filter
        self._sandbox = Sandbox(limits or Limits())

    def __call__(self, item: SampledClips, report: Report) -> Scored:
        report(f"{self._filter.name}: {len(item)} clips", 0)
        pictures = decoded(self._sandbox, item.frames, item.clip_ids[0])
        measured = [found if isinstance(found, tuple) else (found,) for found in self._filter.measure(pictures)]
        assert len(measured) == len(item), "a filter gives one measurement for each clip"
        columns: dict[str, list[Any]] = {"clip_id": list(item.clip_ids)}
        for score, values in zip(self._filter.scores, zip(*measured, strict=True), strict=True):
            columns |= {
                score: [m.value for m in values],
                f"{score}_by": [None if m.why == NO_SAMPLES else self._filter.fingerprint for m in values],
                f"{score}_why": [m.why for m in values],
            }
        vectors = _vectors(item.clip_ids, [values[0].embedding for values in measured], self._filter.fingerprint)
        return Scored(_table(columns, self._filter.scores), len(measured), embeddings=vectors)

    def close(self) -> None:
        """End the decoder. The stage can still be called: it starts another."""
        self._sandbox.close()


def decoded(sandbox: Sandbox, clips: Sequence[Sequence[bytes]], name: str) -> list[list[np.ndarray]]:
    """Each clip's sample frames, (height, width, 3) uint8, BGR. `SampleError` where one of them is no picture. `name`:
    what a log calls them.
    """
    files = [file for frames in clips for file in frames]
    pictures = iter(sandbox.pictures(files, name) if files else ())
    found = [[next(pictures) for _ in frames] for frames in clips]
    whole = [[picture for picture in clip if picture is not None] for clip in found]
    if any(picture is None for clip in found for picture in clip):
        raise SampleError("a sample frame cannot be decoded")
    return whole


@dataclass(frozen=True, slots=True)
class Unscored:
    """ClipsToScore | SampledClips that cannot be scored -> Scored with nulls that say why.

    The fingerprint stands beside the null, so that the next run does not try again what failed; another version of the
    filter does, and so does `--retry`.
    """

    scores: tuple[str, ...]
    fingerprint: str

    def __call__(self, item: ClipsToScore | SampledClips, verdict: Verdict) -> Scored:
        many = len(item)
        columns: dict[str, list[Any]] = {"clip_id": list(item.clip_ids)}
        for score in self.scores:
            columns |= {
                score: [None] * many,
                f"{score}_by": [self.fingerprint] * many,
                f"{score}_why": [why_of(verdict)] * many,
            }
        return Scored(_table(columns, self.scores), many, verdict, item.video_ids)


def _table(columns: dict[str, list[Any]], scores: Sequence[str]) -> pa.Table:
    schema = clips_schema([score for score in scores if score not in SCORES])
    return pa.table(columns, schema=pa.schema([schema.field(name) for name in columns]))


def _vectors(clip_ids: Sequence[str], vectors: Sequence[np.ndarray | None], by: str) -> pa.Table | None:
    """The rows of `embeddings` for those clips that have a vector; None where none has."""
    there = [(clip_id, vector) for clip_id, vector in zip(clip_ids, vectors, strict=True) if vector is not None]
    if not there:
        return None
    assert all(vector.shape == (CLIP_SPACE.width,) and np.isfinite(vector).all() for _, vector in there)
    flat = np.concatenate([vector for _, vector in there]).astype(np.float16)
    schema = embeddings_schema(CLIP_SPACE)
    columns = [
        pa.array([clip_id for clip_id, _ in there]),
        pa.array([CLIP_SPACE.name] * len(there)),
        pa.array([by] * len(there)),
        pa.FixedSizeListArray.from_arrays(pa.array(flat), CLIP_SPACE.width),
    ]
    return pa.Table.from_arrays(columns, schema=schema)
