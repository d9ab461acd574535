"""Times of one training step, for the search of batch sizes: the autoencoder's encoding, forward, backward, for real.

Random pictures and text of the right shapes; the flow-matching loss of `flow`. The optimiser's memory is not in it:
`reserve` keeps as many bytes free as its shard of states will take.
"""

from __future__ import annotations

import time
from contextlib import ExitStack
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from training import flow
from training.models.base import Autoencoder, TextStates
from training.tokens import grid_of, pack
from training.tuning.search import OutOfMemory, Shape, StepTimes


@dataclass(frozen=True, slots=True)
class StepMeasure:
    """A `search.Measure`. `text`: tokens, their width, and the pooled width, of the encoder that will be used.

    The median of `repeats` steps counts, after one that is not counted: the first one compiles and allocates.
    """

    denoiser: nn.Module
    autoencoder: Autoencoder
    text: tuple[int, int, int]
    device: torch.device
    dtype: torch.dtype
    reserve: int = 0
    repeats: int = 3

    def __call__(self, shape: Shape, batch: int) -> StepTimes | OutOfMemory:
        try:
            with ExitStack() as held:
                if self.reserve and self.device.type == "cuda":
                    kept = torch.empty(self.reserve, dtype=torch.uint8, device=self.device)
                    held.callback(kept.untyped_storage().resize_, 0)
                self._step(shape, batch)
                runs = sorted((self._step(shape, batch) for _ in range(self.repeats)), key=lambda t: t.step)
                return runs[len(runs) // 2]
        except torch.OutOfMemoryError:
            return OutOfMemory()
        finally:
            self.denoiser.zero_grad(set_to_none=True)
            if self.device.type == "cuda":
                torch.cuda.empty_cache()

    def _step(self, shape: Shape, batch: int) -> StepTimes:
        video = torch.rand(batch, 3, shape.frames, shape.height, shape.width, device=self.device, dtype=self.dtype)
        text = self._text(batch)
        start = self._now()
        with torch.no_grad():
            latent = self.autoencoder.encode(video * 2 - 1)
        loss = self._loss(latent, text)
        forward = self._now() - start
        loss.backward()
        step = self._now() - start
        self.denoiser.zero_grad(set_to_none=True)
        return StepTimes(forward, step - forward, step)

    def _loss(self, latent_BCTHW: Tensor, text: TextStates) -> Tensor:
        patch = self.autoencoder.spec.patch
        grid = grid_of(latent_BCTHW, patch)
        data = pack(latent_BCTHW, patch)
        noise = torch.randn_like(data)
        t_B = torch.rand(len(data), device=self.device)
        x = flow.noisy(data, noise, t_B).to(self.dtype)
        return flow.loss(self.denoiser(x, t_B, text, grid), flow.velocity(data, noise))

    def _text(self, batch: int) -> TextStates:
        tokens, width, pooled = self.text
        made = torch.randn(batch, tokens, width, device=self.device, dtype=self.dtype)
        return TextStates(made, torch.randn(batch, pooled, device=self.device, dtype=self.dtype))

    def _now(self) -> float:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        return time.perf_counter()
