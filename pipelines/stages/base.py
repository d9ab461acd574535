"""What every stage has in common: the shape of one, how it says where it is, and the answer to a claim.

The stages beside this module (`measure`, `score`, `cut`, `caption`) know nothing of who runs them;
`pipelines.execution` does.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from enum import StrEnum
from typing import Any, Protocol, runtime_checkable

from curation.contract import Verdict

Report = Callable[[str, int], None]
"""`report(item, frames)`: says what a stage works on and how far it is."""


class Stage(Protocol):
    """One step of a pipeline. What is wrong with an item is in its result; what it raises is a fault of ours."""

    def __call__(self, item: Any, report: Report) -> Any: ...


@runtime_checkable
class Streaming(Stage, Protocol):
    """A stage that works on the things of an item side by side, and gives results as they come."""

    def stream(self, item: Any, report: Report) -> Iterator[Any]:
        """The results of an item, one or several things in each. Raises only what ends the run."""
        ...


GiveUp = Callable[[Any, Verdict], Any]
"""The result of an item that a stage cannot do: `INTERNAL` where it raised, `WORKER_LOST` where its workers died."""


@runtime_checkable
class Divisible(Protocol):
    """An item of several things that can be worked on apart."""

    def __len__(self) -> int: ...

    def part(self, start: int, stop: int) -> Any:
        """The item of its things `start` to `stop`, without the last."""
        ...


class Claim(StrEnum):
    """The answer to a claim of a video's content, see `measure.Claims`."""

    GO = "go"
    TAKEN = "taken"
    EXHAUSTED = "exhausted"
