"""Spikes, who is to blame for a step, and who is slow: numbers in, words out."""

from __future__ import annotations

from math import inf, nan

import pytest

pytest.importorskip("torch")

from training.recovery.pace import LASTS, Paces
from training.recovery.spikes import Rolling
from training.recovery.verdict import Finding, Verdict, compare, computed_by, differing


def filled(values: list[float], window: int = 8, deviations: float = 6.0) -> Rolling:
    rolling = Rolling(window, deviations)
    rolling.add(values)
    return rolling


def test_a_spike_is_far_above_what_was_usual() -> None:
    rolling = filled([1.0, 1.1, 0.9, 1.0, 1.1, 0.9])
    assert rolling.usual == pytest.approx(1.0)
    assert rolling.leaps(1.6) and not rolling.leaps(1.4) and not rolling.leaps(-5.0)
    assert not rolling.leaps(nan) and not rolling.leaps(inf)


def test_no_spike_before_half_of_the_window_is_there_nor_where_none_is_asked_for() -> None:
    assert not filled([1.0, 1.1, 0.9]).leaps(100.0)
    assert not filled([1.0] * 8, deviations=0).leaps(100.0)


def test_values_that_hardly_differ_have_some_deviation() -> None:
    assert not filled([1.0] * 8).leaps(1.05) and filled([1.0] * 8).leaps(1.07)


def test_a_level_that_has_risen_for_good_is_soon_the_usual_one() -> None:
    rolling = filled([1.0, 1.1] * 4)
    spikes = 0
    for _ in range(8):
        spikes += rolling.leaps(2.0)
        rolling.add([2.0])
    assert 0 < spikes < 4
    rolling.add([nan, inf])
    assert rolling.usual == 2.0


def test_what_is_wrong_everywhere_is_the_data_s() -> None:
    """Of rank 1 the micro-batches 1 and 3 here, 0 and 2 there."""
    assert [computed_by(batch, 2) for batch in range(4)] == [0, 1, 0, 1]
    assert [computed_by(batch, 2, 1) for batch in range(4)] == [1, 0, 1, 0]
    losses = [1.0, 1.1, nan, 0.9]
    assert compare(losses, losses, 2, None, False) == Finding(Verdict.DATA, batches=(2,))
    assert compare([1.0, 1.1, 9.0, 0.9], [1.0, 1.1, 9.0, 0.9], 2, 1.0, False) == Finding(Verdict.DATA, batches=(2,))
    assert compare([0.9] * 4, [0.9] * 4, 2, 1.0, False).batches == (0, 1, 2, 3)


def test_what_is_wrong_on_one_rank_alone_is_its_hardware_s() -> None:
    here, there = [1.0, nan, 1.2, nan], [nan, 1.1, nan, 0.9]
    assert compare(here, there, 2, None, False) == Finding(Verdict.HARDWARE, ranks=(1,))
    assert compare(there, here, 2, None, False) == Finding(Verdict.HARDWARE, ranks=(0,))
    finite = compare([1.0, 8.0, 1.2, 7.0], [9.0, 1.1, 8.0, 0.9], 2, 1.0, False)
    assert finite == Finding(Verdict.HARDWARE, ranks=(1,))
    four = compare([1.0, 1.0, nan, 1.0], [1.0, nan, 1.0, 1.0], 4, None, False)  # rank 2, then micro-batch 3 of rank 3
    assert four.verdict is Verdict.HARDWARE and four.ranks == (0, 2)


def test_a_norm_that_is_wrong_wherever_the_losses_are_right_is_open() -> None:
    found = compare([0.9, 1.1], [0.9, 1.1], 2, 1.0, False, norm_alone=True)
    assert found == Finding(Verdict.OPEN, batches=(0, 1))
    assert compare([0.9, 9.0], [0.9, 1.1], 2, 1.0, False, norm_alone=True).verdict is Verdict.HARDWARE


def test_a_norm_that_is_right_with_other_shares_blames_some_rank() -> None:
    assert compare([1.0, 1.1], [1.0, 1.1], 2, None, True) == Finding(Verdict.HARDWARE)


def test_ranks_whose_losses_differ_the_second_time() -> None:
    assert differing([1.0, nan, 1.0, 1.0], [1.0, 1.0, 1.0, 1.0], 2) == (1,)
    assert differing([1.0, 1.0], [1.0, 1.0 + 1e-6], 2) == ()


def test_a_rank_that_stays_slow_is_told_once_until_it_was_in_time() -> None:
    paces = Paces(3)
    for _ in range(LASTS):
        assert paces.slow([0.1, 0.1, 0.11], [1e9] * 3) == []
    slowed = [0.1, 0.22, 0.11]
    found = [paces.slow(slowed, [1e9] * 3) for _ in range(3 * LASTS)]
    assert [bool(one) for one in found].count(True) == 1
    (slow,) = found[LASTS - 1]
    assert (slow.rank, round(slow.times, 2), round(slow.own, 2)) == (1, 2.2, 2.2)
    assert "rank 1 has taken more than 1.5 times the fastest rank's time for 10 steps: 2.2 times now" in slow.why
    paces.slow([0.1, 0.1, 0.1], [1e9] * 3)
    assert any(paces.slow(slowed, [1e9] * 3) for _ in range(LASTS))


def test_more_work_is_no_slowness_and_neither_are_milliseconds() -> None:
    paces = Paces(2)
    assert not any(paces.slow([0.1, 0.3], [1e9, 3e9]) for _ in range(2 * LASTS))
    assert not any(paces.slow([0.001, 0.004], [1e9, 1e9]) for _ in range(2 * LASTS))
