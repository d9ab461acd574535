"""How well held-out clips come back: PSNR, SSIM and LPIPS, of the same clips each time (the report's Table 1); and how
wide their latents are, which is the scale that a model file of these weights gives as `autoencoder.latent_std`.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from training.callbacks.averages import Averages
from training.callbacks.base import Quiet, Report
from training.methods.autoencoder import Autoencoding
from training.parallel.base import Engine
from training.quality.lpips import Lpips
from training.quality.reconstruction import reconstruction
from training.tally import Tally

if TYPE_CHECKING:
    from training.trainer import Progress


_MOMENTS = "latent: sum, sum of squares, count"


class Reconstruction(Quiet):
    """Every `every` steps, before the first and after the last: `last` has the means over `samples`, by name, and the
    standard deviation of all their latents as `validation/latent_std`.

    Whole clips, one by one, with the averaged weights where there are some; LPIPS where its network is given. Clips
    are shared among ranks, or groups of ranks that share each, which take part in as many passes as the others.
    """

    headline = "validation/psnr"

    def __init__(
        self,
        engine: Engine,
        method: Autoencoding,
        samples: Sequence[int],
        every: int,
        averages: Averages | None = None,
        lpips: Lpips | None = None,
    ) -> None:
        assert samples and every > 0
        self._engine, self._method, self._every = engine, method, every
        self._averages, self._lpips = averages, lpips
        self._samples = tuple(samples)
        self.last: dict[str, float] = {}

    def begin(self, progress: Progress) -> None:
        self.last = self.measured()

    def after_step(self, progress: Progress, report: Report) -> None:
        if progress.step % self._every == 0:
            self.last = self.measured()
            report.values.update(self.last)

    def end(self, progress: Progress, stopped: bool) -> None:
        if not stopped and progress.step % self._every:
            self.last = self.measured()

    @torch.no_grad()
    def measured(self) -> dict[str, float]:
        """The numbers now, over all ranks."""
        engine, tally = self._engine, Tally(self._engine.device)
        context = self._method.context
        rank, ranks = context.data(engine)
        passes = -(-len(self._samples) // ranks)
        with self._averages.swapped() if self._averages else nullcontext():
            for turn in range(passes):
                index = turn * ranks + rank
                own = index < len(self._samples)  # else this rank only keeps the others company
                inputs = self._method.validation([self._samples[index if own else 0]]).to(engine.device)
                again, latent = self._method.coded(engine.model, inputs, engine.dtype)
                for name, value in self._compared(inputs.video[0], again[0]).items():
                    tally.add(f"validation/{name}", value if own else 0.0)
                wide = latent.double()
                tally.add(_MOMENTS, torch.stack([wide.sum(), wide.square().sum(), wide.new_tensor(wide.numel())]) * own)
        found = dict(tally.agreed(engine))
        total, squares, count = found.pop(_MOMENTS)
        count_all = len(self._samples) * context.ranks
        means = {name: values[0] / count_all for name, values in found.items()}
        variance = squares / count - (total / count) ** 2
        return {**means, "validation/latent_std": (0.0 if variance < 0 else variance) ** 0.5}  # rounding; NaN stays

    def _compared(self, video_3THW: Tensor, again_3THW: Tensor) -> dict[str, float]:
        # A number that is not finite is told as one: an exception on one rank would leave the others waiting.
        sound = bool(torch.isfinite(again_3THW).all())
        a, b = (((x.nan_to_num() + 1) / 2).clamp(0, 1).transpose(0, 1) for x in (video_3THW, again_3THW))
        found = reconstruction(a, b, self._lpips)
        values = {"psnr": found.psnr, "ssim": found.ssim}
        if found.lpips is not None:
            values["lpips"] = found.lpips
        return values if sound else dict.fromkeys(values, float("nan"))
