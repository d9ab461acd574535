"""The measuring stage: Source -> MeasureDone | SameContent, in a worker that knows neither Ray nor tiers.

stage -> hash -> taken down? known already? -> claim -> measuring pass in the sandbox -> sample frames written
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from curation.contract import Reason, Source, Status, Verdict
from curation.errors import UserError
from curation.inputs import own_columns
from curation.inputs.kinds import named_as_image
from curation.inputs.staging import Staged, stage
from curation.media.plan import Limits, MediaPlan
from curation.media.sandbox.sandbox import Sandbox
from curation.pyramid.history.ledger import Known
from curation.pyramid.storage.files import Files
from curation.pyramid.storage.fragments import write_samples_fragments
from curation.pyramid.storage.locks import writing
from curation.pyramid.takedown import tombstones
from curation.retry import retrying
from curation.rows import attempt_fingerprint, clips_table, frame_columns, nameless_id, video_row
from pipelines.stages.base import Claim, Report
from pipelines.stages.results import MeasureDone, Place, SameContent, our_fault

_TAKEN_DOWN = Verdict(Reason.TAKEN_DOWN)
"""Of a content that never comes back: the run counts it, and the committer's gate lets no row of it in."""


class Claims(Protocol):
    """What the measuring stage asks before it decodes."""

    def known(self, video_id: str) -> Known | None:
        """What the ledger says of the video."""
        ...

    def stale(self, video_id: str) -> tuple[str, ...]:
        """Which frame scores of a known video were made by another version of their filter."""
        ...

    def clips(self, video_id: str) -> frozenset[str]:
        """The ids of the clips that a known video has."""
        ...

    def claim(self, video_id: str, uri: str) -> tuple[Claim, int]:
        """See `Coordinator.claim`."""
        ...


@dataclass(frozen=True, slots=True)
class MeasureStage:
    """Settings of `Measure`; `why` tells for each later score why it is null for now. `again`: a reason for which
    videos are judged anew that a rule has settled.
    """

    place: Place
    plan: MediaPlan
    limits: Limits
    job: str
    why: dict[str, str]
    claims: Callable[[], Claims]
    again: Reason | None = None

    def __call__(self) -> Measure:
        return Measure(self)

    def give_up(self, item: Source, verdict: Verdict) -> MeasureDone:
        """The row of a source that no worker can bring to its content."""
        video_id = nameless_id(item.uri)
        return MeasureDone(video_row(video_id, item, self.plan.fingerprint, self.job, verdict=verdict))


class Measure:
    """Source -> MeasureDone | SameContent."""

    def __init__(self, settings: MeasureStage) -> None:
        self._set = settings
        self._plan_id = settings.plan.fingerprint
        self._claims = settings.claims()
        self._sandbox = Sandbox(settings.limits)

    def close(self) -> None:
        """End the decoder."""
        self._sandbox.close()

    def __call__(self, item: Source, report: Report) -> MeasureDone | SameContent:
        report(item.uri, 0)
        try:
            with tempfile.TemporaryDirectory(prefix="ziggurat-") as folder:
                staged = stage(item, Path(folder))
                if isinstance(staged, Verdict):
                    return self._settled(nameless_id(item.uri), item, staged)
                return self._known_bytes(staged, report)
        except UserError:
            raise  # nobody's video is at fault: the disk is full, say
        except Exception as error:
            return self._settled(nameless_id(item.uri), item, our_fault(error))

    def _known_bytes(self, staged: Staged, report: Report) -> MeasureDone | SameContent:
        try:
            return self._measure(staged, report)
        except UserError:
            raise
        except Exception as error:
            return self._settled(staged.raw.video_id, staged.raw.source, our_fault(error))

    def _measure(self, staged: Staged, report: Report) -> MeasureDone | SameContent:
        raw = staged.raw
        if self._taken_down(raw.video_id):
            return self._settled(raw.video_id, raw.source, _TAKEN_DOWN)
        known = self._claims.known(raw.video_id)
        same_plan = known is not None and known.fingerprint == self._plan_id
        # Under another name it may have been tried again in this run already.
        retry = known is not None and known.job != self._set.job and self._is_tried_again(known)
        stale = self._claims.stale(raw.video_id) if same_plan else ()
        if same_plan and not stale and not retry:
            return SameContent(raw.video_id, raw.source, known=True)
        claim, begun = self._claims.claim(raw.video_id, raw.source.uri)
        if claim is Claim.TAKEN:
            return SameContent(raw.video_id, raw.source, known=False)
        attempts = begun + (known.attempts if known else 0)
        if claim is Claim.EXHAUSTED:
            return self._settled(raw.video_id, raw.source, Verdict(Reason.WORKER_LOST, float(begun)), attempts)
        name = raw.source.uri.rsplit("/", 1)[-1]
        as_image = any(map(named_as_image, (raw.source.uri, *(known.uris if known else ()))))
        found = self._sandbox.measure(
            staged.path, name, self._set.plan, lambda frames: report(raw.source.uri, frames), as_image
        )
        verdict = staged.changed() or found.verdict  # of other bytes than the row's, whatever was found is not theirs
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
        if verdict is None and found.tally.refused:
            row["detail"] = f"{found.tally.refused_s:.1f} s are in no clip, {found.tally.refused}"
        judged = verdict is None or verdict.status is not Status.QUARANTINED
        row["tried"] = None if judged else attempt_fingerprint(self._set.plan)
        replaces = known is not None and not same_plan and judged
        if verdict:
            return MeasureDone(row, replaces=replaces, decoded=found.tally.decoded)
        said = own_columns.united(known.extra if known else None, raw.source.extra)
        there = self._claims.clips(raw.video_id) if known and known.clips else frozenset()
        clips = clips_table(raw.video_id, self._set.plan, found.clips, self._set.why, own_columns.caption(said), there)
        if stale and there == {*clips["clip_id"].to_pylist()}:
            return MeasureDone(row, clips.select(frame_columns(stale)), refreshed=True, decoded=found.tally.decoded)
        replaces = replaces or bool(stale)  # another version found other clips under this plan: those take their place
        frames = list(zip(clips["clip_id"].to_pylist(), (clip.samples for clip in found.clips), strict=True))
        uri, options = self._set.place.uri, self._set.place.storage_options
        with writing(uri):
            if self._taken_down(raw.video_id):
                return self._settled(raw.video_id, raw.source, _TAKEN_DOWN)
            ticket = retrying(f"writing to {uri}", lambda: write_samples_fragments(uri, frames, options))
        return MeasureDone(row, clips, ticket, replaces=replaces, decoded=found.tally.decoded)

    def _is_tried_again(self, known: Known) -> bool:
        again = self._set.again
        return known.status is Status.QUARANTINED if again is None else known.reason == again

    def _taken_down(self, video_id: str) -> bool:
        return video_id in tombstones.read(Files(self._set.place.uri, self._set.place.storage_options))

    def _settled(self, video_id: str, source: Source, verdict: Verdict, attempts: int = 1) -> MeasureDone:
        row = video_row(video_id, source, self._plan_id, self._set.job, verdict=verdict, attempts=attempts)
        return MeasureDone(row)
