"""How well an autoencoder gives a video back: PSNR, SSIM and LPIPS, each per frame (the report's Table 1).

The autoencoder's trainer reports them on held-out clips. LPIPS, being a network with weights, is in `lpips`.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from training.quality.frames import to_float
from training.quality.lpips import Lpips

WINDOW, SIGMA = 11, 1.5
C1, C2 = 0.01**2, 0.03**2
"""SSIM's two constants for values in 0..1 (Wang et al. 2004)."""


@dataclass(frozen=True, slots=True)
class Reconstruction:
    """Means over frames; `lpips` is None where its weights were not given. Identical frames have PSNR infinity."""

    psnr: float
    ssim: float
    lpips: float | None


def reconstruction(video_T3HW: Tensor, again_T3HW: Tensor, network: Lpips | None = None) -> Reconstruction:
    """Compare a video and its reconstruction, both (T, 3, H, W), uint8 or 0..1."""
    a, b = to_float(video_T3HW), to_float(again_T3HW)
    assert a.shape == b.shape, f"{tuple(a.shape)} against {tuple(b.shape)}"
    with torch.inference_mode():
        distance = None if network is None else network(2 * a - 1, 2 * b - 1).mean().item()
    return Reconstruction(psnr(a, b).mean().item(), ssim(a, b).mean().item(), distance)


def psnr(a_N3HW: Tensor, b_N3HW: Tensor) -> Tensor:
    """10 log10(1 / mean square error) of each frame, (N,), for values in 0..1."""
    return -10 * (a_N3HW - b_N3HW).square().mean((1, 2, 3)).log10()


def ssim(a_N3HW: Tensor, b_N3HW: Tensor) -> Tensor:
    """Structural similarity of each frame, (N,), for values in 0..1.

    Gaussian window of 11x11 with sigma 1.5, inside the picture only, per colour channel; then the mean.
    """
    if min(a_N3HW.shape[-2:]) < WINDOW:
        raise ValueError(f"SSIM needs sides of {WINDOW} pixels, not {tuple(a_N3HW.shape[-2:])}")
    moments = torch.cat([a_N3HW, b_N3HW, a_N3HW * a_N3HW, b_N3HW * b_N3HW, a_N3HW * b_N3HW], 1)
    mean_a, mean_b, aa, bb, ab = _blur(moments).chunk(5, 1)
    var_a, var_b, cov = aa - mean_a**2, bb - mean_b**2, ab - mean_a * mean_b
    likeness = (2 * mean_a * mean_b + C1) * (2 * cov + C2)
    return (likeness / ((mean_a**2 + mean_b**2 + C1) * (var_a + var_b + C2))).mean((1, 2, 3))


def _blur(x_NCHW: Tensor) -> Tensor:
    """The window's weighted mean round every position where it lies inside."""
    channels = x_NCHW.shape[1]
    offsets = torch.arange(WINDOW, dtype=x_NCHW.dtype, device=x_NCHW.device) - WINDOW // 2
    line = torch.exp(-(offsets**2) / (2 * SIGMA**2))
    line = (line / line.sum()).repeat(channels, 1, 1)
    down = F.conv2d(x_NCHW, line[..., None], groups=channels)
    return F.conv2d(down, line[:, :, None], groups=channels)
