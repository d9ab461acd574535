"""The exponential moving average of the weights (EMA): smoother than the weights, and what validation looks at."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from training.callbacks.base import Quiet, Report
from training.parallel.base import Engine

if TYPE_CHECKING:
    from training.trainer import Progress


class Averages(Quiet):
    """a <- d a + (1 - d) w after every update, in float32, over this rank's part of the masters.

    d = min(decay, (1 + n) / (10 + n)) after n updates, so that the first steps, of weights that were drawn, are soon
    forgotten.
    """

    def __init__(self, engine: Engine, decay: float) -> None:
        assert 0 <= decay < 1
        self._engine, self._decay = engine, decay
        self.values: dict[str, Tensor] = {name: weight.clone() for name, weight in engine.masters().items()}

    @torch.no_grad()
    def after_step(self, progress: Progress, report: Report) -> None:
        if not report.finite:
            return
        decay = min(self._decay, (1 + progress.updates) / (10 + progress.updates))
        masters = self._engine.masters()
        for name, average in self.values.items():
            average.lerp_(masters[name], 1 - decay)

    @contextmanager
    def swapped(self) -> Iterator[None]:
        """In this block the network computes with the averages; afterwards every bit of the weights is what it was."""
        self._exchange()
        try:
            yield
        finally:
            self._exchange()

    def _exchange(self) -> None:
        def change(name: str, weight: Tensor) -> None:
            held = weight.clone()
            weight.copy_(self.values[name])
            self.values[name].copy_(held)

        self._engine.put(change)
