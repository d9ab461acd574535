"""The driver of a run on Ray: it starts the group, shows what the workers tell, ends ranks that are silent, and hands a
signal on.

    Job, Crew -> train_on_ray -> Group.run in a thread; beside it: Monitor.take -> watch, account, Beats
"""

from __future__ import annotations

import os
import threading
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import ray
from ray.exceptions import RayError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from curation.errors import UserError
from pipelines.execution.cluster import unspoken
from pipelines.train import Trained, Watch, alone
from pipelines.training import nodes
from pipelines.training.account import Course
from pipelines.training.group import Crew, Group
from pipelines.training.monitor import Began, Event, Lost, Monitor, Note, Seen, Stepped, Worker
from pipelines.training.shared import check_shared
from pipelines.training.timeouts import Timeouts
from pipelines.training.worker import Order
from training.assemble import BaseJob
from training.recovery.beats import Beats
from training.recovery.guard import Faulty

LOOK_S = 0.2
_KILL_S = 30.0


def train_on_ray(
    job: BaseJob,
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
    with alone(job.folder), timeouts.in_force(), unspoken():
        check_shared(job.folder, reads)
        return Driver(job, crew, watch, stop, course, timeouts).run()


class Driver:
    """See `train_on_ray`."""

    def __init__(
        self, job: BaseJob, crew: Crew, watch: Watch, stop: Callable[[], bool], course: Course, timeouts: Timeouts
    ) -> None:
        self._crew, self._watch, self._asked, self._course = crew, watch, stop, course
        self._timeouts, self._folder = timeouts, job.folder
        here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
        self._monitor: Any = ray.remote(Monitor).options(num_cpus=0, scheduling_strategy=here).remote()
        self._order = ray.put(Order(job, os.getcwd()))
        self._beats, self._workers = Beats(timeouts.silence, timeouts.aside), dict[int, Worker]()
        self._killed: dict[Worker, str] = {}
        self._gone: set[Worker] = set()
        self._last: dict[int, Worker] = {}
        self._suspected: Counter[str] = Counter()
        self._without: set[str] = set()
        self._checkpoints, self._suspect = job.checkpoints, False
        self._first: Began | None = None
        self._stopping = self._heard = False

    def run(self) -> Trained:
        found = None
        while found is None:
            left = max(0, self._crew.restarts - len(self._course.restarts))
            crew = self._manned()
            if self._suspect:
                self._set_aside()
            try:
                found = self._watched(Group(crew, self._timeouts, self._folder, self._given, self._without), left)
            except Faulty as error:
                self._faulty(error)
        if (first := self._first) is None:
            return found
        return replace(found, began=first.progress.step, first=first.validation)

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
            if self._stopping and not self._heard:
                raise KeyboardInterrupt  # nobody is there yet to stop after a step, and none has anything to save
        self._attend()
        (found,) = outcome
        if isinstance(found, BaseException):
            raise found
        return found

    def _attend(self) -> None:
        if self._asked() and not self._stopping:
            self._stopping = True
            ray.get(self._monitor.stop.remote())
        seen: Seen = ray.get(self._monitor.take.remote())
        now = time.monotonic()
        for event in seen.events:
            self._show(event)
        for rank, pulse in seen.pulses.items():
            if pulse.worker in self._gone:
                continue
            self._heard = True
            if self._workers.get(rank) != pulse.worker:
                self._beats.left(rank)
            self._workers[rank] = self._last[rank] = pulse.worker
            if pulse.over:
                del self._workers[rank]
            if pulse.mark is None:
                self._beats.left(rank)
            else:
                self._beats.heard(rank, pulse.mark, now)
        for silent in self._beats.silent(now)[:1]:
            self._end(self._workers[silent.rank], silent.why)

    def _show(self, event: Event) -> None:
        watch = self._watch
        if isinstance(event, Note):
            watch.note(event.text)
        elif isinstance(event, Began):
            self._first = self._first or event
            watch.begin(event.progress, event.steps, event.validation, event.measure)
        elif isinstance(event, Stepped):
            watch.step(event.progress, event.report)
        else:
            self._lost(event)

    def _lost(self, event: Lost) -> None:
        """A group is gone; Ray Train starts the next one where it may."""
        why = "; ".join(self._killed.values()) or f"rank {event.first}: {event.why[event.first]}"
        where = self._machines([event.first])
        told = f"after step {self._course.step}: {why}" + (f" (on {where})" if where else "")
        self._course.restarts.append(told)
        number, most = len(self._course.restarts), self._crew.restarts
        self._watch.note(f"workers were lost {told}" + (f"; restart {number} of {most}" if number <= most else ""))
        self._forget()

    def _forget(self) -> None:
        """Nobody of this group is there any more; pulses of theirs may be on the way."""
        self._gone.update(self._last.values())
        self._beats = Beats(self._timeouts.silence, self._timeouts.aside)
        self._workers, self._killed = {}, {}
        self._heard = False

    def _machines(self, ranks: Iterable[int]) -> str:
        return ", ".join(sorted({self._last[rank].machine for rank in ranks if rank in self._last}))

    def _faulty(self, error: Faulty) -> None:
        """All ranks have stopped: try every node, leave out those that are not sound, and go on from the last
        checkpoint; from the one before it (`_set_aside`), where wrong numbers may have gone unseen. UserError: no
        restart is left."""
        course, watch = self._course, self._watch
        course.restarts.append(error.cause)
        watch.note(f"{error.cause}; all nodes are tried")
        if len(course.restarts) > self._crew.restarts:
            raise error
        tried = nodes.nodes(self._without, self._crew.gpu)
        bad = dict(nodes.faulty(tried, self._crew.gpu))
        blamed = {self._last[rank].node for rank in error.ranks if rank in self._last}
        self._suspected.update(blamed)
        if not bad:
            bad = {
                one: "no fault is found in it, and it was blamed twice" for one in blamed if self._suspected[one] > 1
            }
        for node in tried:
            if node.id in bad:
                told = f"node {node.name} ({node.id[:8]}) is left out: {bad[node.id]}"
                course.left_out.append(told)
                watch.note(told)
        if not bad:
            watch.note("every node is sound; if the same rank is blamed again, its node is left out")
        self._without.update(bad)
        self._suspect |= error.spike
        self._forget()

    def _set_aside(self) -> None:
        """The newest checkpoint, in which wrong numbers may have gone unseen. The only one stays: without it all of the
        run would be lost for a suspicion."""
        self._suspect = False
        whole = self._checkpoints.whole()
        if len(whole) > 1:
            aside = self._checkpoints.set_aside(whole[-1])
            self._watch.note(f"{whole[-1].name} may hold wrong numbers: it is kept as {aside.name} and not loaded")
        elif whole:
            self._watch.note(f"{whole[-1].name} may hold wrong numbers, and is taken all the same: there is no other")

    def _manned(self) -> Crew:
        """As many workers as the nodes that are left have room for. UserError: too few."""
        crew = self._crew
        if not self._without:
            return crew
        room = nodes.room(self._without, crew.resources)
        if room < crew.least:
            raise UserError(
                f"without the nodes that are left out there is room for {room} workers, and {crew.least} are needed",
                "add a node, or go on with fewer by --min-workers; the same command goes on where it stopped",
            )
        return replace(crew, workers=min(crew.workers, room))

    def _end(self, worker: Worker, why: str) -> None:
        """Kill a silent process: then those that wait for it fail at once, and Ray Train sees it. Where its node is
        there and does not answer, it is tried again at the next look."""
        place = NodeAffinitySchedulingStrategy(worker.node, soft=False)
        task = ray.remote(killed).options(num_cpus=0, max_retries=0, scheduling_strategy=place).remote(worker)
        try:
            ray.get(task, timeout=_KILL_S)
        except RayError as error:
            ray.cancel(task, force=True)
            self._watch.note(f"{why}; its node does not answer ({type(error).__name__})")
            if any(one["NodeID"] == worker.node and one["Alive"] for one in ray.nodes()):
                return  # else Ray sees by itself that it is gone
        self._killed[worker] = why
        self._gone.add(worker)
        self._beats.left(worker.rank)


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
