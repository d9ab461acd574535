"""Runs that work on one pyramid: each unit is done once, whoever comes, goes or dies when."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import dataclass, field
from typing import Any, cast

import pytest

from curation.contract import Source
from pipelines.execution import sharing
from pipelines.execution.coordinator import Coordinator
from pipelines.execution.ray_data import StageSpec, _Worker
from pipelines.execution.sharing import Elsewhere, Share, Shares
from pipelines.stages.results import Fault, MeasureDone, named, settled
from pipelines.stages.score import ClipsToScore
from tests.support import without_ray


@dataclass(eq=False)
class Run:
    """A run as a driver and one worker of it: what it has listed, what it has in hand. It is its own coordinator."""

    name: str
    alive: bool = True
    listed: list[str] = field(default_factory=list)
    in_hand: list[str] = field(default_factory=list)
    elsewhere: bool = False


@pytest.fixture
def shares(monkeypatch: pytest.MonkeyPatch) -> Shares:
    monkeypatch.setattr(sharing, "_is_alive", lambda run: run.alive)
    return Shares()


@pytest.mark.parametrize("seed", range(200))
def test_each_unit_is_done_once_whatever_happens_when(shares: Shares, seed: int) -> None:
    chance = random.Random(seed)
    units = [f"u{number}" for number in range(chance.randrange(1, 30))]
    ledger: set[str] = set()
    begun: Counter[str] = Counter()
    lost: Counter[str] = Counter()
    runs: list[Run] = []

    def lists(run: Run) -> None:
        shares.listing(run.name, run)
        run.listed, run.elsewhere = [unit for unit in units if unit not in ledger], False

    def works(run: Run) -> None:
        """One step of a run, as `Job.repeat` goes."""
        if run.in_hand and chance.random() < 0.5:
            unit = run.in_hand.pop(chance.randrange(len(run.in_hand)))
            ledger.add(unit)
            shares.settled(run.name, "cut", [unit])
        elif run.listed:
            some, run.listed = run.listed[:3], run.listed[3:]
            for unit, is_ours in zip(some, shares.take(run.name, run, "cut", some), strict=True):
                run.elsewhere = run.elsewhere or not is_ours
                if is_ours:
                    assert not any(unit in other.in_hand for other in runs if other.alive)
                    run.in_hand.append(unit)
                    begun[unit] += 1
        elif not run.in_hand and run.elsewhere and not shares.awaited(run.name):
            lists(run)

    def dies(run: Run) -> None:
        if run.alive:
            lost.update(run.in_hand)
        run.alive = False

    def at_work() -> list[Run]:
        return [run for run in runs if run.alive and (run.listed or run.in_hand or run.elsewhere)]

    for step in range(3):
        runs.append(Run(f"r{step}"))
        lists(runs[-1])
        for _ in range(chance.randrange(40)):
            works(chance.choice([run for run in runs if run.alive]))
            if step and chance.random() < 0.02:
                dies(chance.choice(runs[:-1]))
    for _ in range(10_000):
        if not (there := at_work()):
            break
        works(chance.choice(there))
    assert not at_work(), "somebody waits for ever"
    assert ledger == set(units)
    assert all(begun[unit] <= 1 + lost[unit] for unit in units), "done twice"


def test_a_run_that_has_left_holds_nothing_and_the_last_one_is_told(shares: Shares) -> None:
    one, other = Run("one"), Run("other")
    shares.listing("one", one)
    shares.listing("other", other)
    assert shares.take("one", one, "cut", ["a"]) == [True]
    assert shares.take("other", other, "cut", ["a"]) == [False]
    assert shares.take("other", other, "measure", ["a"]) == [True], "another stage's unit is another one"
    assert shares.awaited("other") == {"one": 1}
    assert shares.leave("one") == 1
    assert shares.awaited("other") == {}
    assert shares.take("other", other, "cut", ["a"]) == [True]
    shares.settled("one", "cut", ["a"])  # of a run that was thought dead
    third = Run("third")
    assert shares.take("third", third, "cut", ["a"]) == [False]
    assert shares.leave("other") == 1
    assert shares.leave("third") == 0


def test_a_stage_that_ended_without_a_result_leaves_its_units_to_anybody(shares: Shares) -> None:
    one, other = Run("one"), Run("other")
    shares.take("one", one, "caption", ["a"])
    shares.take("one", one, "cut", ["a"])
    shares.free("one", "caption")
    assert shares.take("other", other, "caption", ["a"]) == [True]
    assert shares.take("other", other, "cut", ["a"]) == [False]


class Half(Share):
    """Every second unit is another run's."""

    def _ask(self, method: str, *arguments: Any) -> Any:
        assert method == "take"
        return [number % 2 == 0 for number, _ in enumerate(arguments[-1])]


def test_a_worker_does_what_is_ours_and_sends_the_rest_back() -> None:
    def stage(item: ClipsToScore, report: object) -> tuple[str, ...]:
        return item.clip_ids

    item = ClipsToScore(("a", "b", "c"), ("v", "v", "v"))
    coordinator = without_ray.Here(Coordinator(3))
    share = Half("work", "run", coordinator)
    spec = StageSpec("logo", cast("Any", lambda: stage))
    with without_ray.here():
        worker = _Worker(spec, coordinator, 3, lambda result: "kept", share, "logo")
        rows = list(worker({"item": item, "key": "k"}))
        first = _Worker(spec, coordinator, 3, None, share, "logo")
        last = _Worker(spec, coordinator, 3, lambda result: "", None, "logo")
        passed = [made["item"] for row in first({"item": item, "key": "k"}) for made in last(row)]
    of_b = Elsewhere(item.part(1, 2))
    assert [row["item"] for row in rows] == [("a",), of_b, ("c",)]
    assert [row["entry"] for row in rows] == ["kept", "", "kept"], "what is another run's is in no journal"
    assert passed[1] == of_b, "and no later stage of a chain sees it"
    assert len({row["key"] for row in rows}) == 3


def test_what_is_taken_is_what_is_settled() -> None:
    source = Source("/films/a.mp4", 9)
    done = MeasureDone({"uris": ["/films/a.mp4"], "video_id": "v", "status": "done"})
    assert named(source) == settled(done) == ("/films/a.mp4",)
    assert not isinstance(done, Fault)
