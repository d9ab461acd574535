"""Tokens: a latent video cut into patches for the transformer, and put together again.

Everything that counts tokens starts from a `Grid`: positions for RoPE, the time shift of `flow`, the cost of a step.
A token's order is (time, row, column), column fastest; inside it (channel, row, column) (golden README, "MMDiT files").
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # counting tokens needs no torch
    import torch
    from torch import Tensor


@dataclass(frozen=True, slots=True)
class Grid:
    """Tokens along time, height and width."""

    t: int
    h: int
    w: int

    @property
    def tokens(self) -> int:
        return self.t * self.h * self.w

    @property
    def tokens_per_frame(self) -> int:
        """Tokens of one latent frame."""
        return self.h * self.w

    def positions(self, device: torch.device | str | None = None) -> Tensor:
        """Integer (t, h, w) of every token, shape (tokens, 3)."""
        import torch

        axes = [torch.arange(size, device=device) for size in (self.t, self.h, self.w)]
        return torch.cartesian_prod(*axes).reshape(-1, 3)


def grid_of(latent_BCTHW: Tensor, patch: int) -> Grid:
    """The grid of a latent; its sides must be multiples of `patch`."""
    t, h, w = latent_BCTHW.shape[-3:]
    assert h % patch == 0 and w % patch == 0, f"a latent of {h}x{w} is no multiple of patch {patch}"
    return Grid(t, h // patch, w // patch)


def pack(latent_BCTHW: Tensor, patch: int) -> Tensor:
    """(B, C, T, H, W) -> (B, T * H/p * W/p, C * p * p)."""
    b, c, t, h, w = latent_BCTHW.shape
    x = latent_BCTHW.reshape(b, c, t, h // patch, patch, w // patch, patch)
    return x.permute(0, 2, 3, 5, 1, 4, 6).reshape(b, t * (h // patch) * (w // patch), c * patch * patch)


def unpack(tokens_BLD: Tensor, grid: Grid, patch: int) -> Tensor:
    """(B, T * H/p * W/p, C * p * p) -> (B, C, T, H, W): the inverse of `pack`."""
    b, _, d = tokens_BLD.shape
    x = tokens_BLD.reshape(b, grid.t, grid.h, grid.w, d // patch**2, patch, patch)
    return x.permute(0, 4, 1, 2, 5, 3, 6).reshape(b, d // patch**2, grid.t, grid.h * patch, grid.w * patch)
