"""Attention as custom operators, with shapes for torch.compile and gradients for autograd, and the functions on them.

`attention` has the signature that models call. Saved for the backward are q, k, v, out and lse; the weights are
computed again. Head dimensions that no kernel has are padded with zeros, which changes no result and costs a copy.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from kernels.attention import core
from kernels.attention.layout import HEAD_DIMS, Packed, exact_dtype


def attention(q_BLHD: Tensor, k_BMHD: Tensor, v_BMHD: Tensor) -> Tensor:
    """Full attention, scale 1/sqrt(D), no mask: (B, L, H, D)."""
    return attention_with_lse(q_BLHD, k_BMHD, v_BMHD)[0]


def attention_with_lse(q_BLHD: Tensor, k_BMHD: Tensor, v_BMHD: Tensor) -> tuple[Tensor, Tensor]:
    """(out (B, L, H, D), natural log-sum-exp of the scores (B, H, L) in float32); both have gradients.

    Without keys: 0 and -inf. A float64 log-sum-exp for float64 tensors, which only the reference takes.
    """
    return _apply(q_BLHD, k_BMHD, v_BMHD, None, None, 0, 0)


def attention_varlen(
    q_THD: Tensor, k_SHD: Tensor, v_SHD: Tensor, cu_seqlens_q: Tensor, cu_seqlens_k: Tensor, max_q: int, max_k: int
) -> Tensor:
    """Attention of packed sequences, each to itself: (T, H, D).

    `cu_seqlens_q`, `cu_seqlens_k`: int32, where each sequence starts, and the total: one number more than sequences.
    The lengths of a sequence's queries and keys may differ. `max_q`, `max_k`: at least the longest; rows past them
    would not be written.
    """
    q_1THD, k_1SHD, v_1SHD = (x[None] for x in (q_THD, k_SHD, v_SHD))
    return _apply(q_1THD, k_1SHD, v_1SHD, cu_seqlens_q, cu_seqlens_k, max_q, max_k)[0][0]


def padded(q: Tensor, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """With zeros up to the next head dimension that the kernels have; as they are for the reference."""
    widths = [width for width in HEAD_DIMS if width >= q.shape[-1]]
    if q.shape[-1] in HEAD_DIMS or not widths or not core.runs_kernel(q):
        return q, k, v
    missing = (0, widths[0] - q.shape[-1])
    return F.pad(q, missing), F.pad(k, missing), F.pad(v, missing)


def _apply(
    q: Tensor, k: Tensor, v: Tensor, cu_q: Tensor | None, cu_k: Tensor | None, max_q: int, max_k: int
) -> tuple[Tensor, Tensor]:
    dim = q.shape[-1]
    out, lse = attention_forward(*padded(q, k, v), cu_q, cu_k, max_q, max_k, dim**-0.5)
    return out[..., :dim], lse


@torch.library.custom_op("ziggurat::attention_forward", mutates_args=())
def attention_forward(
    q: Tensor, k: Tensor, v: Tensor, cu_q: Tensor | None, cu_k: Tensor | None, max_q: int, max_k: int, scale: float
) -> tuple[Tensor, Tensor]:
    return core.forward(q, k, v, scale, packed=_packed(cu_q, cu_k, max_q, max_k))


@attention_forward.register_fake
def _(
    q: Tensor, k: Tensor, v: Tensor, cu_q: Tensor | None, cu_k: Tensor | None, max_q: int, max_k: int, scale: float
) -> tuple[Tensor, Tensor]:
    batch, length, heads, _ = q.shape
    return q.new_empty(q.shape), q.new_empty((batch, heads, length), dtype=exact_dtype(q.dtype))


@torch.library.custom_op("ziggurat::attention_backward", mutates_args=())
def attention_backward(
    dout: Tensor, dlse: Tensor | None, q: Tensor, k: Tensor, v: Tensor, out: Tensor, lse: Tensor,
    cu_q: Tensor | None, cu_k: Tensor | None, max_q: int, max_k: int, scale: float,
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    """`dlse`: the gradient of lse. d lse / d S = P, so dS = P * (dP - delta + dlse): it comes off delta."""
    packed = _packed(cu_q, cu_k, max_q, max_k)
    dq, dk, dv = (torch.empty(x.shape, dtype=x.dtype, device=x.device) for x in (q, k, v))
    delta = core.delta(out, dout)
    if dlse is not None:
        delta -= dlse
    core.backward_kv(q, k, v, dout, lse, delta, scale, dk, dv, packed=packed)
    core.backward_q(q, k, v, dout, lse, delta, scale, dq, packed=packed)
    return dq, dk, dv


@attention_backward.register_fake
def _(
    dout: Tensor, dlse: Tensor | None, q: Tensor, k: Tensor, v: Tensor, out: Tensor, lse: Tensor,
    cu_q: Tensor | None, cu_k: Tensor | None, max_q: int, max_k: int, scale: float,
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    return q.new_empty(q.shape), k.new_empty(k.shape), v.new_empty(v.shape)


def _save(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    q, k, v, cu_q, cu_k, *ctx.numbers = inputs
    ctx.save_for_backward(q, k, v, *output, cu_q, cu_k)
    ctx.set_materialize_grads(False)


def _differentiate(ctx: Any, dout: Tensor | None, dlse: Tensor | None) -> tuple[Tensor | None, ...]:
    q, k, v, out, lse, cu_q, cu_k = ctx.saved_tensors
    dout = torch.zeros_like(out) if dout is None else dout
    gradients = attention_backward(dout, dlse, q, k, v, out, lse, cu_q, cu_k, *ctx.numbers)
    return (*gradients, *[None] * (2 + len(ctx.numbers)))


attention_forward.register_autograd(_differentiate, setup_context=_save)


def _packed(cu_q: Tensor | None, cu_k: Tensor | None, max_q: int, max_k: int) -> Packed | None:
    return None if cu_q is None or cu_k is None else Packed(cu_q, cu_k, max_q, max_k)
