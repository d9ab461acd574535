"""Modulated LayerNorm in plain torch: what runs on a CPU, and in float64 what the kernels are measured against.

B batch, L tokens, D width. The forward functions work in the dtype of their inputs, as a model without kernels would.
The backward functions are written out, since a custom op runs below autograd; they work in float32 or better.

With n = (x - mean) * rstd and m = (1 + scale) * n + shift:
    dn = dm * (1 + scale),  dx = rstd * (dn - mean(dn) - n * mean(dn * n)),  dscale = sum_L dm * n,  dshift = sum_L dm.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


def layernorm_modulate(x_BLD: Tensor, scale_BD: Tensor, shift_BD: Tensor, eps: float = 1e-6) -> Tensor:
    """(1 + scale) * LayerNorm(x) + shift, the norm without weights."""
    normed = F.layer_norm(x_BLD, x_BLD.shape[-1:], eps=eps)
    return ((1 + scale_BD[:, None]) * normed + shift_BD[:, None]).to(x_BLD.dtype)


def layernorm_modulate_backward(
    dout_BLD: Tensor, x_BLD: Tensor, scale_BD: Tensor, eps: float = 1e-6
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of x, scale and shift, each in the dtype of what it belongs to (shift's in scale's)."""
    dx, dscale, dshift = _norm_backward(dout_BLD, x_BLD, scale_BD, eps)
    return dx.to(x_BLD.dtype), dscale.to(scale_BD.dtype), dshift.to(scale_BD.dtype)


def gate_residual_layernorm_modulate(
    x_BLD: Tensor, y_BLD: Tensor, gate_BD: Tensor, scale_BD: Tensor, shift_BD: Tensor, eps: float = 1e-6
) -> tuple[Tensor, Tensor]:
    """(x + gate * y, its modulated LayerNorm)."""
    residual = (x_BLD + gate_BD[:, None] * y_BLD).to(x_BLD.dtype)
    return residual, layernorm_modulate(residual, scale_BD, shift_BD, eps)


def gate_residual_layernorm_modulate_backward(
    dresidual_BLD: Tensor,
    dout_BLD: Tensor,
    residual_BLD: Tensor,
    y_BLD: Tensor,
    gate_BD: Tensor,
    scale_BD: Tensor,
    eps: float = 1e-6,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Gradients of x, y, gate, scale and shift (shift's in scale's dtype)."""
    through_norm, dscale, dshift = _norm_backward(dout_BLD, residual_BLD, scale_BD, eps)
    dx = through_norm + dresidual_BLD
    dy = dx * gate_BD[:, None]
    dgate = (dx * y_BLD).sum(1)
    return (
        dx.to(residual_BLD.dtype),
        dy.to(y_BLD.dtype),
        dgate.to(gate_BD.dtype),
        dscale.to(scale_BD.dtype),
        dshift.to(scale_BD.dtype),
    )


def _norm_backward(dout_BLD: Tensor, x_BLD: Tensor, scale_BD: Tensor, eps: float) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of x, scale and shift, not yet rounded."""
    at_least = torch.promote_types(x_BLD.dtype, torch.float32)
    x, dout = x_BLD.to(at_least), dout_BLD.to(at_least)
    variance, mean = torch.var_mean(x, -1, correction=0, keepdim=True)
    rstd = torch.rsqrt(variance + eps)
    normed = (x - mean) * rstd
    dnormed = dout * (1 + scale_BD[:, None].to(at_least))
    dx = rstd * (dnormed - dnormed.mean(-1, keepdim=True) - normed * (dnormed * normed).mean(-1, keepdim=True))
    return dx, (dout * normed).sum(1), dout.sum(1)
