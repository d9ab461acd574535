"""The walk from noise to data: guided Euler steps on tokens. `sampler` prepares what it needs and decodes its end.

    x <- x + (t_next - t) v,   t from 1 to 0   (spec section 4.1), v from the passes that `guidance` asks for

The state is float32 whatever the network's dtype, and so are the times.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor

from training import flow
from training.flow import Shift
from training.models.base import Denoiser, TextStates
from training.sampling.guidance import Guidance, Pass, Scales
from training.tokens import grid_of, pack, unpack


@dataclass(frozen=True, slots=True)
class Settings:
    """How to walk. `batched`: all passes of a step in one forward pass, faster and larger than one by one."""

    steps: int = 50
    guidance: Guidance = field(default_factory=Guidance)
    shift: Shift = field(default_factory=Shift)
    batched: bool = True


@dataclass(frozen=True, slots=True)
class Told:
    """What the network is told: the prompts' states, those of the negative prompt (batch 1 or B), and the condition
    (B, 1 + C, T, H, W) of `condition`; None for a network without one, or where no frame is given.
    """

    text: TextStates
    negative: TextStates
    condition: Tensor | None = None


class Walk:
    """One batch on its way: `run` takes all steps; `search` takes some of them differently."""

    def __init__(
        self,
        denoiser: Denoiser,
        told: Told,
        noise_BCTHW: Tensor,
        patch: int,
        settings: Settings,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        self.grid = grid_of(noise_BCTHW, patch)
        self.start_BLC = pack(noise_BCTHW.float(), patch)
        self.times = flow.times(settings.steps, self.grid, settings.shift).to(noise_BCTHW.device)
        self.settings = settings
        self._denoiser, self._patch, self._dtype = denoiser, patch, dtype
        self._given = None if told.condition is None else pack(told.condition, patch).to(dtype)
        self._conditioned = told.condition is not None and bool((told.condition[:, 0] > 0).any())
        count = len(noise_BCTHW)
        self._text = {
            Pass.ALL: _repeated(told.text, count, dtype),
            Pass.IMAGES: _repeated(told.negative, count, dtype),
            Pass.NOTHING: _repeated(told.negative, count, dtype),
        }

    def run(self, advance: Callable[[Tensor, int], Tensor] | None = None) -> Tensor:
        """The latent (B, C, T, H, W) at the end. `advance` takes the state before step i to the one after it."""
        x_BLC = self.start_BLC
        for step in range(self.settings.steps):
            x_BLC = (advance or self.step)(x_BLC, step)
        return self.latent(x_BLC)

    def step(self, x_BLC: Tensor, step: int, scale: float = 1.0) -> Tensor:
        """The state after a guided step, `scale` times as long as the schedule's."""
        return x_BLC + scale * self.length(step) * self.velocity(x_BLC, self.times[step], self.scales(step))

    def length(self, step: int) -> Tensor:
        """t_next - t of a step: negative."""
        return self.times[step + 1] - self.times[step]

    def scales(self, step: int) -> Scales:
        return self.settings.guidance.at(step, self.settings.steps, self.grid.t)

    def velocity(self, x_BLC: Tensor, t: Tensor, scales: Scales) -> Tensor:
        """The guided velocity of all samples at one time."""
        passes = scales.passes(self._conditioned)
        groups = [passes] if self.settings.batched else [(one,) for one in passes]
        found = [self._forward(x_BLC, t, group).chunk(len(group)) for group in groups]
        velocities = dict(zip(passes, (v for group in found for v in group), strict=True))
        return scales.combine(velocities, self.grid)

    def latent(self, x_BLC: Tensor) -> Tensor:
        return unpack(x_BLC, self.grid, self._patch)

    def _forward(self, x_BLC: Tensor, t: Tensor, passes: tuple[Pass, ...]) -> Tensor:
        x = x_BLC.to(self._dtype).repeat(len(passes), 1, 1)
        texts = [self._text[one] for one in passes]
        text = TextStates(torch.cat([s.tokens_BMD for s in texts]), torch.cat([s.pooled_BP for s in texts]))
        given = self._given
        if given is not None:
            given = torch.cat([torch.zeros_like(given) if one is Pass.NOTHING else given for one in passes])
        return self._denoiser(x, t.float().expand(len(x)), text, self.grid, given).float()


def _repeated(states: TextStates, count: int, dtype: torch.dtype) -> TextStates:
    """States of one prompt for all samples, or of one each as they are."""
    tokens, pooled = states.tokens_BMD.to(dtype), states.pooled_BP.to(dtype)
    assert len(tokens) in (1, count), f"{len(tokens)} prompts for {count} samples"
    return TextStates(tokens.expand(count, -1, -1), pooled.expand(count, -1))
