"""What several ask for is made once, whoever comes first, and is not kept for those who never come."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from pipelines.encoding.once import Once


def test_each_round_of_askers_has_it_made_once() -> None:
    once: Once[str, int] = Once(3)
    made: list[str] = []

    def make(key: str) -> int:
        made.append(key)
        return len(made)

    assert [once.get(key, lambda key=key: make(key)) for key in ("a", "b", "a", "a", "b", "a")] == [1, 2, 1, 1, 2, 3]
    assert made == ["a", "b", "a"] and len(once._kept) == 2


def test_those_who_come_while_it_is_made_wait_for_it() -> None:
    once: Once[int, str] = Once(4)
    begun, go, made = threading.Event(), threading.Event(), list[int]()

    def make() -> str:
        made.append(1)
        begun.set()
        assert go.wait(30)
        return "it"

    with ThreadPoolExecutor(4) as pool:
        first = pool.submit(once.get, 7, make)
        assert begun.wait(30)
        others = [pool.submit(once.get, 7, make) for _ in range(3)]
        go.set()
        assert [one.result(30) for one in (first, *others)] == ["it"] * 4
    assert made == [1] and not once._kept


def test_a_failure_is_told_to_all_who_wait_and_the_next_tries_anew() -> None:
    once: Once[int, int] = Once(3)

    def fail() -> int:
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        once.get(1, fail)
    assert once.get(1, lambda: 5) == 5


def test_what_nobody_comes_for_goes() -> None:
    once: Once[int, int] = Once(2, most=3)
    for key in range(10):
        assert once.get(key, lambda key=key: key) == key
    assert list(once._kept) == [7, 8, 9]
