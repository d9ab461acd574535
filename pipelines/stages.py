"""The stages of curation: plain callables that `engine` runs in workers. None of them knows Ray or decides a tier.

    Measure: Source    -> Landed       (hash, rules, measuring pass, sample frames written)
    Score:   clip ids  -> Scored       (one sample filter, on stored sample frames)
    Cut:     CutOrder  -> CutDone      (cutting pass, media written)

A stage never raises for a video's sake: whatever goes wrong with one is part of its result.
"""

from __future__ import annotations

import tempfile
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import cv2
import numpy as np
import pyarrow as pa

from curation.contract import CLIPS, Clip, RawVideo, Reason, Source, Status, Verdict
from curation.errors import UserError
from curation.filters.base import NO_SAMPLES, SampleFilter
from curation.media.plan import Encode, Limits, MediaPlan
from curation.media.sandbox import Sandbox
from curation.pyramid.fragments import write_media_fragments, write_samples_fragments
from curation.pyramid.ledger import Known
from curation.rows import clips_table, frame_columns, nameless_id, video_row
from curation.staging import stage
from pipelines.engine import Report
from pipelines.foreman import Claim


@dataclass(frozen=True, slots=True)
class Place:
    """Where a pyramid is: all that a worker needs to write next to it."""

    uri: str
    storage_options: dict[str, str] | None = None


@dataclass(frozen=True, slots=True)
class Landed:
    """A source that is settled: its ledger row, its clips, and the ticket of its sample frames.

    `refreshed`: `clips` holds single columns of clips that were there already. `replaces`: the video was settled
    before under another plan, and clips that it no longer has must go.
    """

    video: dict[str, Any]
    clips: pa.Table | None = None
    samples: str | None = None
    refreshed: bool = False
    replaces: bool = False
    decoded: int = 0


@dataclass(frozen=True, slots=True)
class SameContent:
    """A source whose bytes another source of this run, or of an earlier one (`known`), has brought already."""

    video_id: str
    source: Source
    known: bool


class Claims(Protocol):
    """What the measuring stage asks before it decodes."""

    def known(self, video_id: str) -> Known | None:
        """What the ledger says of the video."""
        ...

    def stale(self, video_id: str) -> tuple[str, ...]:
        """Which frame scores of a known video were made by another version of their filter."""
        ...

    def claim(self, video_id: str, uri: str) -> tuple[Claim, int]:
        """See `Foreman.claim`."""
        ...


@dataclass(frozen=True, slots=True)
class MeasureStage:
    """Settings of `Measure`; `why` tells for each later score why it is null for now."""

    place: Place
    plan: MediaPlan
    limits: Limits
    job: str
    why: dict[str, str]
    claims: Callable[[], Claims]

    def __call__(self) -> Measure:
        return Measure(self)


class Measure:
    """Source -> Landed | SameContent."""

    def __init__(self, settings: MeasureStage) -> None:
        self._set = settings
        self._plan_id = settings.plan.fingerprint
        self._claims = settings.claims()
        self._sandbox = Sandbox(settings.limits)

    def __call__(self, item: Source, report: Report) -> Landed | SameContent:
        report(item.uri, 0)
        try:
            with tempfile.TemporaryDirectory(prefix="ziggurat-") as folder:
                staged = stage(item, Path(folder))
                if isinstance(staged, Verdict):
                    return self._settled(nameless_id(item.uri), item, staged)
                return self._known_bytes(staged.raw, staged.path, report)
        except UserError:
            raise  # nobody's video is at fault: the disk is full, say
        except Exception:
            return self._settled(nameless_id(item.uri), item, _fault())

    def _known_bytes(self, raw: RawVideo, path: Path, report: Report) -> Landed | SameContent:
        try:
            return self._measure(raw, path, report)
        except UserError:
            raise
        except Exception:
            return self._settled(raw.video_id, raw.source, _fault())

    def _measure(self, raw: RawVideo, path: Path, report: Report) -> Landed | SameContent:
        known = self._claims.known(raw.video_id)
        same_plan = known is not None and known.fingerprint == self._plan_id
        retry = known is not None and known.status is Status.QUARANTINED
        stale = self._claims.stale(raw.video_id) if same_plan else ()
        if same_plan and not stale and not retry:
            return SameContent(raw.video_id, raw.source, known=True)
        claim, tried = self._claims.claim(raw.video_id, raw.source.uri)
        if claim is Claim.TAKEN:
            return SameContent(raw.video_id, raw.source, known=False)
        attempts = tried + (known.attempts if known else 0)
        if claim is Claim.EXHAUSTED:
            return self._settled(raw.video_id, raw.source, Verdict(Reason.WORKER_LOST, float(tried)), attempts)
        name = raw.source.uri.rsplit("/", 1)[-1]
        found = self._sandbox.measure(path, name, self._set.plan, lambda frames: report(raw.source.uri, frames))
        verdict = found.verdict or _changed(raw, path)
        row = video_row(
            raw.video_id,
            raw.source,
            self._plan_id,
            self._set.job,
            verdict=verdict,
            facts=found.facts,
            clips=0 if verdict else len(found.clips),
            attempts=attempts,
        )
        replaces = known is not None and not same_plan
        if verdict:
            return Landed(row, replaces=replaces, decoded=found.tally.decoded)
        clips = clips_table(raw.video_id, self._plan_id, found.clips, self._set.why)
        if stale:
            return Landed(row, clips.select(frame_columns(stale)), refreshed=True, decoded=found.tally.decoded)
        frames = zip(clips["clip_id"].to_pylist(), (clip.samples for clip in found.clips), strict=True)
        ticket = write_samples_fragments(self._set.place.uri, frames, self._set.place.storage_options)
        return Landed(row, clips, ticket, replaces=replaces, decoded=found.tally.decoded)

    def _settled(self, video_id: str, source: Source, verdict: Verdict, attempts: int = 1) -> Landed:
        row = video_row(video_id, source, self._plan_id, self._set.job, verdict=verdict, attempts=attempts)
        return Landed(row)


@dataclass(frozen=True, slots=True)
class Scored:
    """One score of some clips: a table with `clip_id` and the columns that the filter fills."""

    table: pa.Table
    clips: int


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


@dataclass(frozen=True, slots=True)
class CutOrder:
    """Neighbouring clips of one video to be encoded, and where the video may be found."""

    video_id: str
    sources: tuple[Source, ...]
    clips: tuple[Clip, ...]


@dataclass(frozen=True, slots=True)
class CutDone:
    """What became of an order: a ticket for the clips that were cut, and for each other clip why it was not."""

    cut: tuple[str, ...]
    ticket: str | None
    failed: dict[str, str]
    decoded: int = 0
    bytes: int = 0


@dataclass(frozen=True, slots=True)
class CutStage:
    """Settings of `Cut`."""

    place: Place
    plan: MediaPlan
    encode: Encode
    limits: Limits

    def __call__(self) -> Cut:
        return Cut(self)


class Cut:
    """CutOrder -> CutDone."""

    def __init__(self, settings: CutStage) -> None:
        self._set = settings
        self._sandbox = Sandbox(settings.limits)

    def __call__(self, item: CutOrder, report: Report) -> CutDone:
        report(item.sources[0].uri, 0)
        try:
            with tempfile.TemporaryDirectory(prefix="ziggurat-") as folder:
                return self._cut(item, Path(folder), report)
        except UserError:
            raise
        except Exception:
            why = f"{Reason.INTERNAL}: {_fault().detail}"
            return CutDone((), None, {clip.clip_id: why for clip in item.clips})

    def _cut(self, order: CutOrder, folder: Path, report: Report) -> CutDone:
        path, why = _first_with(order, folder)
        if path is None:
            return CutDone((), None, {clip.clip_id: why for clip in order.clips})
        media, failed, decoded = self._encode(path, order, order.clips, report)
        if failed and len(order.clips) > 1:
            # One clip must not take its neighbours with it: try those that are missing one by one.
            missing = [clip for clip in order.clips if clip.clip_id in failed]
            failed = {}
            for clip in missing:
                more, lost, frames = self._encode(path, order, [clip], report)
                media, failed, decoded = media + more, failed | lost, decoded + frames
        ticket = write_media_fragments(self._set.place.uri, media, self._set.place.storage_options) if media else None
        return CutDone(tuple(m[0] for m in media), ticket, failed, decoded, sum(len(m[1]) for m in media))

    def _encode(
        self, path: Path, order: CutOrder, clips: Sequence[Clip], report: Report
    ) -> tuple[list[tuple[str, bytes]], dict[str, str], int]:
        uri = order.sources[0].uri
        done = self._sandbox.cut(
            path, uri.rsplit("/", 1)[-1], clips, self._set.plan, self._set.encode, lambda frames: report(uri, frames)
        )
        if done.verdict is None:
            return list(done.media), {}, done.tally.decoded
        why = f"{done.verdict.reason}: {done.verdict.detail}".strip(": ")
        return [], {clip.clip_id: why for clip in clips}, done.tally.decoded


def _changed(raw: RawVideo, path: Path) -> Verdict | None:
    """A verdict where the file is no longer the one that was hashed: its clips would stand under another's id."""
    now = path.stat()
    if path.is_symlink() and (now.st_size, now.st_mtime) != (raw.source.bytes, raw.source.modified):
        return Verdict(Reason.UNREADABLE, detail="changed while it was measured")
    return None


def _fault() -> Verdict:
    """A fault of ours, with where it happened."""
    return Verdict(Reason.INTERNAL, detail=traceback.format_exc(limit=-4))


def _first_with(order: CutOrder, folder: Path) -> tuple[Path | None, str]:
    """A staged file that holds the order's very bytes, from the first of its names that still has them."""
    why = "no source is recorded"
    for number, source in enumerate(order.sources):
        place = folder / str(number)
        place.mkdir()
        staged = stage(source, place)
        if isinstance(staged, Verdict):
            why = f"{staged.reason}: {staged.detail}"
        elif staged.raw.video_id != order.video_id:
            why = f"{source.uri} holds other bytes now"
        else:
            return staged.path, ""
    return None, why
