"""Flow matching: the straight line from data to noise, the time on it, and the loss of a predicted velocity.

t = 1 is noise. Training draws a time a sample (`draw_times`), mixes (`noisy`) and compares (`loss`); sampling walks
`times` from 1 to 0. Both shift their times by the same `Shift` of the same token grid.

Two conflicts, decided: the velocity is noise minus data, as the public code and Flux have it (the paper prints the
opposite sign; spec section 4.1), and tokens are counted by the network's own patch (`Shift.public_patch`; section 4.2).
Times are float32 whatever the network's dtype: bfloat16 has 8 bits for them.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import sqrt

import torch
from torch import Tensor

from training.tokens import Grid

SIGMA_MIN = 1e-5
"""The share of noise that is left at t = 0 and missing from the target (section 4.1)."""

_FEW, _MANY = (256, 1.0), (4096, 3.0)
"""(Tokens of a latent frame, factor): the line that `alpha` is on."""


def alpha(grid: Grid, public_patch: int | None = None) -> float:
    """How strongly times are pushed to noise: lin(tokens of a latent frame) * sqrt(latent frames) (section 4.2).

    `public_patch`: this network's patch, to count as the public training script does, which takes a quarter of the
    latent's positions, rounded down, for its tokens whatever the patch. With patch 2 both counts are equal; with 1
    its 768px clips of 128 frames train at 5.33 and are sampled at 6.60.
    """
    tokens = grid.tokens_per_frame if public_patch is None else grid.tokens_per_frame * public_patch**2 // 4
    slope = (_MANY[1] - _FEW[1]) / (_MANY[0] - _FEW[0])
    return (_FEW[1] + slope * (tokens - _FEW[0])) * sqrt(grid.t)


@dataclass(frozen=True, slots=True)
class Shift:
    """t <- a t / (1 + (a - 1) t), a = `alpha(grid)` unless one is given. The default serves training and sampling.

    `on = False` leaves times as they are. `public_patch`: see `alpha`.
    """

    on: bool = True
    given: float | None = None
    public_patch: int | None = None

    def alpha(self, grid: Grid) -> float:
        if not self.on:
            return 1.0
        return alpha(grid, self.public_patch) if self.given is None else self.given

    def __call__(self, t: Tensor, grid: Grid) -> Tensor:
        return shifted(t, self.alpha(grid))


def shifted(t: Tensor, a: float) -> Tensor:
    """a t / (1 + (a - 1) t): keeps 0 and 1, and for a > 1 moves what lies between towards noise."""
    return a * t / (1 + (a - 1) * t)


def draw_times(
    count: int, grid: Grid, generator: torch.Generator, shift: Shift = Shift(), device: torch.device | str = "cpu"
) -> Tensor:
    """(B,) float32 times for training: sigmoid of a normal number, shifted. `generator` lives on `device`."""
    normal_B = torch.randn(count, generator=generator, device=device, dtype=torch.float32)
    return shift(torch.sigmoid(normal_B), grid)


def times(steps: int, grid: Grid, shift: Shift = Shift()) -> Tensor:
    """(steps + 1,) float32 times of a sampler, from 1 down to 0 (section 4.2)."""
    return shift(torch.linspace(1, 0, steps + 1, dtype=torch.float64), grid).float()


def noisy(data: Tensor, noise: Tensor, t_B: Tensor, sigma_min: float = SIGMA_MIN) -> Tensor:
    """x_t = (1 - t) data + (1 - (1 - s)(1 - t)) noise, in float32; any shape with the batch first."""
    t = _beside(t_B, data)
    return (1 - t) * data + (1 - (1 - sigma_min) * (1 - t)) * noise


def velocity(data: Tensor, noise: Tensor, sigma_min: float = SIGMA_MIN) -> Tensor:
    """The target: dx_t / dt = (1 - s) noise - data, in float32."""
    return (1 - sigma_min) * noise.float() - data.float()


def loss(prediction: Tensor, target: Tensor) -> Tensor:
    """Mean squared error in float32."""
    return (prediction.float() - target.float()).square().mean()


def loss_without_references(
    prediction_BLC: Tensor, target_BLC: Tensor, mask_BT: Tensor, held: tuple[Grid, slice] | None = None
) -> Tensor:
    """Mean squared error without the end frames that were given as images ("no_i2v_ref_loss", golden README).

    `mask_BT`: 1 where a latent frame is conditioned. Of each sample the first (last) frame is left out when it is
    masked and no frame between the ends is, that is for i2v and not for v2v. Mean over a sample's tokens, then over
    samples. A sample without a frame left counts as 0. `held`: the grid, and which of its tokens are there, if not
    all; the losses of slices that make up the grid add up to that of the whole.
    """
    given_BT = mask_BT > 0
    left_BT = torch.ones_like(mask_BT, dtype=torch.float32)
    for_images_B = ~given_BT[:, 1:-1].any(1)
    for end in (0, -1):
        left_BT[:, end] = 1 - (given_BT[:, end] & for_images_B).float()
    error_BL = (prediction_BLC.float() - target_BLC.float()).square().mean(-1)
    per_frame = held[0].tokens_per_frame if held else error_BL.shape[1] // left_BT.shape[1]
    left_BL = left_BT.repeat_interleave(per_frame, 1)[:, held[1] if held else slice(None)]
    return ((error_BL * left_BL).sum(1) / (left_BT.sum(1).clamp(min=1) * per_frame)).mean()


def _beside(t_B: Tensor, x: Tensor) -> Tensor:
    assert t_B.dtype == torch.float32, f"times are float32, not {t_B.dtype}"
    return t_B.reshape(-1, *[1] * (x.ndim - 1))
