"""How long each rank computes by itself in a step, told by all and judged on each (`recovery.pace`)."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import torch

from training.callbacks.base import Quiet, Report
from training.methods.base import Losses
from training.parallel.base import Engine
from training.recovery.pace import Paces
from training.tally import Tally

if TYPE_CHECKING:
    from training.trainer import Progress


class Pace(Quiet):
    """From a micro-batch's inputs to its loss, summed over a step: forward alone, for backward of some engines waits
    for other ranks. A step's times are told with the next one, when a GPU has long passed their marks."""

    def __init__(self, engine: Engine) -> None:
        self._engine, self._paces = engine, Paces(engine.ranks)
        self._on_gpu = engine.device.type == "cuda"
        self._marks: list[tuple[_Mark, _Mark]] = []
        self._last: tuple[float, float] = (0.0, 0.0)
        self._told: Tally | None = None
        self._work, self._began = 0.0, _Mark(False)

    def begin(self, progress: Progress) -> None:
        self._marks, self._last = [], (0.0, 0.0)

    def before_forward(self, flops: float) -> None:
        self._began = _Mark(self._on_gpu)
        self._work += flops

    def before_backward(self) -> None:
        self._marks.append((self._began, _Mark(self._on_gpu)))

    def after_loss(self, losses: Losses, tally: Tally) -> None:
        if self._told is not tally:  # once in each pass: a step may be computed again
            self._told = tally
            for name, value in zip(("pace", "work"), self._last, strict=True):
                own = torch.tensor(value, dtype=torch.float64, device=self._engine.device)
                tally.place(name, own, self._engine.rank, self._engine.ranks)

    def after_step(self, progress: Progress, report: Report) -> None:
        seconds, work = report.told["pace"], report.told["work"]
        if all(work):
            report.notes.extend(slow.why for slow in self._paces.slow(seconds, work))
        self._last = (sum(end.since(start) for start, end in self._marks), self._work)
        self._marks, self._work, self._told = [], 0.0, None


class _Mark:
    """A moment, of the host or of what the GPU has been given until then."""

    def __init__(self, on_gpu: bool) -> None:
        self._event = torch.cuda.Event(enable_timing=True) if on_gpu else None
        self._at = time.perf_counter()
        if self._event is not None:
            self._event.record()

    def since(self, other: _Mark) -> float:
        """Seconds. The host has waited for both since they were set."""
        if self._event is None or other._event is None:
            return self._at - other._at
        return other._event.elapsed_time(self._event) / 1000
