"""RMS norm and rotary embedding in plain torch: what runs on a CPU, and in float64 the measure of the kernels.

B batch, L tokens, H heads, D channels of a head, R = D / 2 angles a token. Inside, everything is in float32 or better.

With r = 1 / sqrt(mean(x^2) + eps) and g the results' gradient, rotated back:
    dscale = sum_BLH g * x * r,  and with h = g * scale:  dx = r * (h - x * r^2 * mean(h * x)).
"""

from __future__ import annotations

import torch
from torch import Tensor


def qk_norm_rope(
    q_BLHD: Tensor,
    k_BLHD: Tensor,
    q_scale_D: Tensor,
    k_scale_D: Tensor,
    cos_LR: Tensor,
    sin_LR: Tensor,
    interleaved: bool,
    eps: float = 1e-6,
) -> tuple[Tensor, Tensor]:
    """RMS norm of every head with a learned scale, then rotation by R angles a token."""
    q, k = (
        _rotate(_normalize(x, eps)[0] * scale.to(_at_least(x)), cos_LR, sin_LR, interleaved).to(x.dtype)
        for x, scale in ((q_BLHD, q_scale_D), (k_BLHD, k_scale_D))
    )
    return q, k


def qk_norm_rope_backward(
    dq_BLHD: Tensor,
    dk_BLHD: Tensor,
    q_BLHD: Tensor,
    k_BLHD: Tensor,
    q_scale_D: Tensor,
    k_scale_D: Tensor,
    cos_LR: Tensor,
    sin_LR: Tensor,
    interleaved: bool,
    eps: float = 1e-6,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Gradients of q, k and their scales."""
    dq, dq_scale = _backward(dq_BLHD, q_BLHD, q_scale_D, cos_LR, sin_LR, interleaved, eps)
    dk, dk_scale = _backward(dk_BLHD, k_BLHD, k_scale_D, cos_LR, sin_LR, interleaved, eps)
    return dq, dk, dq_scale, dk_scale


def _backward(
    dout_BLHD: Tensor, x_BLHD: Tensor, scale_D: Tensor, cos_LR: Tensor, sin_LR: Tensor, interleaved: bool, eps: float
) -> tuple[Tensor, Tensor]:
    grad = _rotate(dout_BLHD.to(_at_least(x_BLHD)), cos_LR, -sin_LR, interleaved)
    normed, rstd = _normalize(x_BLHD, eps)
    dnormed = grad * scale_D.to(grad.dtype)
    dx = rstd * (dnormed - normed * (dnormed * normed).mean(-1, keepdim=True))
    return dx.to(x_BLHD.dtype), (grad * normed).sum((0, 1, 2)).to(scale_D.dtype)


def _at_least(x: Tensor) -> torch.dtype:
    return torch.promote_types(x.dtype, torch.float32)


def _normalize(x_BLHD: Tensor, eps: float) -> tuple[Tensor, Tensor]:
    """Every head over its root mean square, and 1 / that."""
    x = x_BLHD.to(_at_least(x_BLHD))
    rstd = torch.rsqrt(x.square().mean(-1, keepdim=True) + eps)
    return x * rstd, rstd


def _rotate(x_BLHD: Tensor, cos_LR: Tensor, sin_LR: Tensor, interleaved: bool) -> Tensor:
    """Channels (2j, 2j + 1) if `interleaved`, else (j, j + R), turned by angle j of the token."""
    cos, sin = cos_LR[:, None], sin_LR[:, None]
    a, b = (x_BLHD[..., 0::2], x_BLHD[..., 1::2]) if interleaved else x_BLHD.chunk(2, -1)
    turned = (a * cos - b * sin, b * cos + a * sin)
    return torch.stack(turned, -1).flatten(-2) if interleaved else torch.cat(turned, -1)
