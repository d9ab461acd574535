"""How far a run is and how long it still takes, on a clock of the test's own."""

from __future__ import annotations

import io
import json
import queue
import re
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from pipelines.execution.coordinator import Heartbeat
from pipelines.execution.results.account import Account
from pipelines.progress import display as display_module
from pipelines.progress import screen as screen_module
from pipelines.progress.display import Display
from pipelines.progress.estimate import AGAINST_MEASURING, Estimate, Left
from pipelines.progress.screen import Screen
from pipelines.progress.stalls import Stalls


def shown_on(out: io.StringIO) -> Console:
    return Console(file=out, force_terminal=True, width=160, markup=False, highlight=False)


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def run(clock: Clock, estimate: Estimate, stage: str, units: int, each: float, clips: int = 0, of: int = 0) -> None:
    """A stage that does `units` of `of` units, at `each` seconds a unit."""
    estimate.begin(stage)
    estimate.expect(of or units)
    clock.now += 7.0  # its start
    estimate.working()
    for _ in range(units):
        clock.now += each
        estimate.advance(1, clips)


def test_the_stages_to_come_are_in_the_estimate() -> None:
    clock = Clock()
    estimate = Estimate(clock)
    estimate.plan(("measure", "ocr", "cut"))
    run(clock, estimate, "measure", 5, each=2.0, clips=4, of=10)
    a_clip = 2.0 / 4
    assert estimate.left().seconds == pytest.approx(5 * 2.0 + 40 * a_clip * (AGAINST_MEASURING["ocr"] + 4.5))
    run(clock, estimate, "ocr", 10, each=3.0, of=20)
    assert estimate.left().seconds == pytest.approx(10 * 3.0 + 20 * a_clip * AGAINST_MEASURING["cut"])
    run(clock, estimate, "cut", 20, each=1.0)
    assert estimate.left() == Left(0.0)


def test_a_record_gets_the_same() -> None:
    clock = Clock()
    estimate = Estimate(clock)
    estimate.plan(("measure", "cut"))
    run(clock, estimate, "measure", 5, each=2.0, clips=4)
    run(clock, estimate, "cut", 2, each=1.0, of=20)
    found = estimate.progress()
    assert (found.done, found.total, found.eta_s, found.eta_without) == (2, 20, 18.0, ())


def test_a_later_window_is_reckoned_by_what_its_stages_took_before() -> None:
    clock = Clock()
    estimate = Estimate(clock)
    for _ in range(2):
        estimate.plan(("measure", "aesthetic"))
        run(clock, estimate, "measure", 2, each=5.0, clips=3)
        run(clock, estimate, "aesthetic", 6, each=11.0)
    estimate.plan(("measure", "aesthetic"))
    run(clock, estimate, "measure", 1, each=5.0, clips=3, of=4)
    assert (estimate.left().seconds, estimate.left().without) == (pytest.approx(3 * 5.0 + 12 * 11.0), ())


def test_what_nothing_is_known_of_is_said_and_not_made_up() -> None:
    clock = Clock()
    estimate = Estimate(clock)
    estimate.plan(("measure", "aesthetic"))
    estimate.begin("measure")
    estimate.expect(4)
    assert estimate.left() == Left(None, ("aesthetic",))
    clock.now += 3
    estimate.advance(1, 2)
    assert (estimate.left().seconds, estimate.left().without) == (pytest.approx(9.0), ("aesthetic",))


@given(st.lists(st.tuples(st.integers(1, 50), st.floats(0.01, 100)), min_size=1, max_size=5))
def test_it_ends_at_nothing_and_is_never_less(stages: list[tuple[int, float]]) -> None:
    clock = Clock()
    estimate = Estimate(clock)
    names = [f"stage{number}" for number in range(len(stages))]
    estimate.plan(names)
    for name, (units, each) in zip(names, stages, strict=True):
        run(clock, estimate, name, units, each)
        assert (estimate.left().seconds or 0.0) >= 0.0
        assert estimate.done == estimate.total
    assert estimate.left() == Left(0.0)


def test_a_slow_item_is_told_once_and_a_moving_one_never() -> None:
    clock = Clock()
    stalls = Stalls("measure", 60.0, clock)
    slow, moving = (
        Heartbeat("measure", "a.mp4", 7, 0, 0),
        [Heartbeat("measure", "b.mp4", frames, 0, 0) for frames in range(9)],
    )
    told: list[str] = []
    for at in moving:
        told += [line for line in (stalls.look([slow, at], 0),) if line]
        clock.now += 20.0
    (line,) = told
    assert "a.mp4 at frame 7" in line and "b.mp4" not in line and "it goes on" in line


def test_a_stage_without_a_worker_is_told_unless_results_come() -> None:
    clock = Clock()
    stalls, busy = Stalls("ocr", 60.0, clock), Stalls("ocr", 60.0, clock)
    told: list[str | None] = []
    for done in range(5):
        told.append(stalls.look([], 0))
        assert busy.look([], done) is None
        clock.now += 40.0
    assert [bool(line) for line in told] == [False, False, True, False, False]


def test_a_screen_that_went_out_in_a_failure_lights_again() -> None:
    out = io.StringIO()
    screen = Screen(Account(), Estimate(Clock()), shown_on(out))
    with pytest.raises(RuntimeError), screen.lit():
        raise RuntimeError
    with screen.searching("said to nobody"):
        pass
    with screen.lit(), screen.searching("looking again"):
        pass
    assert "looking again" in out.getvalue() and "said to nobody" not in out.getvalue()


def test_a_log_is_told_now_and_then_what_the_driver_waits_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(screen_module, "LOG_EVERY_S", 0.01)
    told, out = queue.Queue[str](), io.StringIO()
    screen = Screen(Account(), Estimate(Clock()), Console(file=out), tell=told.put)
    with screen.lit(), screen.searching("starting Ray"):
        lines = [told.get(timeout=60) for _ in range(2)]
    assert all(re.fullmatch(r"starting Ray: \d+ s so far", line) for line in lines)
    told.queue.clear()
    monkeypatch.setattr(screen_module, "LOG_EVERY_S", 600.0)
    with screen.searching("less than a minute"):
        assert told.empty()


def test_the_machines_face_is_told_so_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(display_module, "LOG_EVERY_S", 0.01)
    out = io.StringIO()
    display = Display(Account(), out, as_json=True, stall_s=1.0)
    with display.searching("starting Ray"):
        while out.getvalue().count("\n") < 2:
            time.sleep(0.01)
    first, second, *_ = map(json.loads, out.getvalue().splitlines())
    assert first == {"event": "search", "what": "starting Ray"} and second == first | {"spent_s": 0}


def test_the_screen_says_stage_videos_and_the_time_to_come() -> None:
    clock = Clock()
    estimate, account, out = Estimate(clock), Account(inputs=10, done=4), io.StringIO()
    estimate.plan(("measure", "aesthetic"))
    run(clock, estimate, "measure", 4, each=60.0, clips=1, of=10)
    screen = Screen(account, estimate, shown_on(out))
    figures = Display(account, out, as_json=True, stall_s=1.0).figures()
    with screen.lit(), screen.searching("looking up what is settled"):
        screen.show([Heartbeat("measure", "/v/[red]a.mp4", 3, 0, 0)], figures, None)
    said = out.getvalue()
    assert "looking up what is settled ..." in said
    assert "measure 4/10 videos" in said and "1 working" in said and "[red]a.mp4" in said
    assert "4/10 videos listed so far" in said and "ETA 6 min + aesthetic" in said
