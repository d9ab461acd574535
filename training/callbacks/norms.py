"""The norms of a pair's gradients apart: the loop knows the norm of both together."""

from __future__ import annotations

from typing import TYPE_CHECKING

from training.callbacks.base import Quiet, Report
from training.parallel.pair import Pair

if TYPE_CHECKING:
    from training.trainer import Progress


class Norms(Quiet):
    """`norm/first`, `norm/second`, before clipping. They are there by now: the loop has met the device."""

    def __init__(self, engine: Pair) -> None:
        self._engine = engine

    def after_step(self, progress: Progress, report: Report) -> None:
        first, second = self._engine.norms.tolist()
        report.values.update({"norm/first": first, "norm/second": second})
