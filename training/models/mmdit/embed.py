"""What enters the transformer beside the video tokens: the time and the pooled text, as one vector a sample."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

TIME_CHANNELS = 256


def timestep_embedding(t_B: Tensor, channels: int = TIME_CHANNELS, max_period: float = 10_000.0) -> Tensor:
    """Cosines, then sines, of 1000 t * max_period^(-i / (channels/2)): (B, channels), float32 (golden README).

    `t_B` in [0, 1]; its dtype must hold the time exactly enough, so float32, whatever the network computes in.
    """
    half = channels // 2
    rates = torch.exp(-math.log(max_period) / half * torch.arange(half, dtype=torch.float32, device=t_B.device))
    angles = 1000.0 * t_B.float()[:, None] * rates
    return torch.cat((angles.cos(), angles.sin()), dim=-1)


class Embedder(nn.Module):
    """Linear, SiLU, Linear: (B, `channels`) to (B, D)."""

    def __init__(self, channels: int, hidden: int) -> None:
        super().__init__()
        self.in_layer = nn.Linear(channels, hidden)
        self.out_layer = nn.Linear(hidden, hidden)

    def forward(self, x_BP: Tensor) -> Tensor:
        return self.out_layer(functional.silu(self.in_layer(x_BP)))
