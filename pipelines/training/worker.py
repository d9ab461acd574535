"""One process of a run on Ray: `pipelines.train.train`, as `torchrun` would start it, and a thread that tells of it."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from typing import Any

from curation.errors import UserError
from pipelines.train import Trained, train
from pipelines.training.monitor import Began, Event, Note, Pulse, Stepped, Worker
from training.assemble import BaseJob
from training.callbacks.base import Report
from training.callbacks.pulse import Pulse as Pulses
from training.trainer import Progress

BEAT_S = 0.25


@dataclass(frozen=True, slots=True)
class Order:
    """What every worker gets. `job`: with all that was decided about its data, so that ranks cannot differ. `folder`:
    from which its relative paths count."""

    job: BaseJob
    folder: str


def work(given: Mapping[str, Any]) -> Trained | None:
    """What Ray Train calls in each worker, with an order and the monitor; None of a rank that is left over."""
    import ray

    order: Order = ray.get(given["order"])
    with suppress(OSError):  # another machine may not have it: then the paths are absolute, or are missed in their turn
        os.chdir(order.folder)
    there = int(os.environ["WORLD_SIZE"])
    rank = shared_out(order.job.preset.per_step, order.job.preset.context)
    if rank is None:
        return None
    here = Worker.this(rank, int(os.environ["WORLD_SIZE"]))
    pulse = Pulses(slow_inputs=order.job.streams)
    with Telling(given["monitor"], here, pulse).going_on() as telling:
        if rank == 0 and (spare := there - here.ranks):
            count = f"{order.job.preset.per_step} micro-batches a step cannot be shared among {there}"
            telling.note(f"{spare} of {there} workers are left over: {count}")
        first, last = [telling.pulse.aside], [telling.pulse]
        return train(order.job, telling, lambda: telling.stop, held=True, ahead=first, beside=last)


def shared_out(per_step: int, context: int) -> int | None:
    """This process's rank among as many of those that were started as can share a step; None of the ones left over.

    An elastic run is given any number. Ranks that are not needed leave, and the others form a group of their own.
    """
    import torch.distributed as dist

    rank, there = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    used = usable(there, per_step, context)
    if used == there:
        return rank
    port = [_free_port() if rank == 0 else 0]
    dist.broadcast_object_list(port, src=0)
    dist.destroy_process_group()
    os.environ.update(WORLD_SIZE=str(used), MASTER_PORT=str(port[0]))
    return rank if rank < used else None


def usable(there: int, per_step: int, context: int) -> int:
    """As many of so many ranks as can share a step, `context` of them a micro-batch. UserError: too few."""
    if there < context:
        raise UserError(f"{context} ranks share a sample, and there are {there}", "raise --min-workers")
    return context * next(count for count in range(there // context, 0, -1) if per_step % count == 0)


@dataclass
class Telling:
    """A `pipelines.train.Watch` that hands all on to the monitor, from a thread: a step never waits for Ray."""

    monitor: Any
    worker: Worker
    pulse: Pulses = field(default_factory=Pulses)
    stop: bool = False
    _events: list[Event] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def note(self, text: str) -> None:
        self._add(Note(text))

    def begin(self, progress: Progress, steps: int, validation: float | None, measure: str) -> None:
        self._add(Began(progress, steps, validation, measure))

    def step(self, progress: Progress, report: Report) -> None:
        self._add(Stepped(progress, replace(report, told={})))

    @contextmanager
    def going_on(self) -> Iterator[Telling]:
        """The thread, while the block lasts; what is left to be told has arrived at its end."""
        over = threading.Event()
        thread = threading.Thread(target=self._beat, args=(over,), name="pulse", daemon=True)
        thread.start()
        try:
            yield self
        finally:
            over.set()
            thread.join()
            self._send(over=True)

    def _add(self, event: Event) -> None:
        with self._lock:
            self._events.append(event)

    def _beat(self, over: threading.Event) -> None:
        while not over.wait(BEAT_S):
            self._send()

    def _send(self, over: bool = False) -> None:
        import ray

        with self._lock:
            events, self._events = self._events, []
        mark = None if over else self.pulse.mark
        self.stop = ray.get(self.monitor.pulse.remote(Pulse(self.worker, mark, events, over)))


def _free_port() -> int:
    import socket

    with socket.socket() as found:
        found.bind(("", 0))
        return int(found.getsockname()[1])
