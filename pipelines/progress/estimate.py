"""How far a run is and how long it still takes: the stage it is at, and those to come. `progress` shows it.

A stage is reckoned by its own speed in this run. One that has not begun is reckoned against the measuring pass, whose
speed is known by then and shares the size of the pictures and the processors with it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from curation.filters.table import FILTERS
from curation.pyramid.history.runs import Progress

MEASURE = "measure"

AGAINST_MEASURING: Mapping[str, float] = {
    **{one.name: one.against_measuring for one in FILTERS if one.against_measuring is not None},
    "cut": 4.5,
}
"""Seconds for a clip in a stage, over those for the same clip in the measuring pass (docs/performance.md, preset
medium). A stage that is not here (CLIP: not measured) is not reckoned before it has begun."""


@dataclass(slots=True)
class Pace:
    """A stage's units (videos, or clips) and the seconds that went into them, over the whole run."""

    done: int = 0
    seconds: float = 0.0

    @property
    def per_unit(self) -> float | None:
        return self.seconds / self.done if self.done else None


@dataclass(frozen=True, slots=True)
class Left:
    """Seconds that are still to come, None where nothing can be said; `without`: stages that are not in them."""

    seconds: float | None
    without: tuple[str, ...] = ()


class Estimate:
    """Told by the driver what is planned and done. `now` is the clock, in seconds."""

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._paces: dict[str, Pace] = {}
        self._to_come: tuple[str, ...] = ()
        self._began = now()
        self._at_work = False
        self._clips = 0
        self._clips_of_run = 0
        self.stage = ""
        self.done = 0
        self.total = 0

    def plan(self, stages: Sequence[str]) -> None:
        """A window of sources begins, which goes through `stages` in this order."""
        self._to_come, self._clips = tuple(stages), 0

    def begin(self, stage: str) -> None:
        """`stage` begins: those planned before it are over."""
        self.stage, self.done, self.total = stage, 0, 0
        self._began, self._at_work = self._now(), False
        if stage in self._to_come:
            self._to_come = self._to_come[self._to_come.index(stage) + 1 :]

    def working(self) -> None:
        """A worker is at an item: what went before the stage's first one was its start, and no work."""
        if not self._at_work:
            self._at_work, self._began = True, self._now()

    def expect(self, units: int) -> None:
        """So many more units are to be done by the stage."""
        self.total += units

    def advance(self, units: int, clips: int = 0) -> None:
        """So many units are done, and brought `clips` new clips."""
        pace = self._pace(self.stage)
        now = self._now()
        pace.seconds += now - self._began
        pace.done += units
        self._began = now
        self.done += units
        self._clips += clips
        self._clips_of_run += clips

    def left(self) -> Left:
        """What the stage still takes, and the stages to come after it."""
        per_unit = self._per_unit(self.stage)
        todo = max(0, self.total - self.done)
        if todo and per_unit is None:
            return Left(None, self._to_come)
        seconds, without = todo * (per_unit or 0.0), []
        clips = self._clips_to_come()
        for stage in self._to_come:
            each = self._per_unit(stage)
            if clips and each is None:
                without.append(stage)
            seconds += clips * (each or 0.0)
        return Left(seconds, tuple(without))

    def progress(self) -> Progress:
        """The same as a run's record keeps it. From any thread."""
        left = self.left()
        return Progress(self.done, self.total, left.seconds, left.without)

    def _clips_to_come(self) -> float:
        """How many clips each later stage will have: as many for each video as so far, all of which may be kept."""
        if self.stage != MEASURE:
            return max(self._clips, self.total)
        return self._clips * self.total / self.done if self.done else 0.0

    def _per_unit(self, stage: str) -> float | None:
        if (known := self._pace(stage).per_unit) is not None:
            return known
        if stage not in AGAINST_MEASURING or not self._clips_of_run:
            return None
        return AGAINST_MEASURING[stage] * self._pace(MEASURE).seconds / self._clips_of_run

    def _pace(self, stage: str) -> Pace:
        return self._paces.setdefault(stage, Pace())
