"""AdamW over a set of masters, its moments there from the start."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

from training.parallel.base import AdamW

MOMENTS = ("exp_avg", "exp_avg_sq")


def adamw(weights: Iterable[Tensor], settings: AdamW) -> torch.optim.AdamW:
    """The optimizer of the report, at rate zero: `set_rate` gives it the schedule's."""
    return torch.optim.AdamW(
        weights,
        lr=0.0,
        betas=(settings.beta1, settings.beta2),
        eps=settings.eps,
        weight_decay=settings.weight_decay,
        fused=True,
    )


def seed_moments(optimizer: torch.optim.Optimizer, weights: Iterable[Tensor]) -> None:
    """Give every weight its moments, zero: a load into an optimizer without state would lose them without a word."""
    for weight in weights:
        state = {name: torch.zeros_like(weight, requires_grad=False) for name in MOMENTS}
        optimizer.state[weight] = {"step": torch.zeros((), dtype=torch.float32, device=weight.device), **state}


def set_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    for group in optimizer.param_groups:
        group["lr"] = rate


def set_updates(optimizer: torch.optim.Optimizer, weights: Iterable[Tensor], updates: int) -> None:
    """Moments are those after so many updates."""
    for weight in weights:
        optimizer.state[weight]["step"].fill_(updates)
