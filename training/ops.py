"""The operations that have kernels: one function each, plain torch or `kernels` behind it. Models call nothing lower.

Plain torch is the default; `use_kernels` takes the Triton kernels where they run (a GPU, or Triton's interpreter).
B batch, L tokens, H heads, D head dimension or width. Statistics are in float32 whatever the dtype.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, cast

import torch
from torch import Tensor
from torch.nn import functional as F

from kernels.attention import attention as kernel_attention
from kernels.bias_gelu_tanh import bias_gelu_tanh as kernel_gelu
from kernels.layernorm_modulate import gate_residual_layernorm_modulate as kernel_gated
from kernels.layernorm_modulate import layernorm_modulate as kernel_modulate
from kernels.qk_norm_rope import qk_norm_rope as kernel_rope
from kernels.relu_linear_attention import relu_linear_attention as kernel_linear
from kernels.runtime import use_kernel

Attention = Callable[[Tensor, Tensor, Tensor], Tensor]
"""Queries, keys and values (B, L, H, D) to outputs of that shape, scale 1/sqrt(D)."""

_kernels = False
_attend: Attention | None = None
_another = False
"""Whether there is an `_attend`, for torch.compile to look at: each micro-batch brings one of its own, and all that has
seen it would be compiled anew."""


def use_kernels(on: bool) -> None:
    """Whether this process computes with the Triton kernels where they run. Say so before a model is compiled."""
    global _kernels
    _kernels = on


@contextmanager
def attention_by(attend: Attention) -> Iterator[None]:
    """In this block `attention` is `attend`, as where other processes hold a part of the keys.

    For the whole process and not for the thread alone: a backward pass on a GPU computes blocks again in its own.
    """
    global _attend, _another
    before = _attend, _another
    _attend, _another = attend, True
    try:
        yield
    finally:
        _attend, _another = before


def _with_kernel(x: Tensor) -> bool:
    return _kernels and use_kernel(x)


def attention(q_BLHD: Tensor, k_BLHD: Tensor, v_BLHD: Tensor) -> Tensor:
    """Full attention, scale 1/sqrt(D), no mask: (B, L, H, D). `attention_by` has it done by another."""
    if _another:
        return _by_another(q_BLHD, k_BLHD, v_BLHD)
    if _with_kernel(q_BLHD):
        return kernel_attention(q_BLHD, k_BLHD, v_BLHD)
    q, k, v = (x.transpose(1, 2) for x in (q_BLHD, k_BLHD, v_BLHD))
    return F.scaled_dot_product_attention(q, k, v).transpose(1, 2)


def _attended(q_BLHD: Tensor, k_BLHD: Tensor, v_BLHD: Tensor) -> Tensor:
    assert _attend is not None
    return _attend(q_BLHD, k_BLHD, v_BLHD)


_by_another: Attention = cast(Any, torch.compiler.disable(_attended))


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
    """RMS norm of every head with a learned scale, then rotation by R = D/2 angles a token.

    `interleaved` rotates channels (2j, 2j + 1), else (j, j + D/2) (golden README, "Rotary embedding").
    """
    if _with_kernel(q_BLHD):
        return kernel_rope(q_BLHD, k_BLHD, q_scale_D, k_scale_D, cos_LR, sin_LR, interleaved, eps)
    normed = ((q_BLHD, q_scale_D), (k_BLHD, k_scale_D))
    q, k = (_rotate(_rms_norm(x, scale, eps), cos_LR, sin_LR, interleaved).to(x.dtype) for x, scale in normed)
    return q, k


def layernorm_modulate(x_BLD: Tensor, scale_BD: Tensor, shift_BD: Tensor, eps: float = 1e-6) -> Tensor:
    """(1 + scale) * LayerNorm(x) + shift, the norm without weights."""
    if _with_kernel(x_BLD):
        return kernel_modulate(x_BLD, scale_BD, shift_BD, eps)
    normed = F.layer_norm(x_BLD, x_BLD.shape[-1:], eps=eps)
    return (1 + scale_BD[:, None]) * normed + shift_BD[:, None]


def gate_residual_layernorm_modulate(
    x_BLD: Tensor, y_BLD: Tensor, gate_BD: Tensor, scale_BD: Tensor, shift_BD: Tensor, eps: float = 1e-6
) -> tuple[Tensor, Tensor]:
    """(x + gate * y, its modulated LayerNorm): the end of one residual branch and the start of the next."""
    if _with_kernel(x_BLD):
        return kernel_gated(x_BLD, y_BLD, gate_BD, scale_BD, shift_BD, eps)
    x_BLD = x_BLD + gate_BD[:, None] * y_BLD
    return x_BLD, layernorm_modulate(x_BLD, scale_BD, shift_BD, eps)


def bias_gelu_tanh(x_BLD: Tensor, bias_D: Tensor) -> Tensor:
    """GELU(x + bias), tanh form."""
    if _with_kernel(x_BLD):
        return kernel_gelu(x_BLD, bias_D)
    return F.gelu(x_BLD + bias_D, approximate="tanh")


def relu_linear_attention(q_BHDN: Tensor, k_BHDN: Tensor, v_BHDN: Tensor, eps: float = 1e-15) -> Tensor:
    """ReLU linear attention over N positions: (v k^T) q / (sum(k)^T q + eps) after ReLU on q and k, in float32.

    (B, H, D, N) in and out: positions last, as convolutions leave them (spec section 1.2, LiteMLA).
    """
    if _with_kernel(q_BHDN):
        return kernel_linear(q_BHDN, k_BHDN, v_BHDN, eps)
    q, k, v = q_BHDN.float().relu(), k_BHDN.float().relu(), v_BHDN.float()
    top = (v @ k.transpose(-1, -2)) @ q
    below = k.sum(-1, keepdim=True).transpose(-1, -2) @ q
    return (top / (below + eps)).to(v_BHDN.dtype)


def _rms_norm(x: Tensor, scale: Tensor, eps: float) -> Tensor:
    x32 = x.float()
    return x32 * torch.rsqrt(x32.square().mean(-1, keepdim=True) + eps) * scale.float()


def _rotate(x_BLHD: Tensor, cos_LR: Tensor, sin_LR: Tensor, interleaved: bool) -> Tensor:
    cos, sin = cos_LR[:, None], sin_LR[:, None]
    a, b = (x_BLHD[..., 0::2], x_BLHD[..., 1::2]) if interleaved else x_BLHD.chunk(2, -1)
    turned = (a * cos - b * sin, b * cos + a * sin)
    return torch.stack(turned, -1).flatten(-2) if interleaved else torch.cat(turned, -1)
