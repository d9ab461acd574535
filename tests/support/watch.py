"""A watch that shows nothing, for jobs run in the test's own process."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


class Silent:
    """Keeps the names of the stages that it was asked to show."""

    def __init__(self) -> None:
        self.stages: list[str] = []
        self.lost = False

    @contextmanager
    def over(self, stage: str, foreman: Any) -> Iterator[None]:
        self.stages.append(stage)
        yield
