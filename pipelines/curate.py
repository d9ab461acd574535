"""The main path. A folder of raw video becomes scored clips in a pyramid: read this file first.

    list sources -> for each window: [measure] -> [score by OCR, CLIP] -> [cut] -> [caption] -> [embed] -> rows

Each bracket is a pipeline of its own on Ray Data (`ray_data`). Its workers write each result into the pyramid's
journal, and the driver commits them (`committer`). So every step is also the way to catch up: a run after a kill, a new
version of a filter or a moved threshold does what the pyramid says is missing, and nothing else.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from functools import partial
from itertools import chain, islice
from typing import Any

from curation.contract import Reason, Source
from curation.errors import UserError
from curation.inputs.sources import Refused
from curation.media.plan import MediaPlan
from curation.pyramid.commits.commit import Committer
from curation.pyramid.history import plans
from curation.pyramid.history.ledger import Ledger
from curation.pyramid.storage.lookup import chunks
from curation.pyramid.store import Pyramid
from curation.rows import frame_fingerprints, nameless_id, video_row
from pipelines.config import captions as captions_of
from pipelines.config.captions import Captions
from pipelines.config.filters import Ready, listed
from pipelines.config.recipe import Recipe
from pipelines.embedding import blocks as embeddings_of
from pipelines.embedding.blocks import Embedding
from pipelines.execution.asked import Claims, Purse
from pipelines.execution.cluster import Resources
from pipelines.execution.orders import caption_orders, embed_orders
from pipelines.execution.orders.cut_orders import ORDER_COLUMNS, orders
from pipelines.execution.orders.settled import settled_under, stale_uris
from pipelines.execution.ray_data import Chained, StageSpec
from pipelines.execution.results.account import Account
from pipelines.execution.results.further_names import further_names
from pipelines.execution.sharing import Alone
from pipelines.execution.work import Job, Watch, working
from pipelines.stages.cut import CutStage
from pipelines.stages.embed import EmbedStage
from pipelines.stages.measure import MeasureStage
from pipelines.stages.results import (
    CutDone,
    CutOrder,
    MeasureDone,
)
from pipelines.stages.score import ClipsToScore, FetchStage, ScoreStage, Unscored

SCORE_CLIPS = 32
GPU_SHARE = 0.125
"""Of a GPU that a worker reserves for its hardware decoder and encoder."""

CLIPS_IN_HAND = 20_000
"""Clips whose rows the driver holds at a time, whatever the size of the pyramid."""


def check_gpus(recipe: Recipe, filters: Sequence[Ready], there: bool) -> None:
    """`UserError` where a run that measures would come to a stage that wants a GPU, and none is there."""
    if there:
        return
    if recipe.needs_gpu:
        raise UserError(
            "the recipe asks for a GPU's decoder or encoder, and there is no GPU",
            'set run.hwaccel = "none" and encode.codec = "libx264", or join a cluster that has one',
        )
    for filter_ in filters:
        if filter_.make is not None and filter_.gpus:
            told = f"the filter {filter_.name} asks for a GPU, and there is none"
            raise UserError(told, "join a cluster that has one, or let the recipe run it on a CPU")
    for block in recipe.captions:
        if block.engine == "vllm" and block.gpus:
            told = f"the captions {block.name} ask for a GPU, and there is none"
            raise UserError(told, "join a cluster that has one, or say gpus = 0 in their block")


def curate(
    entries: Iterable[Source | Refused],
    pyramid: Pyramid,
    recipe: Recipe,
    resources: Resources,
    watch: Watch,
    account: Account,
    retry_quarantined: bool = False,
    name: str | None = None,
    reason: Reason | None = None,
) -> None:
    """Bring every entry into the pyramid. `account` says at the end what became of each; `name` is the run's. `reason`:
    the entries are videos that ended for it, and are judged again whatever the ledger says.
    """
    check_gpus(recipe, listed(recipe), bool(resources.gpus))
    blocks = (captions_of.listed(recipe), embeddings_of.listed(recipe))
    settings = (pyramid, recipe, resources, watch, account, listed(recipe), retry_quarantined, name, *blocks, reason)
    with working(*settings) as job:
        ledger = Ledger(pyramid, remember=True)
        with watch.searching("looking up what is settled"):
            stale = stale_uris(ledger, recipe.plan, retry_quarantined)
        plans.keep(pyramid.files, recipe.plan)  # before the first row that names it
        again = job.again
        for window in _windows(entries, recipe.run.window, watch):
            account.inputs += len(window)
            watch.plan(stages(job.filters, recipe.cut.tier, *blocks), all_listed=len(window) < recipe.run.window)
            _settle(job, ledger, stale, window)
            fill(job, recipe.cut.tier, again)
            again = ()  # what fails in this run waits for the next one
        account.check()


def fill(job: Job, tier: str | None, again: Collection[str]) -> None:
    """Compute the scores that the recipe wants and clips lack, then cut what `tier` keeps (None: cut nothing), then
    have the job's captions made, and its vectors, some of which are of captions.
    """
    for filter_ in job.filters:
        score(job, filter_, again)
    if tier is not None:
        cut(job, tier, again)
    for block in job.captions:
        caption(job, block, again)
    for space in job.embeddings:
        embed(job, space, again)


def _settle(job: Job, ledger: Ledger, stale: set[str], window: Sequence[Source | Refused]) -> None:
    """Measure what the ledger does not settle of a window, and again what another run had in hand and did not."""
    listed = window

    def once(_: Collection[str]) -> Sequence[Source]:
        nonlocal listed
        with job.watch.searching("looking up what is settled"):
            # A ledger knows the names of its first look, and others settle some meanwhile.
            latest = ledger if isinstance(job.share, Alone) else Ledger(job.pyramid, remember=True)
            todo = _unsettled(job, latest, stale, listed)
        listed = measure(job, todo)
        return listed

    job.repeat(once, ())


def measure(job: Job, entries: Sequence[Source | Refused]) -> Sequence[Source]:
    """Settle sources: their rows, clips, frame scores and sample frames. Those that another run is at come back."""
    plan, limits = job.recipe.plan, job.recipe.limits
    why = {score: filter_.why for filter_ in job.filters for score in filter_.scores}
    make = MeasureStage(
        job.place,
        plan,
        limits,
        job.name,
        why,
        Claims(job.pyramid, job.coordinator, frame_fingerprints(plan)),
        job.reason,
    )
    gpus = GPU_SHARE if job.recipe.decodes_on_gpu else 0.0
    stage = StageSpec("measure", make, gpus=gpus, give_up=make.give_up, counts_lost=True)
    with job.stage("measure", make.give_up) as committer:
        for entry in entries:
            if isinstance(entry, Refused):
                job.settle(_refusal(entry, plan, job.name), committer)
        return job.run([entry for entry in entries if isinstance(entry, Source)], [stage], committer).elsewhere


def score(job: Job, filter_: Ready, again: Collection[str] = ()) -> None:
    """Fill a filter's scores for the clips that reach its tier and lack them, from stored sample frames. `again`: see
    `Ledger.stale_clips`.
    """
    if filter_.make is not None:
        job.repeat(partial(_score, job, filter_), again)


def _score(job: Job, filter_: Ready, again: Collection[str]) -> list[Any]:
    assert filter_.make is not None
    elsewhere: list[Any] = []
    wanted = Ledger(job.pyramid, remember=True).stale_clips(
        filter_.scores[0],
        filter_.fingerprint,
        job.pyramid.tiers,
        filter_.from_tier,
        again=again,
        also=filter_.scores[1:],
    )
    clips = (pair for batch in wanted for pair in zip(*batch.to_pydict().values(), strict=True))
    fetch, score_ = FetchStage(job.pyramid), ScoreStage(filter_.make, job.recipe.limits)
    give_up = Unscored(filter_.scores, filter_.fingerprint)
    if filter_.python is None:
        chained = Chained((fetch, score_))
        stages = [StageSpec(filter_.name, chained, gpus=filter_.gpus, give_up=give_up, paced=True)]
    else:  # an environment of its own reads no pyramid
        there = StageSpec(filter_.name, score_, python=filter_.python, gpus=filter_.gpus, give_up=give_up, paced=True)
        stages = [StageSpec("fetch", fetch, give_up=give_up), there]
    with job.stage(filter_.name) as committer:
        for some in chunks(clips, CLIPS_IN_HAND):
            parts = (ClipsToScore(*zip(*part, strict=True)) for part in chunks(some, SCORE_CLIPS))
            elsewhere += job.run(parts, stages, committer).elsewhere
    return elsewhere


def cut(job: Job, tier: str, again: Collection[str] = ()) -> None:
    """Encode the clips of `tier` that have not been encoded yet. `again`: those too that failed for such a kind of
    reason, once each.
    """

    def once(again: Collection[str]) -> list[Any]:
        ledger = Ledger(job.pyramid, remember=True)
        failed = ledger.uncut_again(tier, ORDER_COLUMNS, CLIPS_IN_HAND, again) if again else ()
        wanted = chain(failed, ledger.uncut(tier, ORDER_COLUMNS, CLIPS_IN_HAND))
        return [order for rows in wanted for order in _cut(job, rows)]

    job.repeat(once, again)


def _cut(job: Job, rows: Sequence[Mapping[str, Any]]) -> Sequence[CutOrder]:
    """Cut the clips of some rows; a clip that cannot be cut gets its reason. What another run is at comes back."""
    with job.watch.searching("looking up what is to be cut"):
        wanted = list(orders(job.pyramid, rows, job.recipe.run.hwaccel))
    if not wanted:
        return ()
    make = CutStage(job.place, job.recipe.encoding, job.recipe.limits)
    stage = StageSpec("cut", make, gpus=GPU_SHARE if job.recipe.needs_gpu else 0.0, give_up=make.give_up)
    with job.stage("cut") as committer:
        for result in wanted:
            if isinstance(result, CutDone):
                job.settle(result, committer)
        return job.run([order for order in wanted if isinstance(order, CutOrder)], [stage], committer).elsewhere


def caption(job: Job, block: Captions, again: Collection[str] = (), limit: int | None = None) -> None:
    """Have the clips captioned that a block of captions wants, `limit` of them at most. Where its budget is used up,
    the account says how many are left. `again`: see `Ledger.uncaptioned`.
    """
    job.repeat(partial(_caption, job, block, limit), again)


def _caption(job: Job, block: Captions, limit: int | None, again: Collection[str]) -> list[Any]:
    wanted = islice(caption_orders.wanted(job.pyramid, block, again), limit)
    elsewhere: list[Any] = []
    left, is_spent = 0, job.account.captions_left[block.name] > 0
    purse = Purse(job.coordinator, block.name)
    stages = caption_orders.stages(block, job.pyramid, job.recipe.limits, purse)
    with job.stage(block.stage) as committer:
        for some in chunks(wanted, CLIPS_IN_HAND):
            if is_spent:
                left += len(some)
                continue
            done = job.run(caption_orders.items(some, block), stages, committer)
            left, elsewhere = left + done.by_budget, [*elsewhere, *done.elsewhere]
            is_spent = left > 0
    job.account.captions_left[block.name] = left
    return elsewhere if limit is None else []


def embed(job: Job, block: Embedding, again: Collection[str] = ()) -> None:
    """Make the vectors that a space lacks of the clips that its block wants. `again`: see `Ledger.unembedded`."""
    job.repeat(partial(_embed, job, block), again)


def _embed(job: Job, block: Embedding, again: Collection[str]) -> list[Any]:
    elsewhere: list[Any] = []
    settings = EmbedStage(job.pyramid, block.space, block.by, block.make, job.recipe.limits)
    stage = StageSpec(block.stage, settings, gpus=block.gpus, give_up=settings.give_up, paced=True)
    with job.stage(block.stage) as committer:
        for some in chunks(embed_orders.wanted(job.pyramid, block, again), CLIPS_IN_HAND):
            elsewhere += job.run(embed_orders.items(some, SCORE_CLIPS), [stage], committer).elsewhere
    return elsewhere


def stages(
    filters: Sequence[Ready],
    tier: str | None,
    captions: Sequence[Captions] = (),
    embeddings: Sequence[Embedding] = (),
) -> list[str]:
    """The stages that a window goes through, in order."""
    scores = [filter_.name for filter_ in filters if filter_.make is not None]
    blocks = (block.stage for block in (*captions, *embeddings))
    return ["measure", *scores, *(["cut"] if tier is not None else []), *blocks]


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
    """The entries of a window that the ledger does not settle by name, size and time; all of a retry's."""
    if job.reason is not None:
        return list(window)
    sources = [entry for entry in window if isinstance(entry, Source) and entry.uri not in stale]
    settled = settled_under(ledger, job.recipe.plan, sources, job.retry_quarantined)
    job.account.settled_before += sum(1 for source in sources if source in settled)
    if lacking := ledger.lacking_extra(settled):
        Committer(job.pyramid).commit(further_names(job.pyramid, lacking))
    return [entry for entry in window if isinstance(entry, Refused) or entry not in settled]


def _refusal(entry: Refused, plan: MediaPlan, job: str) -> MeasureDone:
    source = Source(entry.uri, 0, extra=entry.extra)
    return MeasureDone(video_row(nameless_id(entry.uri), source, plan.fingerprint, job, verdict=entry.verdict))
