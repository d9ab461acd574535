"""Mean and standard deviation of latents over a data set: what `latent_std` is set from (spec section 1.4).

Measured on scaled latents the standard deviation should be near one; on unscaled ones it is the scale to configure.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from curation.errors import UserError


@dataclass(frozen=True, slots=True)
class LatentStats:
    """Over all values, and for each channel. `values`: how many there were."""

    mean: float
    std: float
    channel_mean: tuple[float, ...]
    channel_std: tuple[float, ...]
    values: int


def latent_stats(latents: Iterable[Tensor]) -> LatentStats:
    """Of batches (B, C, T, H, W) of any size, one at a time in constant memory; population deviation, in float64.

    Batches are merged by the update of Chan, Golub and LeVeque (1983), which stays exact where the mean is far from
    zero. UserError where there is no latent, or one holds a value that is not finite.
    """
    count, mean, spread = 0, torch.zeros(()), torch.zeros(())
    for index, latent_BCTHW in enumerate(latents):
        x = latent_BCTHW.detach().double().transpose(0, 1).flatten(1)
        if not x.isfinite().all():
            raise UserError(f"latent {index} holds a value that is not finite", "encode in bfloat16 or float32")
        here = x.mean(1)
        around = (x - here[:, None]).square().sum(1)
        mean, spread = mean.to(here), spread.to(here)
        step, total = here - mean, count + x.shape[1]
        spread = spread + around + step.square() * (count * x.shape[1] / total)
        mean = mean + step * (x.shape[1] / total)
        count = total
    if not count:
        raise UserError("there is no latent to measure", "give a data set with at least one clip")
    variance = spread / count
    return LatentStats(
        mean=mean.mean().item(),
        std=(variance.mean() + mean.var(unbiased=False)).sqrt().item(),
        channel_mean=tuple(mean.tolist()),
        channel_std=tuple(variance.sqrt().tolist()),
        values=count * len(mean),
    )
