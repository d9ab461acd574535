"""A circuit breaker: when one stage fails for one cause at video after video, the set-up is at fault, and not they.

It stands between the stages and the pyramid. A fault (`results.fault_of`) is held back until the stage does its work on
something else, which shows that it can; only then is it written down as that item's end. Where the same cause comes
from `limit` videos in a row the run stops with it, and nothing is written of those: the next run tries them again.
"""

from __future__ import annotations

import re

from curation.errors import UserError
from pipelines.execution.ray_data import Delivery
from pipelines.stages.results import Fault, SameContent, fault_of

_PARTICULAR = re.compile(r"'[^']*'|\"[^\"]*\"|\S*[/\d]\S*")
"""What differs from one item to the next in an error of one cause: names, paths, numbers."""


class Breaker:
    """Lets deliveries through, faults later than others. `limit`: videos in a row; 0 stops never."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._held: list[Delivery] = []
        self._cause = ""
        self._videos: set[str] = set()

    def admit(self, delivery: Delivery) -> list[Delivery]:
        """What may be committed now that `delivery` has come. Raises `UserError` where it is one fault too many."""
        fault = fault_of(delivery.result)
        if fault is not None:
            return self._doubt(delivery, fault)
        if isinstance(delivery.result, SameContent):  # nothing was done for it
            return [delivery]
        return [*self.rest(), delivery]

    def rest(self) -> list[Delivery]:
        """What is held back: for the end of a stage that was not stopped."""
        held, self._held, self._videos = self._held, [], set()
        return held

    def _doubt(self, delivery: Delivery, fault: Fault) -> list[Delivery]:
        cause = _PARTICULAR.sub("#", fault.cause)
        free = [] if cause == self._cause else self.rest()
        self._cause = cause
        self._held.append(delivery)
        self._videos.update(fault.videos)
        if self._limit and len(self._videos) >= self._limit:
            raise UserError(
                f"{len(self._videos)} videos in a row failed for one cause: {fault.cause}",
                "mend that and run the same command again (see `ziggurat doctor`); where it is the videos that are at "
                "fault, run.stop_after = 0 in the recipe lets each end with this reason",
            )
        return free
