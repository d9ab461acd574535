"""Stages on Ray Data: the thin layer between plain stage classes and Ray's back-pressure, autoscaling and retries.

A stage is any callable class with `stage(item, report) -> result`; it does not know that Ray runs it. `run` streams
items through a list of stages and yields the last one's results as they come, in any order. What becomes of an item
that a stage cannot do is in `attempts`.
"""

from __future__ import annotations

import logging
import os
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, NoReturn

from curation.errors import UserError, WorkerSpentError
from curation.retry import explained
from pipelines import logs
from pipelines.execution.attempts import Attempts, Pace
from pipelines.execution.cluster import Resources
from pipelines.execution.coordinator import Coordinator
from pipelines.execution.sharing import Elsewhere, Share
from pipelines.stages.base import GiveUp, Report, Stage
from pipelines.stages.results import named

_BEAT_EVERY_S = 1.0
SPENT = 70
"""The exit code of a worker that is of no use any more."""

_STARTS = 3
"""Times that a whole pool of workers may die while it starts before the run ends."""

Keep = Callable[[Any], str]
"""Writes a result down where a kill cannot reach it, and names the entry; see `curation.pyramid.commits.journal`."""


@dataclass(frozen=True, slots=True)
class Delivery:
    """A result on its way to the pyramid, and its `entry` in the journal ("" for one that is not kept)."""

    result: Any
    entry: str = ""


@dataclass(frozen=True, slots=True)
class _Stopped:
    """What a worker sends in place of a result when the run cannot go on. As data: of an exception Ray keeps the text
    only, and prints it at length.
    """

    cause: str
    remedy: str


@dataclass(frozen=True, slots=True)
class _Final:
    """A result that passes the stages still to come: of an item that one before them gave up."""

    result: Any


@dataclass(frozen=True, slots=True)
class StageSpec:
    """How to make a stage in its worker, and what a worker may use. `cpus` and `gpus` are fractions that Ray reserves.

    `python`: the interpreter of the environment that the stage lives in; None is ours. `give_up`: the result of an item
    that the stage cannot do; without it such an item stops the run. `paced`: results are kept every few seconds, and
    not only when the whole item is done. `counts_lost`: the stage itself counts the workers that an item has cost.
    `workers`: so many at most, None for what the resources allow. `at_once`: items that a worker has in hand side by
    side; above 1 its stage is called from several threads.
    """

    name: str
    make: Callable[[], Stage]
    cpus: float = 0.8
    gpus: float = 0.0
    python: str | None = None
    give_up: GiveUp | None = None
    paced: bool = False
    counts_lost: bool = False
    workers: int | None = None
    at_once: int = 1


@dataclass(frozen=True, slots=True)
class Chained:
    """Makes one stage of several that may share a worker: fewer processes, and nothing travels between them."""

    makes: tuple[Callable[[], Stage], ...]

    def __call__(self) -> Stage:
        stages = [make() for make in self.makes]

        def chained(item: Any, report: Report) -> Any:
            for stage in stages:
                item = stage(item, report)
            return item

        return chained


def start_coordinator(attempts: int) -> Any:
    """A coordinator actor for one run."""
    import ray

    options = {"num_cpus": 0, "max_restarts": -1, "max_task_retries": -1}
    return ray.remote(Coordinator).options(**options).remote(attempts)


def run(
    items: Iterable[Any],
    specs: list[StageSpec],
    coordinator: Any,
    resources: Resources,
    keep: Keep,
    attempts: int = 3,
    share: Share | None = None,
) -> Iterator[Delivery]:
    """Results of the last stage for every item. Holds the items, not the results, in memory.

    A worker keeps each result before it begins what comes next, so a kill loses at most one each. An item that fails
    `attempts` times, or costs as many workers, ends in what its stage's `give_up` makes of it. What another run is at
    comes back as `Elsewhere`.
    """
    import ray
    from ray.data import DataContext

    listed = list(items)
    if not listed:
        return
    for spec in specs:
        check_room(spec.name, spec.cpus / len(specs), spec.gpus, resources)
    context = DataContext.get_current()
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    this = uuid.uuid4().hex[:12]
    rows = [{"item": item, "key": f"{this}-{number}"} for number, item in enumerate(listed)]
    pools = [pool_size(spec, len(specs), resources, len(listed)) for spec in specs]
    # A node that goes takes all workers with it that are starting there; Ray Data would end the run with the first one.
    context.max_consecutive_actor_init_deaths = _STARTS * max(pools)
    dataset = ray.data.from_items(rows, override_num_blocks=_blocks(len(listed)))
    for spec, workers in zip(specs, pools, strict=True):
        remote: dict[str, Any] = {"runtime_env": {"py_executable": spec.python}} if spec.python else {}
        worker: Any = _Worker  # Ray Data's types know functions only
        dataset = dataset.flat_map(
            worker,
            fn_constructor_args=(
                spec,
                coordinator,
                attempts,
                keep if spec is specs[-1] else None,
                share if spec is specs[0] else None,
                specs[-1].name,
            ),
            compute=ray.data.ActorPoolStrategy(
                size=workers,
                max_tasks_in_flight_per_actor=spec.at_once + 1,
                max_concurrent_calls_per_actor=spec.at_once,
                enable_true_multi_threading=spec.at_once > 1,
            ),
            num_cpus=spec.cpus / len(specs),
            num_gpus=spec.gpus or None,
            **remote,
        )
    # Nothing is fetched ahead: a result would wait for the next one before anybody sees it.
    for batch in dataset.iter_batches(batch_size=None, prefetch_batches=0, batch_format="numpy"):
        pairs = zip(batch["item"], batch["entry"], strict=True)
        yield from delivered({"item": item, "entry": entry} for item, entry in pairs)


def check_room(stage: str, cpus: float, gpus: float, resources: Resources) -> None:
    """UserError where no node has what one worker of a stage needs: Ray would wait for it for ever."""
    if gpus and not resources.gpus:
        raise UserError(f"stage {stage} needs a GPU; Ray sees none", "join a cluster with one, or use the CPU")
    if resources.cpus and (cpus or gpus) and not resources.room(cpus, gpus):  # 0: nodes are still to come
        needs = " and ".join(f"{many:g} {what}" for many, what in ((cpus, "CPUs"), (gpus, "GPUs")) if many)
        raise UserError(
            f"a worker of stage {stage} needs {needs}, which no machine of {resources.nodes} has",
            "let the recipe ask for less, or join a cluster with a larger one",
        )


def delivered(rows: Iterable[dict[str, Any]]) -> Iterator[Delivery]:
    """What the last stage's worker gave, as results. Raises the `UserError` of a worker that could not go on."""
    for row in rows:
        if isinstance(row["item"], _Stopped):
            raise UserError(row["item"].cause, row["item"].remedy)
        yield Delivery(row["item"], str(row["entry"]))


def pool_size(spec: StageSpec, stages: int, resources: Resources, items: int) -> int:
    """How many workers a stage gets: what its resources allow, no more than there are items, at least one.

    The stages of a pipeline share the processors evenly; a reserve stays free, because Ray Data stands still without a
    word when actors hold every one.
    """
    allowed = int(resources.cpus * 0.9 / spec.cpus) if spec.cpus else items
    if spec.gpus:
        allowed = min(allowed, resources.room(spec.cpus / stages, spec.gpus))
    return max(1, min(allowed, items, items if spec.workers is None else spec.workers))


def _blocks(items: int) -> int:
    """One item a block while there are few, so that a lost worker repeats one; more when blocks would be too many."""
    return min(items, 1000)


class _Worker:
    """What Ray Data calls: the stage; tries are counted, reports go to the coordinator, and results are kept.

    `share`: of the first stage of a chain, which takes an item for all of them, in the name of the last, `of`.
    """

    def __init__(
        self,
        spec: StageSpec,
        coordinator: Any,
        attempts: int,
        keep: Keep | None,
        share: Share | None = None,
        of: str = "",
    ) -> None:
        self._spec, self._coordinator, self._keep = spec, coordinator, keep
        self._share, self._of = share, of
        self._attempts = attempts + 1 if spec.counts_lost else attempts
        self._id = uuid.uuid4().hex
        self._heard = 0.0
        self._stage: Attempts | None = None
        self._making = threading.Lock()
        logs.configure(os.environ.get(logs.VARIABLE))
        logs.of_process(stage=spec.name)

    def __call__(self, row: dict[str, Any]) -> Iterator[dict[str, Any]]:
        try:
            yield from self._rows(row["item"], row["key"])
        except WorkerSpentError as error:
            _end(self._spec.name, error)
        except Exception as error:
            known = error if isinstance(error, UserError) else explained(error)
            if known is None:
                known = UserError(f"stage {self._spec.name}: {type(error).__name__}: {error}", "see `ziggurat doctor`")
            yield _row(_Stopped(known.cause, known.remedy), row["key"])

    def _rows(self, item: Any, key: str) -> Iterator[dict[str, Any]]:
        if isinstance(item, _Stopped):  # of the stage before this one
            yield _row(item, key)
            return
        if isinstance(item, _Final):
            yield self._kept(item.result, key)
            return
        for start, part in [(0, item)] if self._share is None else self._share.ours(self._of, item, named(item)):
            yield from self._worked(part, f"{key}@{start}")

    def _worked(self, item: Any, key: str) -> Iterator[dict[str, Any]]:
        if isinstance(item, Elsewhere):
            yield _row(item if self._keep else _Final(item), key)
            return
        with logs.bound(video=getattr(item, "video_id", None), uri=getattr(item, "uri", None)):
            for number, result in enumerate(self._ready()(key, item, self._report)):
                yield self._kept(result, f"{key}.{number}")
        self._heard = 0.0
        self._coordinator.beat.remote(self._id, self._spec.name, "", 0)

    def _kept(self, result: Any, key: str) -> dict[str, Any]:
        return _row(result, key, self._keep(result) if self._keep else "")

    def _ready(self) -> Attempts:
        """The stage, made when the first item comes and not sooner, so that what it fails with can be told."""
        with self._making:
            if self._stage is None:
                spec = self._spec
                give_up = None if spec.give_up is None else spec.give_up if self._keep else _Finally(spec.give_up)
                pace = Pace() if spec.paced and self._keep else None
                self._stage = Attempts(_made(spec), _Tries(self._coordinator), self._attempts, give_up, pace)
            return self._stage

    def _report(self, item: str, frames: int) -> None:
        now = time.monotonic()
        if now - self._heard >= _BEAT_EVERY_S:
            self._heard = now
            self._coordinator.beat.remote(self._id, self._spec.name, item, frames)


def _made(spec: StageSpec) -> Stage:
    try:
        return spec.make()
    except UserError:
        raise
    except Exception as error:
        cause = f"stage {spec.name} cannot start: {type(error).__name__}: {error}"
        raise UserError(cause, "see `ziggurat doctor`") from error


def _end(stage: str, error: WorkerSpentError) -> NoReturn:
    """End this worker as if it had been killed, with all that it has started: Ray replaces it, and the items that it
    had in hand are begun again, as often as `attempts` allows.
    """
    import psutil

    print(f"stage {stage}: {error}; its worker ends", file=sys.stderr, flush=True)
    for child in psutil.Process().children(recursive=True):
        with suppress(psutil.Error):
            child.kill()
    os._exit(SPENT)


def _row(item: Any, key: str, entry: str = "") -> dict[str, Any]:
    return {"item": item, "key": key, "entry": entry}


@dataclass(frozen=True, slots=True)
class _Finally:
    """Marks what a stage gives up as final, for the stages after it."""

    give_up: GiveUp

    def __call__(self, item: Any, verdict: Any) -> _Final:
        return _Final(self.give_up(item, verdict))


class _Tries:
    """`attempts.Tries` by the coordinator's actor."""

    def __init__(self, coordinator: Any) -> None:
        self._coordinator = coordinator

    def begin(self, key: str) -> int:
        import ray

        return ray.get(self._coordinator.begin.remote(key))

    def end(self, keys: Sequence[str]) -> None:
        self._coordinator.end.remote(list(keys))
