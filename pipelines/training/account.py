"""What a training run has been through, for its record: `Course`, and the watch that keeps it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pipelines.train import Watch
    from training.callbacks.base import Report
    from training.trainer import Progress


@dataclass(slots=True, kw_only=True)
class Course:
    """`manifest`, `data`, `model`: what was trained on what, and where that was read. `preset`: as it was in force.
    `began`: the step that it went on from; `step` of `steps`: the latest, `skipped` of them without an update.
    `restarts`: one line for each group of workers that was lost. `left_out`: nodes that failed their checks. `events`:
    what a person was told."""

    manifest: str
    data: str
    model: str
    preset: Mapping[str, Any]
    steps: int
    began: int | None = None
    step: int = 0
    skipped: int = 0
    restarts: list[str] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)
    events: list[str] = field(default_factory=list)


class Followed:
    """A `pipelines.train.Watch` that keeps a course and hands on. A group that is started again says the same notes
    again: they are handed on once."""

    def __init__(self, watch: Watch, course: Course) -> None:
        self._watch, self._course = watch, course

    def note(self, text: str) -> None:
        if text not in self._course.events:
            self._course.events.append(text)
            self._watch.note(text)

    def begin(self, progress: Progress, steps: int, validation: float | None, measure: str) -> None:
        if self._course.began is None:
            self._course.began = progress.step
        self._course.step, self._course.skipped = progress.step, progress.skipped
        self._watch.begin(progress, steps, validation, measure)

    def step(self, progress: Progress, report: Report) -> None:
        self._course.step, self._course.skipped = progress.step, progress.skipped
        self._watch.step(progress, report)


class Silent:
    """A `pipelines.train.Watch` of a process that says nothing: ranks other than the first."""

    def note(self, text: str) -> None: ...
    def begin(self, progress: Progress, steps: int, validation: float | None, measure: str) -> None: ...
    def step(self, progress: Progress, report: Report) -> None: ...
