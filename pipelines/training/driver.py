"""The driver of a run on Ray: it starts the group, shows what the workers tell, ends ranks that are silent, and hands a
signal on.

    Job, Crew -> train_on_ray -> Group.run in a thread; beside it: Monitor.take -> watch, account, Beats
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import ray
from ray.exceptions import RayError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from curation.errors import UserError
from pipelines.train import Trained, Watch, alone
from pipelines.training.group import Crew, Group
from pipelines.training.monitor import Began, Event, Lost, Monitor, Note, Stepped, Worker
from pipelines.training.shared import check_shared
from pipelines.training.timeouts import Timeouts
from pipelines.training.worker import Order
from training.assemble import Job
from training.recovery.beats import Beats

LOOK_S = 0.2
_KILL_S = 30.0


@dataclass(slots=True, kw_only=True)
class Course:
    """What a run has been through. `began`: its first step here, `first`: the validation loss there. `step`: the latest.
    `losses`: one line for each group that was lost, with the step. `events`: what was noticed and cost nothing."""

    began: int | None = None
    first: float | None = None
    step: int = 0
    skipped: int = 0
    losses: list[str] = field(default_factory=list)
    events: list[str] = field(default_factory=list)


def train_on_ray(
    job: Job,
    crew: Crew,
    watch: Watch,
    stop: Callable[[], bool],
    course: Course,
    timeouts: Timeouts,
    reads: Collection[Path] = (),
) -> Trained:
    """Train a job with the processes of a crew on the Ray that was joined. `reads`: folders that every node must see
    beside the run's own. UserError: what `pipelines.train.train` raises in any process, a folder that a node does not
    see, no room, or more losses than restarts."""
    with alone(job.folder), timeouts.in_force():
        check_shared(job.folder, reads)
        return Driver(job, crew, watch, stop, course, timeouts).run()


class Driver:
    """See `train_on_ray`."""

    def __init__(
        self, job: Job, crew: Crew, watch: Watch, stop: Callable[[], bool], course: Course, timeouts: Timeouts
    ) -> None:
        self._crew, self._watch, self._asked, self._course = crew, watch, stop, course
        self._timeouts, self._folder = timeouts, job.folder
        here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
        self._monitor: Any = ray.remote(Monitor).options(num_cpus=0, scheduling_strategy=here).remote()
        self._order = ray.put(Order(job, os.getcwd()))
        self._beats, self._workers = Beats(timeouts.silence), dict[int, Worker]()
        self._killed: dict[Worker, str] = {}
        self._stopping = False

    def run(self) -> Trained:
        found = self._watched(Group(self._crew, self._timeouts, self._folder, self._given), self._crew.restarts)
        course = self._course
        return replace(found, began=found.began if course.began is None else course.began, first=course.first)

    @property
    def _given(self) -> Mapping[str, Any]:
        return {"order": self._order, "monitor": self._monitor}

    def _watched(self, group: Group, restarts: int) -> Trained:
        """Run a group in a thread, and attend to what comes until it has ended."""
        outcome: list[Trained | BaseException] = []

        def fit() -> None:
            try:
                outcome.append(group.run(restarts))
            except BaseException as error:
                outcome.append(error)

        thread = threading.Thread(target=fit, name="ray train", daemon=True)
        thread.start()
        while thread.is_alive():
            thread.join(LOOK_S)
            self._attend()
            if self._stopping and not self._workers:
                raise KeyboardInterrupt  # nobody is there yet to stop after a step
        self._attend()
        (found,) = outcome
        if isinstance(found, BaseException):
            raise found
        return found

    def _attend(self) -> None:
        if self._asked() and not self._stopping:
            self._stopping = True
            ray.get(self._monitor.stop.remote())
        seen = ray.get(self._monitor.take.remote())
        now = time.monotonic()
        for event in seen.events:
            self._show(event)
        for rank, pulse in seen.pulses.items():
            if pulse.worker in self._killed:
                continue
            if self._workers.get(rank) != pulse.worker:
                self._beats.left(rank)
            self._workers[rank] = pulse.worker
            if pulse.mark is None:
                self._beats.left(rank)
            else:
                self._beats.heard(rank, pulse.mark, now)
        for silent in self._beats.silent(now)[:1]:
            self._end(self._workers[silent.rank], silent.why)

    def _show(self, event: Event) -> None:
        course, watch = self._course, self._watch
        if isinstance(event, Note):
            if event.text not in course.events:  # a group that starts again says the same again
                course.events.append(event.text)
                watch.note(event.text)
        elif isinstance(event, Began):
            if course.began is None:
                course.began, course.first = event.progress.step, event.validation
            watch.begin(event.progress, event.steps, event.validation)
        elif isinstance(event, Stepped):
            course.step, course.skipped = event.progress.step, event.progress.skipped
            watch.step(event.progress, event.report)
        else:
            self._lost(event)

    def _lost(self, event: Lost) -> None:
        """A group is gone; Ray Train starts the next one where it may."""
        why = "; ".join(self._killed.values()) or "; ".join(f"rank {rank}: {one}" for rank, one in event.why.items())
        where = ", ".join(sorted({worker.machine for rank, worker in self._workers.items() if rank in event.why}))
        self._course.losses.append(f"step {self._course.step}: {why}" + (f" (on {where})" if where else ""))
        self._watch.note(f"workers were lost after step {self._course.step}: {why}")
        self._beats, self._workers = Beats(self._timeouts.silence), {}
        self._killed = {}

    def _end(self, worker: Worker, why: str) -> None:
        """Kill a silent process: then those that wait for it fail at once, and Ray Train sees it."""
        self._killed[worker] = why
        self._beats.left(worker.rank)
        place = NodeAffinitySchedulingStrategy(worker.node, soft=False)
        task = ray.remote(killed).options(num_cpus=0, max_retries=0, scheduling_strategy=place)
        try:
            ray.get(task.remote(worker), timeout=_KILL_S)
        except RayError as error:  # the node is gone, and Ray sees that by itself
            self._watch.note(f"{why}; its node does not answer ({type(error).__name__})")


def killed(worker: Worker) -> bool:
    """Kill that process on this machine; False where it is gone already."""
    import psutil

    try:
        process = psutil.Process(worker.pid)
        if abs(process.create_time() - worker.started) >= 2:
            return False
        process.kill()
    except psutil.NoSuchProcess:
        return False
    return True


def check_room(crew: Crew, gpus: float) -> None:
    """UserError: a machine alone does not have what the crew takes."""
    if crew.gpu and crew.workers > gpus:
        raise UserError(
            f"{crew.workers} workers take a GPU each, and this machine has {gpus:g}",
            "lower --workers, or join a cluster with --address",
        )
