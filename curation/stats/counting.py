"""Counts of many values in bounded memory: exact while there are few different ones, at least as many afterwards.

`gather` counts words, equal captions and sources with it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Hashable, Iterable
from itertools import islice
from typing import Generic, TypeVar

T = TypeVar("T", bound=Hashable)

MOST = 1_000_000
"""Different values that are held: some hundred megabytes of words."""


class Tally(Generic[T]):
    """Counts of values. Of more than `most` different ones the rarest so far are forgotten, and may come again: their
    counts are then too low, and `forgotten` says by how much all of them together.
    """

    def __init__(self, most: int = MOST) -> None:
        self._most = most
        self._counts: Counter[T] = Counter()
        self.forgotten = 0

    def add(self, values: Iterable[T]) -> None:
        """Count `values`, which are few beside `most`."""
        self._counts.update(values)
        if len(self._counts) <= self._most:
            return
        least = 1
        # Down to half: so it is seldom done, and what comes later has room to become common.
        while len(self._counts) > self._most // 2:
            kept = Counter({value: count for value, count in self._counts.items() if count > least})
            self.forgotten += self._counts.total() - kept.total()
            self._counts, least = kept, least + 1

    def items(self) -> Iterable[tuple[T, int]]:
        """The values that are held, with their counts."""
        return self._counts.items()

    @property
    def different(self) -> int:
        """How many values are held."""
        return len(self._counts)

    @property
    def is_exact(self) -> bool:
        return not self.forgotten

    @property
    def total(self) -> int:
        return self._counts.total() + self.forgotten

    def highest(self, number: int, wanted: Callable[[T], bool] = lambda _: True) -> list[tuple[T, int]]:
        """The commonest values, of those that are wanted, with their counts; of equal counts in the order of the values
        as text.
        """
        ordered = sorted(self._counts.items(), key=lambda pair: (-pair[1], str(pair[0])))
        return list(islice((pair for pair in ordered if wanted(pair[0])), number))

    def repeated(self) -> tuple[int, int]:
        """Of the values that came more than once: how many they are, and how often they came in all."""
        more = [count for count in self._counts.values() if count > 1]
        return len(more), sum(more)
