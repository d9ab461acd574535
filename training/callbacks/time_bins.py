"""The training loss by bins of the time: at which noise levels the network still learns."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from training.callbacks.base import Quiet, Report
from training.methods.base import Losses
from training.tally import Tally

if TYPE_CHECKING:
    from training.trainer import Progress

BINS = 10


class TimeBins(Quiet):
    """The mean loss of a step's samples whose time is in [i / 10, (i + 1) / 10); nothing of a bin that none was in."""

    def after_loss(self, losses: Losses, tally: Tally) -> None:
        if losses.times_B is None:
            return
        bin_B = (losses.times_B * BINS).long().clamp(0, BINS - 1)
        zeros = torch.zeros(BINS, dtype=torch.float64, device=bin_B.device)
        tally.add("bins/loss", zeros.index_add(0, bin_B, losses.per_sample_B.double()))
        tally.add("bins/count", zeros.index_add(0, bin_B, torch.ones_like(bin_B, dtype=torch.float64)))

    def after_step(self, progress: Progress, report: Report) -> None:
        sums, counts = report.told.get("bins/loss", []), report.told.get("bins/count", [])
        for index, (total, count) in enumerate(zip(sums, counts, strict=True)):
            if count:
                report.values[f"loss/t={index / BINS:.1f}..{(index + 1) / BINS:.1f}"] = total / count
