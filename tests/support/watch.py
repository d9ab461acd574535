"""A watch that shows nothing, for jobs run in the test's own process."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any


class Silent:
    """Keeps the names of the stages that it was asked to show, and how much of each was expected and done."""

    def __init__(self) -> None:
        self.stages: list[str] = []
        self.searches: list[str] = []
        self.expected = self.done = 0
        self.lost = False

    def plan(self, stages: Sequence[str], all_listed: bool) -> None: ...

    def expect(self, units: int) -> None:
        self.expected += units

    def advance(self, units: int, clips: int = 0) -> None:
        self.done += units

    @contextmanager
    def searching(self, what: str) -> Iterator[None]:
        self.searches.append(what)
        yield

    @contextmanager
    def over(self, stage: str, coordinator: Any) -> Iterator[None]:
        self.stages.append(stage)
        yield
