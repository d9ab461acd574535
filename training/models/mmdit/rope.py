"""Rotary tables of the joint sequence: text at (0, 0, 0), then every video token at its (time, row, column).

Made once a (grid, text length, device) and reused by every step and block, outside of compiled code. The rotation
itself is `ops.qk_norm_rope`. Formula: golden README, "Rotary embedding".
"""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor

from training.tokens import Grid

Rope = tuple[Tensor, Tensor]
"""Cosines and sines of a sequence, (L, D/2) each, D the size of a head."""


@lru_cache(maxsize=16)
def rotary_tables(axes: tuple[int, ...], theta: float, grid: Grid, text_tokens: int, device: torch.device) -> Rope:
    """Cosines and sines (M + L, D/2), float32, of `text_tokens` and the grid's tokens."""
    # A table first made while sampling must still serve training: autograd may not keep an inference tensor.
    with torch.inference_mode(False), torch.no_grad():
        video_L3 = grid.positions(device)
        text_M3 = video_L3.new_zeros(text_tokens, 3)
        return rotary(torch.cat((text_M3, video_L3)), axes, theta)


def rotary(positions_LA: Tensor, axes: tuple[int, ...], theta: float) -> Rope:
    """Cosines and sines (L, D/2), float32, of positions on A axes, D being the sum of `axes`.

    Axis d gives d/2 angles pos * theta^(-2i/d). Float64 up to the cosine: a float32 angle is off by 1e-5 at position
    100. The public rotate-half path computes in float32, so it differs from this by as much.
    """
    angles = [_angles(positions_LA[:, i], size, theta) for i, size in enumerate(axes)]
    angles_LR = torch.cat(angles, dim=-1)
    return angles_LR.cos().float(), angles_LR.sin().float()


def _angles(positions_L: Tensor, size: int, theta: float) -> Tensor:
    exponents = torch.arange(0, size, 2, dtype=torch.float64, device=positions_L.device) / size
    return torch.outer(positions_L.double(), theta**-exponents)
