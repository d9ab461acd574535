"""What the processes of a run tell its driver, and what it tells them: an actor between them, beside the driver.

    workers: pulses, notes, steps -> Monitor -> driver: shown to a person, written into the record
    Ray Train's controller: why workers were lost -> Monitor
    driver: stop -> Monitor -> workers, with the answer to their next pulse

Metrics do not go through `ray.train.report`: that is a barrier, and waits for the controller's next look.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from training.callbacks.base import Report
from training.recovery.beats import Mark
from training.trainer import Progress


@dataclass(frozen=True, slots=True)
class Worker:
    """A process of the run. `node`: Ray's id of it, `machine`: its name. `started`: of the process, so that no other
    one is taken for it."""

    rank: int
    ranks: int
    node: str
    machine: str
    pid: int
    started: float

    @classmethod
    def this(cls, rank: int, ranks: int) -> Worker:
        import psutil
        import ray

        node = ray.get_runtime_context().get_node_id()
        return cls(rank, ranks, node, socket.gethostname(), os.getpid(), psutil.Process().create_time())


@dataclass(frozen=True, slots=True)
class Note:
    """What a person should know."""

    text: str


@dataclass(frozen=True, slots=True)
class Began:
    """The first step of a group is next."""

    progress: Progress
    steps: int
    validation: float | None
    measure: str


@dataclass(frozen=True, slots=True)
class Stepped:
    """A step was taken."""

    progress: Progress
    report: Report


@dataclass(frozen=True, slots=True)
class Lost:
    """A group has ended otherwise than it should. `why`: in one line, by rank; `first`: the rank that is the likeliest
    to have begun it."""

    why: Mapping[int, str]
    first: int


Event = Note | Began | Stepped | Lost


@dataclass(frozen=True, slots=True)
class Pulse:
    """Of one worker: where it is, None while it is not in a step, and what has happened there since the last one."""

    worker: Worker
    mark: Mark | None
    events: Sequence[Event] = ()
    over: bool = False


@dataclass(slots=True)
class Seen:
    """What has come since the driver looked last: events in their order, and of each worker the last pulse."""

    events: list[Event] = field(default_factory=list)
    pulses: dict[int, Pulse] = field(default_factory=dict)


class Monitor:
    """The actor. It keeps what is told until the driver takes it, and judges nothing."""

    def __init__(self) -> None:
        self._seen, self._stop = Seen(), False

    def pulse(self, pulse: Pulse) -> bool:
        """Whether the run is to stop."""
        self._seen.pulses[pulse.worker.rank] = pulse
        self._seen.events += pulse.events
        return self._stop

    def lost(self, event: Lost) -> None:
        self._seen.events.append(event)

    def stop(self) -> None:
        self._stop = True

    def take(self) -> Seen:
        """What has come since it was taken last."""
        taken, self._seen = self._seen, Seen()
        return taken
