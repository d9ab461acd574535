"""Which rank is silent, by the marks that ranks tell; and the marks of a run."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("torch")

from tests.support.toy_run import Kept, Toy
from training.callbacks.base import Report
from training.callbacks.pulse import Pulse
from training.recovery.beats import Beats, Mark
from training.trainer import Progress


def told(beats: Beats, now: float) -> list[tuple[int, str]]:
    return [(silent.rank, silent.what) for silent in beats.silent(now)]


def test_a_rank_that_is_not_heard_of_is_lost() -> None:
    """As one that is stopped, whose mark is the others' mark: they wait for it."""
    beats = Beats(silence_s=10)
    for rank in (0, 1):
        beats.heard(rank, Mark(5, 2), 0)
    beats.heard(0, Mark(5, 2), 10)
    assert told(beats, 10) == []
    assert told(beats, 10.1) == [(1, "was not heard of")]
    assert beats.silent(10.1)[0].why == "rank 1 in step 6 was not heard of, for 10 s"


def test_a_rank_that_others_wait_for_is_lost_and_they_are_not() -> None:
    beats = Beats(silence_s=10)
    beats.heard(0, Mark(5, 3), 0)
    beats.heard(1, Mark(5, 2), 0)
    for now in range(1, 12):
        beats.heard(0, Mark(5, 3), now)
        beats.heard(1, Mark(5, 2), now)
    assert told(beats, 11) == [(1, "has not moved, and others wait for it")]
    beats.left(1)
    assert told(beats, 11) == []


def test_where_all_stand_it_takes_twice_as_long() -> None:
    beats = Beats(silence_s=10)
    for now in range(21):
        beats.heard(0, Mark(5, 2), now)
        beats.heard(1, Mark(5, 2), now)
    assert told(beats, 20) == []
    beats.heard(0, Mark(5, 2), 21)
    beats.heard(1, Mark(5, 2), 21)
    assert told(beats, 21) == [(rank, "has not moved, nor has any other") for rank in (0, 1)]


def test_patience_grows_with_the_steps_of_the_run() -> None:
    """Steps of four seconds have a rank wait for forty."""
    beats = Beats(silence_s=10)
    for now, step in ((0, 1), (4, 2), (8, 3)):
        for rank in (0, 1):
            beats.heard(rank, Mark(step, 0), now)
    for now in range(9, 50):
        beats.heard(0, Mark(3, 1), now)
        beats.heard(1, Mark(3, 0), now)
    assert told(beats, 48) == [] and told(beats, 49) == [(1, "has not moved, and others wait for it")]


def test_whoever_validates_or_saves_has_longer_and_nobody_else_for_it() -> None:
    beats = Beats(silence_s=10, aside_s=100)
    for now in range(201):
        for rank in (0, 1):
            beats.heard(rank, Mark(5, 2, aside=True), now)
        assert told(beats, now) == []
    assert [one.rank for one in beats.silent(200.1)] == [0, 1], "for ever it is not"
    for rank in (0, 1):
        beats.heard(rank, Mark(6, 0), 201)
    for now in range(202, 213):
        beats.heard(0, Mark(6, 1), now)
        beats.heard(1, Mark(6, 0), now)
    assert told(beats, 212) == [(1, "has not moved, and others wait for it")], "a validation is no measure of a step"


def test_a_rank_that_saves_may_be_waited_for() -> None:
    beats = Beats(silence_s=10, aside_s=100)
    for now in range(101):
        beats.heard(0, Mark(5, 2, aside=True), now)
        beats.heard(1, Mark(6, 0), now)
        assert told(beats, now) == []
    beats.heard(0, Mark(5, 2, aside=True), 101)
    assert told(beats, 101)[0] == (0, "has not moved, and others wait for it")


def test_a_run_marks_where_others_validate_and_save(tmp_path: Path) -> None:
    """What callbacks do before the update, after the step and at the end is aside; the update itself is not."""
    pulse, seen = Pulse(), list[bool]()

    class Look(Kept):
        def _look(self) -> None:
            assert pulse.mark is not None
            seen.append(pulse.mark.aside)

        def before_update(self) -> None:
            self._look()

        def after_step(self, progress: Progress, report: Report) -> None:
            self._look()

        def end(self, progress: Progress, stopped: bool) -> None:
            self._look()

    class Then(Look):
        def end(self, progress: Progress, stopped: bool) -> None: ...

    Toy(tmp_path).go(1, pulse.aside, Look(), pulse, Then(), saves=False)
    assert seen == [True, False, True, False, True, False, True], "a step, and the same before the end"


def test_a_run_marks_every_place_at_which_a_rank_may_hang(tmp_path: Path) -> None:
    """Inputs, loss and backward of two micro-batches, then the update: each is a later mark, of this step. Before
    the end it is as before an update."""

    class Look(Kept):
        def before_forward(self, flops: float) -> None:
            seen.append(pulse.mark)

        def before_backward(self) -> None:
            seen.append(pulse.mark)

        def before_update(self) -> None:
            seen.append(pulse.mark)

        def after_step(self, progress: Progress, report: Report) -> None:
            seen.append(pulse.mark)

    seen: list[Mark | None] = []
    pulse = Pulse()
    Toy(tmp_path).go(2, pulse, Look(), saves=False)
    assert seen == [Mark(*at) for at in ((0, 1), (0, 2), (0, 4), (0, 5), (0, 7), (1, 0))] + [
        Mark(*at) for at in ((1, 1), (1, 2), (1, 4), (1, 5), (1, 7), (2, 0), (2, 1))
    ]
    assert pulse.mark is None


def test_a_rank_that_waits_for_samples_that_are_encoded_meanwhile_may_be_waited_for(tmp_path: Path) -> None:
    """From the moment at which it asks until its inputs are there; what comes after them is judged as ever."""

    class Look(Kept):
        def before_inputs(self) -> None:
            seen.append(pulse.mark)

        def before_forward(self, flops: float) -> None:
            seen.append(pulse.mark)

        def before_update(self) -> None:
            seen.append(pulse.mark)

    for slow in (True, False):
        seen: list[Mark | None] = []
        pulse = Pulse(slow_inputs=slow)
        Toy(tmp_path / str(slow)).go(1, pulse, Look(), saves=False)
        asides = [one.aside for one in seen if one is not None]
        assert asides == [slow, False, slow, False, False, False]
        assert [one.place for one in seen if one is not None] == [0, 1, 3, 4, 7, 1], "the last before the end"
