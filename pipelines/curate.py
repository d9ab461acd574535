"""The main path. A folder of raw video becomes scored clips in a pyramid: read this file first.

    list sources -> for each window: [measure] -> [score by OCR, CLIP] -> [cut] -> rows

Each bracket is a pipeline of its own on Ray Data (`engine`). Its workers write each result into the pyramid's journal,
and the driver commits them (`landing`). So every step is also the way to catch up: a run after a kill, a new version of
a filter or a moved threshold does what the pyramid says is missing, and nothing else.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from itertools import groupby, islice
from typing import Any, Protocol

from curation.contract import Clip, Source
from curation.errors import UserError
from curation.media.plan import MediaPlan
from curation.pyramid import journal
from curation.pyramid.journal import Journal
from curation.pyramid.ledger import Known, Ledger
from curation.pyramid.query import Query
from curation.pyramid.store import Pyramid, chunks
from curation.rows import CLIP_COLUMNS, FRAME_FINGERPRINTS, clip_from_row, nameless_id, video_row
from curation.sources import Refused
from pipelines.cluster import Resources
from pipelines.cutting import CutStage
from pipelines.engine import Chained, Delivery, StageSpec, hire, run
from pipelines.filters import Ready, ready
from pipelines.foreman import Claim
from pipelines.landing import Account, Landing
from pipelines.measuring import MeasureStage
from pipelines.recipe import Recipe
from pipelines.results import CutOrder, Landed, Place, Result, batch_of, progress, units
from pipelines.scoring import FetchStage, ScoreStage

SEGMENT_CLIPS = 16
"""Clips encoded by one worker in one go; a long source is cut by several."""

SCORE_CLIPS = 32
GPU_SHARE = 0.125
"""Of a GPU that a worker reserves for its hardware decoder and encoder."""

CLIPS_IN_HAND = 20_000
"""Clips whose rows the driver holds at a time, whatever the size of the pyramid."""


class Watch(Protocol):
    """What shows a run to a person; see `progress`."""

    def plan(self, stages: Sequence[str], all_listed: bool) -> None: ...
    def over(self, stage: str, foreman: Any) -> AbstractContextManager[None]: ...
    def expect(self, units: int) -> None: ...
    def advance(self, units: int, clips: int = 0) -> None: ...
    def searching(self, what: str) -> AbstractContextManager[None]: ...


@dataclass(frozen=True, slots=True)
class Job:
    """One run: what it works on and with."""

    name: str
    pyramid: Pyramid
    recipe: Recipe
    resources: Resources
    account: Account
    watch: Watch
    foreman: Any
    journal: Journal
    filters: Sequence[Ready] = ()
    retry_quarantined: bool = False

    @property
    def place(self) -> Place:
        return Place(self.pyramid.uri, self.pyramid.storage_options)

    @contextmanager
    def stage(self, name: str) -> Iterator[Landing]:
        """Where the results of one stage go, which the watch shows meanwhile."""
        landing = Landing(self.pyramid, self.account, self.foreman, self.journal)
        with landing, self.watch.over(name, self.foreman):
            yield landing

    def run(self, items: Iterable[Any], stages: list[StageSpec], landing: Landing) -> None:
        listed = list(items)
        self.watch.expect(sum(map(units, listed)))
        for delivery in run(listed, stages, self.foreman, self.resources, _Keep(self.journal)):
            landing.put(delivery)
            self.watch.advance(*progress(delivery.result))


@contextmanager
def working(
    pyramid: Pyramid,
    recipe: Recipe,
    resources: Resources,
    watch: Watch,
    account: Account,
    filters: Sequence[Ready] = (),
    retry_quarantined: bool = False,
) -> Iterator[Job]:
    """A job with its foreman and its journal; what killed runs have left in theirs is committed first."""
    with watch.searching("taking up what killed runs have left"):
        account.recovered = journal.recover(pyramid)
    name = uuid.uuid4().hex[:12]
    foreman, mine = hire(recipe.run.attempts), Journal(pyramid.uri, name)
    yield Job(name, pyramid, recipe, resources, account, watch, foreman, mine, filters, retry_quarantined)
    mine.close()


def curate(
    entries: Iterable[Source | Refused],
    pyramid: Pyramid,
    recipe: Recipe,
    resources: Resources,
    watch: Watch,
    account: Account,
    retry_quarantined: bool = False,
) -> None:
    """Bring every entry into the pyramid. `account` says at the end what became of each."""
    if recipe.needs_gpu and not resources.gpus:
        raise UserError(
            "the recipe asks for a GPU's decoder or encoder, and Ray sees no GPU",
            'set run.hwaccel = "none" and encode.codec = "libx264", or join a cluster that has one',
        )
    with working(pyramid, recipe, resources, watch, account, ready(recipe), retry_quarantined) as job:
        ledger = Ledger(pyramid)
        with watch.searching("looking up what is settled"):
            stale = _stale_uris(ledger)
        for window in _windows(entries, recipe.run.window, watch):
            account.inputs += len(window)
            watch.plan(_stages(job), all_listed=len(window) < recipe.run.window)
            with watch.searching("looking up what is settled"):
                todo = _unsettled(job, ledger, stale, window)
            measure(job, todo)
            for filter_ in job.filters:
                score(job, filter_)
            if recipe.cut.tier is not None:
                cut(job, recipe.cut.tier)
        account.check()


def measure(job: Job, entries: Sequence[Source | Refused]) -> None:
    """Settle sources: their rows, clips, frame scores and sample frames."""
    plan, limits = job.recipe.plan, job.recipe.limits
    why = {filter_.score: filter_.why for filter_ in job.filters}
    make = MeasureStage(job.place, plan, limits, job.name, why, _Claims(job.pyramid, job.foreman))
    stage = StageSpec("measure", make, gpus=GPU_SHARE if job.recipe.decodes_on_gpu else 0.0)
    with job.stage("measure") as landing:
        for entry in entries:
            if isinstance(entry, Refused):
                landing.put(Delivery(_refusal(entry, plan, job.name)))
        job.run([entry for entry in entries if isinstance(entry, Source)], [stage], landing)


def score(job: Job, filter_: Ready) -> None:
    """Fill one score for the clips that reach its tier and lack it; all from stored sample frames."""
    if filter_.make is None:
        return
    wanted = Ledger(job.pyramid).stale_clips(
        filter_.score, filter_.fingerprint, job.pyramid.tiers, filter_.from_tier, columns=("clip_id",)
    )
    ids = (clip_id for batch in wanted for clip_id in batch["clip_id"].to_pylist())
    fetch, score_ = FetchStage(job.pyramid), ScoreStage(filter_.make)
    if filter_.python is None:
        stages = [StageSpec(filter_.name, Chained((fetch, score_)), gpus=filter_.gpus)]
    else:  # an environment of its own reads no pyramid
        stages = [StageSpec("fetch", fetch), StageSpec(filter_.name, score_, python=filter_.python)]
    with job.stage(filter_.name) as landing:
        for some in chunks(ids, CLIPS_IN_HAND):
            job.run((tuple(part) for part in chunks(some, SCORE_CLIPS)), stages, landing)


def cut(job: Job, tier: str) -> None:
    """Encode the clips of `tier` that have not been encoded yet."""
    make = CutStage(job.place, job.recipe.plan, job.recipe.encoding, job.recipe.limits)
    stage = StageSpec("cut", make, gpus=GPU_SHARE if job.recipe.needs_gpu else 0.0)
    query = job.pyramid.tier(tier).where(media=None, media_why=None).limit(CLIPS_IN_HAND)
    while wanted := _orders(job, query):
        # What is cut leaves the query once it has landed; a clip that cannot be cut leaves it with its reason.
        with job.stage("cut") as landing:
            job.run(wanted, [stage], landing)


def _orders(job: Job, query: Query) -> list[CutOrder]:
    with job.watch.searching("looking up what is to be cut"):
        return list(orders(job.pyramid, query))


def orders(pyramid: Pyramid, query: Query) -> Iterator[CutOrder]:
    """Orders for the clips of a query, each a segment of one video."""
    rows = query.columns(*CLIP_COLUMNS).to_table().to_pylist()
    rows.sort(key=lambda row: (row["video_id"], row["start_s"]))
    ledger = Ledger(pyramid)
    for video_id, group in groupby(rows, key=lambda row: row["video_id"]):
        known = ledger.lookup([video_id])[video_id]
        sources = tuple(Source(uri, known.bytes) for uri in known.uris)
        for clips in segments([clip_from_row(row) for row in group]):
            yield CutOrder(video_id, sources, clips)


def segments(clips: Sequence[Clip], most: int = SEGMENT_CLIPS) -> Iterator[tuple[Clip, ...]]:
    """Clips of one video, in order of time, in runs that can be decoded apart without decoding a frame twice.

    A run ends after `most` clips, at the first clip that a decoder can reach without passing the one before it.
    """
    run_: list[Clip] = []
    for clip in clips:
        if len(run_) >= most and clip.key_s >= run_[-1].end_s - 1e-3:
            yield tuple(run_)
            run_ = []
        run_.append(clip)
    if run_:
        yield tuple(run_)


def _stages(job: Job) -> list[str]:
    """The stages that a window goes through, in order."""
    filters = [filter_.name for filter_ in job.filters if filter_.make is not None]
    return ["measure", *filters, *(["cut"] if job.recipe.cut.tier is not None else [])]


def _windows(entries: Iterable[Source | Refused], size: int, watch: Watch) -> Iterator[list[Source | Refused]]:
    """Entries in windows; one empty window where there is nothing, so that a run can still catch up on scores."""
    stream, first = iter(entries), True
    while True:
        with watch.searching("listing the sources"):
            window = list(islice(stream, size))
        if window or first:
            yield window
        if len(window) < size:
            return
        first = False


def _unsettled(job: Job, ledger: Ledger, stale: set[str], window: Sequence[Source | Refused]) -> list[Source | Refused]:
    """The entries of a window that the ledger does not settle by name, size and time."""
    sources = [entry for entry in window if isinstance(entry, Source) and entry.uri not in stale]
    settled = ledger.settled(sources, job.recipe.plan.fingerprint, job.retry_quarantined)
    job.account.settled_before += sum(1 for source in sources if source in settled)
    return [entry for entry in window if isinstance(entry, Refused) or entry not in settled]


def _stale_uris(ledger: Ledger) -> set[str]:
    """The names of videos with a frame score that another version of its filter made."""
    stale = ledger.stale_videos(FRAME_FINGERPRINTS)
    return {uri for known in ledger.lookup(stale).values() for uri in known.uris}


def _refusal(entry: Refused, plan: MediaPlan, job: str) -> Landed:
    source = Source(entry.uri, 0)
    return Landed(video_row(nameless_id(entry.uri), source, plan.fingerprint, job, verdict=entry.verdict))


@dataclass(frozen=True, slots=True)
class _Keep:
    """Writes a worker's results into the journal."""

    journal: Journal

    def __call__(self, result: Result) -> str:
        batch = batch_of(result)
        return "" if batch is None else self.journal.keep(batch)


@dataclass(frozen=True, slots=True)
class _Claims:
    """Makes the claims that a measuring worker asks: the ledger's answers and the foreman's."""

    pyramid: Pyramid
    foreman: Any

    def __call__(self) -> _Claims:
        return self

    def known(self, video_id: str) -> Known | None:
        return Ledger(self.pyramid).lookup([video_id]).get(video_id)

    def stale(self, video_id: str) -> tuple[str, ...]:
        columns = [f"{score}_by" for score in FRAME_FINGERPRINTS]
        rows = self.pyramid.where(video_id=video_id).columns(*columns).to_table()
        return tuple(
            score
            for score, by in FRAME_FINGERPRINTS.items()
            if any(found not in (by, None) for found in rows[f"{score}_by"].to_pylist())
        )

    def claim(self, video_id: str, uri: str) -> tuple[Claim, int]:
        import ray

        return ray.get(self.foreman.claim.remote(video_id, uri))
