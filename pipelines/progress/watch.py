"""What the main paths know of whoever shows a run: they tell it, and do not know that it is a screen."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Any, Protocol, runtime_checkable

from curation.pyramid.history.runs import Progress


class Watch(Protocol):
    """Told by `curate` and `encode`."""

    def over(self, stage: str, coordinator: Any) -> AbstractContextManager[None]:
        """Show a stage until the block ends."""
        ...

    def expect(self, units: int) -> None:
        """So many more units are to be done by the stage that is shown."""
        ...

    def advance(self, units: int, clips: int = 0) -> None:
        """So many are done, and brought so many new clips."""
        ...

    def searching(self, what: str) -> AbstractContextManager[None]:
        """Say that the driver looks for something, or waits, until the block ends."""
        ...


@runtime_checkable
class Reckons(Protocol):
    """A watch that knows how far its run is."""

    def progress(self) -> Progress:
        """How far, from any thread."""
        ...
