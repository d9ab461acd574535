"""Counts in bounded memory: exact while there is room, and what is common stays right when there is not."""

from __future__ import annotations

import pytest

from curation.stats.counting import Tally


def test_counts_are_exact_while_there_is_room() -> None:
    tally: Tally[str] = Tally(3)
    tally.add(["b", "a", "b", "c", "a", "b"])
    assert tally.highest(2) == [("b", 3), ("a", 2)] and tally.is_exact
    assert (tally.different, tally.total, tally.repeated()) == (3, 6, (2, 5))


@pytest.mark.parametrize("times", [1, 2, 3])
def test_the_rarest_are_forgotten_and_told(times: int) -> None:
    tally: Tally[str] = Tally(10)
    for number in range(200):
        tally.add(["common"] * 4 + [f"rare {number}"] * times)
        assert tally.different <= 10
    assert tally.highest(1) == [("common", 800)] and not tally.is_exact
    assert tally.total == 200 * (4 + times) and tally.forgotten > 0


def test_what_becomes_common_late_is_found_and_little_is_counted_again() -> None:
    tally: Tally[str] = Tally(most=100)
    tally.add(f"twice {number // 2}" for number in range(200))
    for number in range(50):
        tally.add(["late", f"once {number}"])
        assert tally.different <= 100
    assert tally.highest(1)[0][0] == "late" and tally.highest(1)[0][1] >= 49


def test_equal_counts_come_in_one_order() -> None:
    tally: Tally[int] = Tally()
    tally.add([3, 1, 2])
    assert tally.highest(3) == [(1, 1), (2, 1), (3, 1)]
