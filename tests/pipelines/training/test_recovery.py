"""What the driver does about faults, with a group and a Ray that the test plays."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

pytest.importorskip("torch")

from ray.exceptions import GetTimeoutError

from curation.errors import UserError
from pipelines.train import Trained
from pipelines.training import driver, nodes
from pipelines.training.account import Course
from pipelines.training.driver import Driver
from pipelines.training.group import Crew
from pipelines.training.monitor import Lost, Pulse, Worker
from pipelines.training.timeouts import Timeouts
from training.callbacks.base import Report
from training.checkpoint.folder import Checkpoints
from training.recovery.beats import Mark
from training.recovery.guard import Faulty
from training.trainer import Progress

NODE = "0" * 56
WAIT_S = 20.0
FIRST, SECOND = (Worker(rank, 2, NODE, "machine", 100 + rank, 0.0) for rank in (0, 1))
DONE = Trained(
    folder="",
    checkpoint=None,
    began=0,
    step=9,
    steps=9,
    skipped=0,
    samples=9,
    loss=None,
    first=None,
    last=None,
    measure="",
    rank=0,
)


class Remote:
    """What `ray.remote` makes of a class or a function: called at once, here."""

    def __init__(self, made: Any) -> None:
        self._made = made

    def options(self, **_: Any) -> Remote:
        return self

    def remote(self, *arguments: Any) -> Any:
        found = self._made(*arguments)
        return Handle(found) if isinstance(self._made, type) else found


class Handle:
    """Of an actor."""

    def __init__(self, actor: Any) -> None:
        self._actor = actor

    def __getattr__(self, name: str) -> Any:
        return SimpleNamespace(remote=getattr(self._actor, name))


@dataclass
class Notes:
    """A watch that keeps what it is told."""

    told: list[str] = field(default_factory=list)

    def note(self, text: str) -> None:
        self.told.append(text)

    def begin(self, progress: Progress, steps: int, validation: float | None, measure: str) -> None: ...

    def step(self, progress: Progress, report: Report) -> None: ...


@dataclass
class Played:
    """A driver of two workers whose groups do, one after another, what `groups` say; each is given the monitor.
    `deaf`: how often their node does not answer, `alive`: whether it is there."""

    folder: Path
    patch: pytest.MonkeyPatch
    groups: list[Callable[[Any], Trained]]
    least: int = 2
    alive: bool = True
    deaf: int = 0
    stop: bool = False
    timeouts: Timeouts = field(default_factory=Timeouts)
    notes: Notes = field(default_factory=Notes)
    started: int = 0

    @property
    def checkpoints(self) -> Checkpoints:
        return Checkpoints(self.folder / "checkpoints")

    def driver(self) -> Driver:
        ray = SimpleNamespace(
            remote=Remote,
            put=lambda value: value,  # type: ignore[reportUnknownLambdaType]
            get=self._get,
            cancel=lambda *_, **__: None,  # type: ignore[reportUnknownLambdaType]
            nodes=lambda: [{"NodeID": NODE, "Alive": self.alive}],
            get_runtime_context=lambda: SimpleNamespace(get_node_id=lambda: NODE),
        )
        self.patch.setattr(driver, "ray", ray)
        self.patch.setattr(driver, "Group", self._group)
        self.patch.setattr(nodes, "nodes", lambda *_: [nodes.Node(NODE, "machine", 0)])
        self.patch.setattr(nodes, "faulty", lambda *_: {})
        job: Any = SimpleNamespace(folder=self.folder, checkpoints=self.checkpoints)
        course = Course(manifest="", data="", model="", preset={}, steps=9)
        return Driver(job, Crew(2, self.least, 3, False, 1), self.notes, lambda: self.stop, course, self.timeouts)

    def _get(self, value: Any, timeout: float | None = None) -> Any:
        if timeout is not None and self.deaf:
            self.deaf -= 1
            raise GetTimeoutError
        return value

    def _group(self, crew: Crew, timeouts: Timeouts, folder: Path, given: Any, without: Any) -> Any:
        self.started += 1
        return SimpleNamespace(run=lambda left: self.groups.pop(0)(given["monitor"]))  # type: ignore[reportUnknownLambdaType]


class Looks:
    """How often a driver has looked at what came."""

    def __init__(self, made: Driver, patch: pytest.MonkeyPatch) -> None:
        self._count, self._changed, attend = 0, threading.Condition(), made._attend

        def counted() -> None:
            attend()
            with self._changed:
                self._count += 1
                self._changed.notify_all()

        patch.setattr(driver, "LOOK_S", 0.01)
        patch.setattr(made, "_attend", counted)

    def wait_for(self, more: int) -> None:
        """Until it has looked so many times from now on: the last but one began after this call."""
        with self._changed:
            until = self._count + more
            assert self._changed.wait_for(lambda: self._count >= until, WAIT_S)


def saved(place: Path, *steps: int) -> Checkpoints:
    for step in steps:
        Checkpoints(place / "checkpoints").at(step).mkdir(parents=True)
    return Checkpoints(place / "checkpoints")


def spiked(monitor: Any) -> Trained:
    raise Faulty(3, (), True, "the loss leaps")


def done(monitor: Any) -> Trained:
    return DONE


def test_a_checkpoint_that_may_be_wrong_is_set_aside_told_and_never_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoints = saved(tmp_path, 10, 20)
    played = Played(tmp_path, monkeypatch, [spiked, done])
    assert played.driver().run() == DONE
    assert checkpoints.whole() == [checkpoints.at(10)]
    assert "step-0000000020 may hold wrong numbers: it is kept as step-0000000020.suspect and not loaded" in (
        played.notes.told
    )
    checkpoints.sweep()
    checkpoints.at(20).mkdir()
    assert checkpoints.set_aside(checkpoints.at(20)).name == "step-0000000020.suspect-2"
    checkpoints.thin(1, 0)
    assert {place.name for place in checkpoints.folder.iterdir()} == {
        "step-0000000010",
        "step-0000000020.suspect",
        "step-0000000020.suspect-2",
    }


def test_the_only_checkpoint_stays_and_that_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    checkpoints = saved(tmp_path, 10)
    played = Played(tmp_path, monkeypatch, [spiked, done])
    played.driver().run()
    assert checkpoints.whole() == [checkpoints.at(10)]
    assert any("step-0000000010 may hold wrong numbers, and is taken all the same" in one for one in played.notes.told)


def test_no_checkpoint_is_set_aside_where_the_run_does_not_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoints = saved(tmp_path, 10, 20)
    played = Played(tmp_path, monkeypatch, [spiked])
    made = played.driver()
    monkeypatch.setattr(nodes, "faulty", lambda *_: {NODE: "no answer"})
    monkeypatch.setattr(nodes, "room", lambda *_: 0)
    with pytest.raises(UserError, match="there is room for 0 workers"):
        made.run()
    assert checkpoints.whole() == [checkpoints.at(10), checkpoints.at(20)] and played.started == 1


def test_a_last_save_that_fails_after_a_signal_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The workers say first that they are over, and Ray Train hands on why some time later."""

    def fails(monitor: Any) -> Trained:
        for worker in (FIRST, SECOND):
            monitor.pulse.remote(Pulse(worker, Mark(3, 0)))
        looked.wait_for(2)
        played.stop = True
        for worker in (FIRST, SECOND):
            monitor.pulse.remote(Pulse(worker, None, over=True))
        looked.wait_for(4)
        raise UserError("the checkpoint of step 4 was not saved", "make room")

    played = Played(tmp_path, monkeypatch, [fails])
    made = played.driver()
    looked = Looks(made, monkeypatch)
    with pytest.raises(UserError, match="the checkpoint of step 4 was not saved"):
        made.run()


def test_a_signal_ends_the_run_at_once_where_no_worker_is_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before the first group has come up, and before the next one."""

    def never(monitor: Any) -> Trained:
        over.wait(WAIT_S)
        return DONE

    def lost(monitor: Any) -> Trained:
        for worker in (FIRST, SECOND):
            monitor.pulse.remote(Pulse(worker, Mark(3, 0)))
        looked.wait_for(2)
        monitor.lost.remote(Lost({0: "gone"}, 0))
        monitor.pulse.remote(Pulse(FIRST, None, over=True))
        looked.wait_for(4)
        played.stop = True
        return never(monitor)

    over = threading.Event()
    try:
        for group, stop in ((never, True), (lost, False)):
            played = Played(tmp_path, monkeypatch, [group], stop=stop)
            made = played.driver()
            looked = Looks(made, monkeypatch)
            with pytest.raises(KeyboardInterrupt):
                made.run()
    finally:
        over.set()


@pytest.mark.parametrize(("alive", "tries"), [(True, 3), (False, 1)])
def test_a_process_counts_as_gone_only_once_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, alive: bool, tries: int
) -> None:
    """Else nothing would ever end it: its pulses are passed over, and it is not missed any more."""
    played = Played(tmp_path, monkeypatch, [], alive=alive, deaf=2, timeouts=Timeouts(silence=0.0))
    made, tried = played.driver(), list[Worker]()

    def counted(worker: Worker) -> bool:
        tried.append(worker)
        return True

    monkeypatch.setattr(driver, "killed", counted)
    monitor: Any = made._given["monitor"]
    monitor.pulse.remote(Pulse(FIRST, Mark(3, 1)))
    monitor.pulse.remote(Pulse(SECOND, Mark(3, 0)))
    made._attend()
    assert tried == []
    for _ in range(5):
        monitor.pulse.remote(Pulse(FIRST, Mark(4, 0)))
        made._attend()
    assert tried.count(SECOND) == tries
