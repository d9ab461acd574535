"""Where this rank is in which step, for whoever watches over the run (`recovery.beats`)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from training.callbacks.base import Quiet, Report
from training.methods.base import Losses
from training.recovery.beats import Mark
from training.tally import Tally

if TYPE_CHECKING:
    from training.trainer import Progress


class Pulse(Quiet):
    """`mark`: the latest, read by another thread; None before the first step and after the last one. It stands last
    among the callbacks: a step is over when theirs are. `aside`, which stands first, marks that they are at work.
    `slow_inputs`: a micro-batch may be long in coming, as where its samples are encoded meanwhile."""

    def __init__(self, slow_inputs: bool = False) -> None:
        self._slow_inputs = slow_inputs
        self.mark: Mark | None = None
        self.aside = _Aside(self)

    def begin(self, progress: Progress) -> None:
        self.mark = Mark(progress.step, 0)

    def before_inputs(self) -> None:
        if self._slow_inputs and self.mark is not None:
            self.mark = self.mark._replace(aside=True)

    def before_forward(self, flops: float) -> None:
        self._pass()

    def before_backward(self) -> None:
        self._pass()

    def after_loss(self, losses: Losses, tally: Tally) -> None:
        self._pass()

    def before_update(self) -> None:
        self._pass()

    def after_step(self, progress: Progress, report: Report) -> None:
        self.mark = Mark(progress.step, 0)

    def end(self, progress: Progress, stopped: bool) -> None:
        self.mark = None

    def close(self) -> None:
        self.mark = None

    def _pass(self) -> None:
        if self.mark is not None:
            self.mark = self.mark._replace(place=self.mark.place + 1, aside=False)


class _Aside(Quiet):
    """Where other callbacks may validate, or wait for a save."""

    def __init__(self, pulse: Pulse) -> None:
        self._pulse = pulse

    def before_update(self) -> None:
        self._mark()

    def after_step(self, progress: Progress, report: Report) -> None:
        self._mark()

    def end(self, progress: Progress, stopped: bool) -> None:
        self._mark()

    def _mark(self) -> None:
        if self._pulse.mark is not None:
            self._pulse.mark = self._pulse.mark._replace(aside=True)
