"""Validation loss: of the same samples, with the same noise, at nine times, each time.

A training loss hardly shows progress, for its times and noise differ from step to step by more than a thousand steps
gain. Here nothing differs but the weights (the EMA's, where there is one). The samples are held out of training.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING

import torch
from torch import nn

from training.callbacks.averages import Averages
from training.callbacks.base import Quiet, Report
from training.methods.flow_matching import FlowMatching
from training.parallel.base import Engine
from training.tally import Tally

if TYPE_CHECKING:
    from training.trainer import Progress

TIMES = tuple(number / 10 for number in range(1, 10))


class Validation(Quiet):
    """Every `every` steps, before the first and after the last: `last` is the loss at each of `TIMES` and
    their mean, by name.

    Samples go through the network one by one, so a validation needs no more memory than a batch of one; they are
    shared among ranks, each of which takes part in as many passes as the others. Where ranks share a sample, they do so
    here as well.
    """

    headline = "validation/loss"

    def __init__(
        self,
        engine: Engine,
        method: FlowMatching,
        samples: Sequence[int],
        every: int,
        averages: Averages | None = None,
    ) -> None:
        assert samples and every > 0
        self._engine, self._method, self._every, self._averages = engine, method, every, averages
        self._samples = tuple(samples)
        self.last: dict[str, float] = {}

    def begin(self, progress: Progress) -> None:
        self.last = self.losses()

    def after_step(self, progress: Progress, report: Report) -> None:
        if progress.step % self._every == 0:
            self.last = self.losses()
            report.values.update(self.last)

    def end(self, progress: Progress, stopped: bool) -> None:
        if not stopped and progress.step % self._every:
            self.last = self.losses()

    @torch.no_grad()
    def losses(self) -> dict[str, float]:
        """The losses now, over all ranks."""
        engine, tally = self._engine, Tally(self._engine.device)
        context = self._method.context
        rank, ranks = context.data(engine)
        passes = -(-len(self._samples) // ranks)
        with self._averages.swapped() if self._averages else nullcontext(), _at_rest(engine.model):
            for turn in range(passes):
                index = turn * ranks + rank
                own = index < len(self._samples)  # else this rank only keeps the others company
                inputs = self._method.validation([self._samples[index if own else 0]]).to(engine.device)
                for t in TIMES:
                    losses = self._method.loss(engine.model, inputs.at(t), engine.dtype)
                    tally.add(f"validation/t={t}", losses.per_sample_B.sum() * own)
        count = len(self._samples) * context.ranks
        found = {name: values[0] / count for name, values in tally.agreed(engine).items()}
        return {"validation/loss": sum(found.values()) / len(found), **found}


@contextmanager
def _at_rest(model: nn.Module) -> Iterator[None]:
    """Without an adapter's dropout."""
    before = model.training
    model.eval()
    try:
        yield
    finally:
        model.train(before)
