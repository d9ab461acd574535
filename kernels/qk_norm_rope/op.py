"""`qk_norm_rope` as a custom op with its gradient: what queries and keys go through between projection and attention.

Bytes moved a channel of q and of k in bf16: forward 4 (in; out), backward 6 (gradient, in; gradient out). The table
adds 8 bytes an angle and token, for all heads. Kept for the backward pass: the inputs, which are views into the
projection, so nothing is stored for it alone.

Any strides of B, L and H do: q and k are read in place from a fused projection. What is strided in its last
dimension, and a table that is not contiguous, is copied first. Results are contiguous and have the dtype of q and k.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from kernels.qk_norm_rope import reference
from kernels.runtime import config_for, dense_rows, launch, use_kernel


def constants(heads: int, channels: int, interleaved: bool) -> dict[str, Any]:
    """What a kernel is compiled for beside its settings."""
    angles = channels // 2
    return {"H": heads, "R": angles, "BLOCK_R": 1 << (angles - 1).bit_length(), "INTERLEAVED": interleaved}


@torch.library.custom_op("ziggurat::qk_norm_rope", mutates_args=())
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
    """RMS norm of every head with a learned scale, then rotation by R = D/2 angles a token: q and k (B, L, H, D).

    `interleaved` rotates channels (2j, 2j + 1), else (j, j + R). Statistics are in float32. The tables get no
    gradient. `eps` must be positive: a head that a tile only pads has no other length. ValueError where it is not, or
    the shapes do not fit each other.
    """
    _check(q_BLHD, k_BLHD, q_scale_D, k_scale_D, cos_LR, sin_LR)
    if eps <= 0:
        raise ValueError(f"eps must be positive, not {eps}")
    if not use_kernel(q_BLHD):
        out = reference.qk_norm_rope(q_BLHD, k_BLHD, q_scale_D, k_scale_D, cos_LR, sin_LR, interleaved, eps)
        return out[0].contiguous(), out[1].contiguous()
    from kernels.qk_norm_rope import kernel

    q, k, q_scale, k_scale = map(dense_rows, (q_BLHD, k_BLHD, q_scale_D, k_scale_D))
    q_out, k_out = (torch.empty(x.shape, dtype=x.dtype, device=x.device) for x in (q, k))
    settings = _settings("qk_norm_rope", q, interleaved)
    tensors = (q, k, q_scale, k_scale, cos_LR.contiguous(), sin_LR.contiguous(), q_out, k_out)
    sizes = (q.shape[0] * q.shape[1], q.shape[1], eps, *q.stride()[:3], *k.stride()[:3])
    launch(kernel.qk_norm_rope_forward, _grid(q, settings), *tensors, *sizes, **settings)
    return q_out, k_out


@torch.library.custom_op("ziggurat::qk_norm_rope_backward", mutates_args=())
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
    eps: float,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Gradients of q, k and their scales, from those of the results."""
    heads = (dq_BLHD, dk_BLHD, q_BLHD, k_BLHD)
    if not use_kernel(q_BLHD):
        tensors = (*heads, q_scale_D, k_scale_D, cos_LR, sin_LR)
        gradients = reference.qk_norm_rope_backward(*tensors, interleaved, eps)
        dq, dk, dq_scale, dk_scale = (gradient.contiguous() for gradient in gradients)
        return dq, dk, dq_scale, dk_scale
    from kernels.qk_norm_rope import kernel

    dq_out, dk_out, q, k = map(dense_rows, heads)
    dq, dk = (torch.empty(x.shape, dtype=x.dtype, device=x.device) for x in (q, k))
    settings = _settings("qk_norm_rope_backward", q, interleaved)
    grid = _grid(q, settings)
    partial = torch.empty((2, grid[0], q.shape[3]), dtype=torch.float32, device=q.device)
    table = (cos_LR.contiguous(), sin_LR.contiguous())
    tensors = (dq_out, dk_out, q, k, dense_rows(q_scale_D), dense_rows(k_scale_D), *table, dq, dk, partial)
    strides = (stride for x in (dq_out, dk_out, q, k) for stride in x.stride()[:3])
    sizes = (q.shape[0] * q.shape[1], q.shape[1], eps, *strides)
    launch(kernel.qk_norm_rope_backward, grid, *tensors, *sizes, **settings)
    dq_scale, dk_scale = partial.sum(1)
    return dq, dk, dq_scale.to(q_scale_D.dtype, copy=True), dk_scale.to(k_scale_D.dtype, copy=True)


def _check(q: Tensor, k: Tensor, q_scale: Tensor, k_scale: Tensor, cos: Tensor, sin: Tensor) -> None:
    """Kernels trust the shapes that they are given."""
    _, tokens, _, channels = q.shape
    fits = q.shape == k.shape and q_scale.shape == k_scale.shape == (channels,)
    if not fits or channels % 2 or not cos.shape == sin.shape == (tokens, channels // 2):
        shapes = [tuple(x.shape) for x in (q, k, q_scale, k_scale, cos, sin)]
        raise ValueError(f"expected q, k (B, L, H, D), scales (D), tables (L, D / 2), got {shapes}")


def _settings(op: str, q_BLHD: Tensor, interleaved: bool) -> dict[str, Any]:
    heads, channels = q_BLHD.shape[2:]
    return {**constants(heads, channels, interleaved), **config_for(op, str(channels)).launch()}


def _grid(q_BLHD: Tensor, settings: dict[str, Any]) -> tuple[int]:
    batch, tokens, heads, _ = q_BLHD.shape
    tiles = -(-batch * tokens // settings["BLOCK_L"]) * -(-heads // settings["BLOCK_H"])
    return (min(tiles, settings["PROGRAMS"]),)


@qk_norm_rope.register_fake
def _(
    q_BLHD: Tensor,
    k_BLHD: Tensor,
    q_scale_D: Tensor,
    k_scale_D: Tensor,
    cos_LR: Tensor,
    sin_LR: Tensor,
    interleaved: bool,
    eps: float = 1e-6,
) -> tuple[Tensor, Tensor]:
    return q_BLHD.new_empty(q_BLHD.shape), k_BLHD.new_empty(k_BLHD.shape)


@qk_norm_rope_backward.register_fake
def _(
    dq_BLHD: Tensor,
    dk_BLHD: Tensor,
    q_BLHD: Tensor,
    k_BLHD: Tensor,
    q_scale_D: Tensor,
    k_scale_D: Tensor,
    cos_LR: Tensor,
    sin_LR: Tensor,
    interleaved: bool,
    eps: float,
) -> tuple[Tensor, ...]:
    return tuple(x.new_empty(x.shape) for x in (q_BLHD, k_BLHD, q_scale_D, k_scale_D))


def _keep(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    *tensors, ctx.interleaved, ctx.eps = inputs
    ctx.save_for_backward(*tensors)


def _gradients(ctx: Any, dq_BLHD: Tensor, dk_BLHD: Tensor) -> tuple[Tensor | None, ...]:
    q, k, q_scale, k_scale, cos, sin = ctx.saved_tensors
    scalars = (ctx.interleaved, ctx.eps)
    return *qk_norm_rope_backward(dq_BLHD, dk_BLHD, q, k, q_scale, k_scale, cos, sin, *scalars), None, None, None, None


qk_norm_rope.register_autograd(_gradients, setup_context=_keep)
