"""A run at work: the pyramid, the recipe and the workers that it has, and how items go through its stages.

    working -> Job -> for each stage: `repeat`( list what lacks -> `stage`( `run` -> committer ) -> what others had )

`curate` and the commands that do a part of it (`jobs`) say what is listed and which stages there are.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

from curation.contract import Reason, Source, Verdict
from curation.errors import UserError
from curation.pyramid.commits import journal
from curation.pyramid.commits.journal import Journal
from curation.pyramid.history.failures import LASTING, PASSING
from curation.pyramid.storage.columns import writable
from curation.pyramid.store import Pyramid
from curation.retry import retrying
from pipelines.config.captions import Captions
from pipelines.config.filters import Ready
from pipelines.config.recipe import Recipe
from pipelines.embedding.blocks import Embedding
from pipelines.execution.cluster import Resources
from pipelines.execution.ray_data import Delivery, StageSpec, check_room, pool_size, run, start_coordinator
from pipelines.execution.results.account import Account
from pipelines.execution.results.committer import ResultCommitter
from pipelines.execution.sharing import ALONE, Alone, Elsewhere, Share, of_pyramid
from pipelines.progress.watch import Watch as StageWatch
from pipelines.stages.results import Captioned, MeasureDone, Place, Result, batch_of, fault_of, progress, units


class Watch(StageWatch, Protocol):
    """What shows a run to a person; see `progress`."""

    def plan(self, stages: Sequence[str], all_listed: bool) -> None: ...


@dataclass(frozen=True, slots=True)
class Job:
    """One run: what it works on and with. `reason`: it tries again what ended for this reason, and that alone."""

    name: str
    pyramid: Pyramid
    recipe: Recipe
    resources: Resources
    account: Account
    watch: Watch
    coordinator: Any
    journal: Journal
    filters: Sequence[Ready] = ()
    retry_quarantined: bool = False
    captions: Sequence[Captions] = ()
    embeddings: Sequence[Embedding] = ()
    reason: Reason | None = None
    share: Share | Alone = ALONE

    @property
    def again(self) -> tuple[str, ...]:
        """The kinds of failures that this run tries again."""
        if self.reason is not None:
            return ()
        return (PASSING, LASTING) if self.retry_quarantined else (PASSING,)

    @property
    def place(self) -> Place:
        return Place(self.pyramid.uri, self.pyramid.storage_options)

    def settle(self, result: Result, committer: ResultCommitter) -> None:
        """Take a result that needs no stage: one thing is settled by it."""
        self.account.flows.now.taken += progress(result)[0]
        committer.put(Delivery(result))

    @contextmanager
    def stage(
        self, name: str, give_up: Callable[[Source, Verdict], MeasureDone] | None = None
    ) -> Iterator[ResultCommitter]:
        """Where the results of one stage go, which the watch shows meanwhile. `give_up`: see `ResultCommitter`."""
        stop_after = self.recipe.run.stop_after
        settled = partial(self.share.settled, name)
        settings = (self.pyramid, self.account, self.coordinator, self.journal, stop_after, give_up, settled)
        try:
            with ResultCommitter(*settings) as committer, self.watch.over(name, self.coordinator):
                yield committer
        finally:
            self.share.free(name)

    def run(self, items: Iterable[Any], stages: list[StageSpec], committer: ResultCommitter) -> Left:
        """Take items through stages, but for those that another run is at."""
        wanted, left, elsewhere = list(items), 0, []
        self.watch.expect(sum(map(units, wanted)))
        attempts, last = self.recipe.run.attempts, stages[-1]
        self.account.flows.now.pool(pool_size(last, len(stages), self.resources, len(wanted)), last.gpus)
        share = None if isinstance(self.share, Alone) else self.share
        for delivery in run(wanted, stages, self.coordinator, self.resources, _Keep(self.journal), attempts, share):
            if isinstance(delivery.result, Elsewhere):
                elsewhere.append(delivery.result.item)
                self.watch.expect(-units(delivery.result.item))
                continue
            committer.put(delivery)
            self.watch.advance(*progress(delivery.result))
            left += delivery.result.left if isinstance(delivery.result, Captioned) else 0
        return Left(left, elsewhere)

    def repeat(self, stage: Callable[[Collection[str]], Sequence[Any]], again: Collection[str]) -> None:
        """Do what lacks, and when nobody has it in hand any more do what still lacks of that which others had.
        `again`: the kinds of failures that are tried again, once.
        """
        self.share.listing()
        while stage(again):
            self.share.wait(self.watch)
            self.share.listing()
            again = ()


@dataclass(frozen=True, slots=True)
class Left:
    """What a stage did not do: clips for which a budget is used up, and items that another run is at."""

    by_budget: int
    elsewhere: Sequence[Any]


@contextmanager
def working(
    pyramid: Pyramid,
    recipe: Recipe,
    resources: Resources,
    watch: Watch,
    account: Account,
    filters: Sequence[Ready] = (),
    retry_quarantined: bool = False,
    name: str | None = None,
    captions: Sequence[Captions] = (),
    embeddings: Sequence[Embedding] = (),
    reason: Reason | None = None,
) -> Iterator[Job]:
    """A job with its coordinator and its journal; what killed runs have left in theirs is committed first."""
    if wants_gpu := next((one for one in embeddings if one.gpus and not resources.gpus), None):
        told = f"the embedder of {wants_gpu.space.name} asks for a GPU, and there is none"
        raise UserError(told, "join a cluster that has one, or let the recipe run it on a CPU")
    wanted = {one.name: one.gpus for one in filters if one.make is not None}
    wanted |= {one.stage: one.gpus for one in (*captions, *embeddings)}
    for stage, gpus in wanted.items() if resources.gpus else ():
        check_room(stage, 0.0, gpus, resources)  # now, and not hours later when it is its turn
    name = name or uuid.uuid4().hex[:12]
    with watch.searching("taking up what killed runs have left"):
        account.recovered = journal.recover(pyramid)
    for dataset in ("videos", "clips"):
        retrying(f"columns of {dataset}", lambda dataset=dataset: writable(pyramid, dataset))
    coordinator, mine = start_coordinator(recipe.run.attempts), Journal(pyramid.uri, name, pyramid.storage_options)
    share = of_pyramid(pyramid.uri, name, coordinator) if resources.is_joined else ALONE
    settings = (coordinator, mine, filters, retry_quarantined, captions, embeddings, reason, share)
    try:
        yield Job(name, pyramid, recipe, resources, account, watch, *settings)
    finally:
        share.leave()
    mine.close()


@dataclass(frozen=True, slots=True)
class _Keep:
    """Writes a worker's results into the journal, but for faults: whether they may be written shows later."""

    journal: Journal

    def __call__(self, result: Result) -> str:
        batch = batch_of(result)
        return "" if batch is None or fault_of(result) else self.journal.keep(batch)
