"""Attention and its gradient in plain torch, the definition that the kernels are held to; on a CPU, what runs.

Scores are whole, (B, H, L, M) in memory, and in float32, or in float64 for float64 tensors. The gradient takes `lse`
and `delta` from outside, as the kernels do: M may be a part of the keys that `lse` counts.
"""

from __future__ import annotations

import torch
from torch import Tensor

from kernels.attention.layout import exact_dtype


def forward(q_BLHD: Tensor, k_BMHD: Tensor, v_BMHD: Tensor, scale: float) -> tuple[Tensor, Tensor]:
    """(out (B, L, H, D), not rounded to q's dtype, natural log-sum-exp (B, H, L)); without keys 0 and -inf."""
    s_BHLM = _scores(q_BLHD, k_BMHD, scale)
    lse_BHL = torch.logsumexp(s_BHLM, -1)
    out_BLHD = torch.einsum("bhlm,bmhd->blhd", torch.exp(s_BHLM - lse_BHL[..., None]), _exact(v_BMHD))
    return out_BLHD, lse_BHL


def gradient_q(
    q_BLHD: Tensor, k_BMHD: Tensor, v_BMHD: Tensor, dout_BLHD: Tensor, lse_BHL: Tensor, delta_BHL: Tensor, scale: float
) -> Tensor:
    """dQ = scale dS K: (B, L, H, D), not rounded to q's dtype."""
    _, ds_BHLM = _weights(q_BLHD, k_BMHD, v_BMHD, dout_BLHD, lse_BHL, delta_BHL, scale)
    return scale * torch.einsum("bhlm,bmhd->blhd", ds_BHLM, _exact(k_BMHD))


def gradient_kv(
    q_BLHD: Tensor, k_BMHD: Tensor, v_BMHD: Tensor, dout_BLHD: Tensor, lse_BHL: Tensor, delta_BHL: Tensor, scale: float
) -> tuple[Tensor, Tensor]:
    """dK = scale dS^T Q and dV = P^T dO: (B, M, H, D), not rounded to k's dtype."""
    p_BHLM, ds_BHLM = _weights(q_BLHD, k_BMHD, v_BMHD, dout_BLHD, lse_BHL, delta_BHL, scale)
    dk_BMHD = scale * torch.einsum("bhlm,blhd->bmhd", ds_BHLM, _exact(q_BLHD))
    return dk_BMHD, torch.einsum("bhlm,blhd->bmhd", p_BHLM, _exact(dout_BLHD))


def delta(out_BLHD: Tensor, dout_BLHD: Tensor) -> Tensor:
    """rowsum(out * dout): (B, H, L)."""
    return (_exact(out_BLHD) * _exact(dout_BLHD)).sum(-1).transpose(1, 2).contiguous()


def _weights(
    q_BLHD: Tensor, k_BMHD: Tensor, v_BMHD: Tensor, dout_BLHD: Tensor, lse_BHL: Tensor, delta_BHL: Tensor, scale: float
) -> tuple[Tensor, Tensor]:
    """P and dS (FlashAttention-2, algorithm 2)."""
    p_BHLM = torch.exp(_scores(q_BLHD, k_BMHD, scale) - lse_BHL[..., None])
    dp_BHLM = torch.einsum("blhd,bmhd->bhlm", _exact(dout_BLHD), _exact(v_BMHD))
    return p_BHLM, p_BHLM * (dp_BHLM - delta_BHL[..., None])


def _scores(q_BLHD: Tensor, k_BMHD: Tensor, scale: float) -> Tensor:
    return scale * torch.einsum("blhd,bmhd->bhlm", _exact(q_BLHD), _exact(k_BMHD))


def _exact(x: Tensor) -> Tensor:
    return x.to(exact_dtype(x.dtype))
