"""Stages on Ray Data: the thin layer between plain stage classes and Ray's back-pressure, autoscaling and retries.

A stage is any callable class with `stage(item, report) -> result`; it does not know that Ray runs it. `run` streams
items through a list of stages and yields the last one's results as they come, in any order.
"""

from __future__ import annotations

import logging
import time
import uuid
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol

from curation.errors import UserError
from curation.pyramid.retry import explained
from pipelines.cluster import Resources
from pipelines.foreman import Foreman

Report = Callable[[str, int], None]
"""`report(item, frames)`: says what a stage works on and how far it is."""

_BEAT_EVERY_S = 1.0
Keep = Callable[[Any], str]
"""Writes a result down where a kill cannot reach it, and names the entry; see `curation.pyramid.journal`."""


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


class Stage(Protocol):
    """One step of a pipeline. It must not raise for the data's sake: what is wrong with an item is in its result."""

    def __call__(self, item: Any, report: Report) -> Any: ...


@dataclass(frozen=True, slots=True)
class StageSpec:
    """How to make a stage in its worker, and what a worker may use. `cpus` and `gpus` are fractions that Ray reserves.

    `python`: the interpreter of the environment that the stage lives in; None is ours.
    """

    name: str
    make: Callable[[], Stage]
    cpus: float = 0.8
    gpus: float = 0.0
    python: str | None = None


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


def hire(attempts: int) -> Any:
    """A foreman actor for one run."""
    import ray

    options = {"num_cpus": 0, "max_restarts": -1, "max_task_retries": -1}
    return ray.remote(Foreman).options(**options).remote(attempts)


def run(
    items: Iterable[Any], specs: list[StageSpec], foreman: Any, resources: Resources, keep: Keep
) -> Iterator[Delivery]:
    """Results of the last stage for every item. Holds the items, not the results, in memory.

    A worker keeps each result before it begins its next item, so a kill loses at most one each.
    """
    import ray
    from ray.data import DataContext

    listed = list(items)
    if not listed:
        return
    for spec in specs:
        if spec.gpus and not resources.gpus:  # Ray would wait for one for ever
            raise UserError(f"stage {spec.name} needs a GPU; Ray sees none", "join a cluster with one, or use the CPU")
    context = DataContext.get_current()
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    dataset = ray.data.from_items([{"item": item} for item in listed], override_num_blocks=_blocks(len(listed)))
    for spec in specs:
        workers = pool_size(spec, len(specs), resources, len(listed))
        remote: dict[str, Any] = {"runtime_env": {"py_executable": spec.python}} if spec.python else {}
        worker: Any = _Worker  # Ray Data's types know functions only
        dataset = dataset.map(
            worker,
            fn_constructor_args=(spec.name, spec.make, foreman, keep if spec is specs[-1] else None),
            compute=ray.data.ActorPoolStrategy(size=workers, max_tasks_in_flight_per_actor=2),
            num_cpus=spec.cpus / len(specs),
            num_gpus=spec.gpus or None,
            **remote,
        )
    # Nothing is fetched ahead: a result would wait for the next one before anybody sees it.
    for batch in dataset.iter_batches(batch_size=None, prefetch_batches=0, batch_format="numpy"):
        for result, entry in zip(batch["item"], batch["entry"], strict=True):
            if isinstance(result, _Stopped):
                raise UserError(result.cause, result.remedy)
            yield Delivery(result, str(entry))


def pool_size(spec: StageSpec, stages: int, resources: Resources, items: int) -> int:
    """How many workers a stage gets: what its resources allow, no more than there are items, at least one.

    The stages of a pipeline share the processors evenly; a reserve stays free, because Ray Data stands still without a
    word when actors hold every one.
    """
    allowed = int(resources.cpus * 0.9 / spec.cpus) if spec.cpus else items
    if spec.gpus:
        allowed = min(allowed, int(resources.gpus / spec.gpus))
    return max(1, min(allowed, items))


def _blocks(items: int) -> int:
    """One item a block while there are few, so that a lost worker repeats one; more when blocks would be too many."""
    return min(items, 1000)


class _Worker:
    """What Ray Data calls: the stage, with its reports sent to the foreman and its results kept."""

    def __init__(self, name: str, make: Callable[[], Stage], foreman: Any, keep: Keep | None) -> None:
        self._name, self._make, self._foreman, self._keep = name, make, foreman, keep
        self._id = uuid.uuid4().hex
        self._heard = 0.0
        self._stage: Stage | None = None

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        try:
            return self._done(row["item"])
        except Exception as error:
            known = error if isinstance(error, UserError) else explained(error)
            if known is None:
                raise
            return {"item": _Stopped(known.cause, known.remedy), "entry": ""}

    def _done(self, item: Any) -> dict[str, Any]:
        if isinstance(item, _Stopped):  # of the stage before this one
            return {"item": item, "entry": ""}
        if self._stage is None:  # not sooner, so that what it fails with can be told
            self._stage = self._make()
        result = self._stage(item, self._report)
        entry = self._keep(result) if self._keep else ""
        self._heard = 0.0
        self._foreman.beat.remote(self._id, self._name, "", 0)
        return {"item": result, "entry": entry}

    def _report(self, item: str, frames: int) -> None:
        now = time.monotonic()
        if now - self._heard >= _BEAT_EVERY_S:
            self._heard = now
            self._foreman.beat.remote(self._id, self._name, item, frames)
