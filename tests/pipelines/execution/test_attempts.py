"""How a worker goes about an item: no thing takes its neighbours with it, and nothing is tried without end."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from curation.contract import Reason, Verdict
from curation.errors import UserError
from pipelines.execution.attempts import Attempts, Pace
from pipelines.execution.coordinator import Coordinator
from pipelines.stages.base import Report


class Died(BaseException):
    """Stands for a worker that is gone: nothing catches it."""


@dataclass(frozen=True)
class Letters:
    """An item of several things."""

    names: str

    def __len__(self) -> int:
        return len(self.names)

    def part(self, start: int, stop: int) -> Letters:
        return Letters(self.names[start:stop])


@dataclass
class Stage:
    """Raises on `poison`, dies on `deadly`; remembers what it was given."""

    poison: str = ""
    deadly: str = ""
    error: Exception = field(default_factory=lambda: ValueError("bad"))
    seen: list[str] = field(default_factory=list)

    def __call__(self, item: Letters, report: Report) -> tuple[str, None]:
        report("x", 0)
        self.seen.append(item.names)
        if set(item.names) & set(self.deadly):
            raise Died
        if set(item.names) & set(self.poison):
            raise self.error
        return item.names, None


def give_up(item: Letters, verdict: Verdict) -> tuple[str, Verdict]:
    return item.names, verdict


def quiet(item: str, frames: int) -> None:
    pass


def outcome(stage: Stage, names: str, coordinator: Coordinator, attempts: int = 2) -> dict[str, Verdict | None]:
    """What becomes of each thing when Ray begins the item again each time that its worker dies."""
    for _ in range(100):
        try:
            results = list(Attempts(stage, coordinator, attempts, give_up, Pace())("key", Letters(names), quiet))
        except Died:
            continue
        ends = [(name, verdict) for some, verdict in results for name in some]
        assert len(ends) == len(names), "a thing has two results"
        return dict(ends)
    raise AssertionError("it is tried without end")


@given(st.text("abcdefgh", min_size=1, max_size=8).map(lambda s: "".join(dict.fromkeys(s))), st.data())
def test_what_fails_ends_with_its_reason_and_its_neighbours_are_done(names: str, data: st.DataObject) -> None:
    poison = data.draw(st.sets(st.sampled_from(names)))
    deadly = data.draw(st.sets(st.sampled_from(names)))
    coordinator = Coordinator(attempts=2)
    ends = outcome(Stage("".join(poison), "".join(deadly)), names, coordinator)
    for name in names:
        verdict = ends[name]
        wanted = Reason.WORKER_LOST if name in deadly else Reason.INTERNAL if name in poison else None
        assert (verdict.reason if verdict else None) == wanted
    assert not coordinator._begun, "every count is forgotten"


def test_a_thing_is_tried_as_often_as_the_recipe_says() -> None:
    stage = Stage(poison="b")
    ends = outcome(stage, "b", Coordinator(1), attempts=3)
    assert stage.seen == ["b"] * 3
    assert ends["b"] is not None
    assert "ValueError: bad" in ends["b"].detail


def test_workers_that_die_of_one_thing_are_as_many_as_the_attempts() -> None:
    stage = Stage(deadly="b")
    ends = outcome(stage, "abc", Coordinator(1), attempts=2)
    assert ends["b"] == Verdict(Reason.WORKER_LOST, 2.0)
    assert sum("b" in seen for seen in stage.seen) == 3, "once among others, twice alone"


def test_results_come_while_the_item_is_worked_on() -> None:
    stage = Stage()
    stream: Iterator[tuple[str, None]] = iter(
        Attempts(stage, Coordinator(1), 1, give_up, Pace())("k", Letters("abcd"), quiet)
    )
    assert next(stream) == ("a", None)
    assert stage.seen == ["a"], "the rest is not begun before the first result is kept"


def test_a_pace_keeps_results_as_often_as_is_asked() -> None:
    pace = Pace(hold_s=10.0)
    assert pace.size == 1
    pace.took(1, 0.01)
    assert pace.size == 2, "doubles at most"
    for _ in range(10):
        pace.took(pace.size, pace.size * 0.6)
    assert pace.size == 16
    pace.took(16, 160.0)
    assert pace.size == 1
    pace.took(1, 100.0)
    assert pace.size == 1


def test_a_users_mistake_stops_at_once_and_nothing_is_given_up() -> None:
    stage = Stage(poison="a", error=UserError("the disk is full", "free some"))
    with pytest.raises(UserError, match="disk is full"):
        outcome(stage, "ab", Coordinator(1))
    assert stage.seen == ["a"]


def test_a_disk_that_is_full_is_nobodys_fault() -> None:
    with pytest.raises(UserError, match="no space left"):
        outcome(Stage(poison="a", error=OSError(28, "No space left on device")), "ab", Coordinator(1))


def test_without_a_way_to_give_up_the_error_is_told() -> None:
    attempts = Attempts(Stage(poison="a"), Coordinator(1), 3, None, None)
    with pytest.raises(UserError, match="internal_error: ValueError: bad"):
        list(attempts("key", Letters("ab"), quiet))


def test_reports_count_from_the_beginning_of_the_item() -> None:
    said: list[int] = []
    list(Attempts(Stage(), Coordinator(1), 1, give_up, Pace())("k", Letters("abcd"), lambda item, n: said.append(n)))
    assert said == [0, 1, 3]


@dataclass
class Flow(Stage):
    """A stage that gives a result for each thing as it comes."""

    def stream(self, item: Letters, report: Report) -> Iterator[tuple[str, None]]:
        for name in item.names:
            yield self(Letters(name), report)


def test_a_stage_that_streams_is_asked_for_all_at_once_and_at_last_one_by_one() -> None:
    flow = Flow(deadly="c")
    ends = outcome(flow, "abcd", Coordinator(2), attempts=2)
    assert {name: verdict.reason if verdict else None for name, verdict in ends.items()} == {
        "a": None,
        "b": None,
        "c": Reason.WORKER_LOST,
        "d": None,
    }
    assert flow.seen[:3] == ["a", "b", "c"] and flow.seen.count("c") == 4, "twice in the stream, twice alone"


def test_one_thing_that_streams_is_tried_alone_before_it_is_given_up() -> None:
    """A worker has two items in hand: what it died of may be the other one's."""
    flow, coordinator = Flow(), Coordinator(2)
    for _ in range(2):
        coordinator.begin("key")
    assert outcome(flow, "a", coordinator, attempts=2) == {"a": None} and flow.seen == ["a"]


class Streams(Stage):
    """A stage that streams, and says when; the item "a" takes until it is let go."""

    def __init__(self, said: list[str]) -> None:
        super().__init__()
        self.said, self.begun, self.go = said, threading.Event(), threading.Event()

    def __call__(self, item: Letters, report: Report) -> tuple[str, None]:
        self.said.append(item.names)
        return item.names, None

    def stream(self, item: Letters, report: Report) -> Iterator[tuple[str, None]]:
        self.begun.set()
        assert self.go.wait(60)
        self.said.append(f"{item.names} ends")
        yield item.names, None


def test_what_has_cost_its_workers_is_tried_while_nothing_is_worked_on_beside_it() -> None:
    said: list[str] = []
    coordinator, stage = Coordinator(attempts=2), Streams(said)
    attempts = Attempts(stage, coordinator, 2, give_up, None)
    for _ in range(2):
        coordinator.begin("costly")
    threads = [
        threading.Thread(target=lambda key=key, names=names: list(attempts(key, Letters(names), quiet)))
        for key, names in (("fine", "ab"), ("costly", "xy"))
    ]
    threads[0].start()
    assert stage.begun.wait(60)
    threads[1].start()
    threads[1].join(0.3)
    assert said == [], "it waits"
    stage.go.set()
    for thread in threads:
        thread.join(60)
    assert said == ["ab ends", "x", "y"]
