"""Context parallelism by a ring: queries stay, keys and values go round (Liu et al., Ring Attention, 2023).

At each step a rank attends to the chunk it holds while sending it on to the next rank and receiving another from the
one before; results are merged in float32. It moves twice what the exchange of heads does, but any number of heads
will do, and a hop hides behind the attention of a chunk. Backward, keys and values go round again, and their
gradients go with them, in float32: dQ is computed while the gradient arrives, then dK and dV are added to it in
place. One hop more than in the forward brings it home.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from kernels.attention import core
from kernels.attention.layout import exact_dtype
from kernels.attention.op import padded
from kernels.context_parallel.chunks import agreed
from kernels.merge_partial import merge_partial

KV, GRADIENT = 0, 1
"""Tags: both may be under way between the same two ranks."""


@torch.compiler.disable
def ring_attention(
    q_BLHD: Tensor,
    k_BLHD: Tensor,
    v_BLHD: Tensor,
    group: dist.ProcessGroup,
    lengths: Sequence[int] | None = None,
) -> Tensor:
    """Attention of this rank's tokens to those of all ranks: (B, L, H, D), scale 1/sqrt(D).

    `lengths`: tokens of each rank, all alike if None. Every rank of the group must call it. torch.compile stops before
    it and goes on after it.
    """
    if not q_BLHD.shape == k_BLHD.shape == v_BLHD.shape:
        raise ValueError("context parallel: q, k, v differ in shape")
    ring = _Ring(group, agreed(lengths, q_BLHD.shape[1], group))
    dim = q_BLHD.shape[-1]
    out: Any = _RingAttention.apply(*padded(q_BLHD, k_BLHD, v_BLHD), ring, dim**-0.5)
    return out[..., :dim]


@dataclass(frozen=True, slots=True)
class _Hop:
    """A chunk on its way to the next rank while one comes from the rank before."""

    coming: Tensor
    leaving: Tensor
    works: list[Any]

    def wait(self) -> Tensor:
        for work in self.works:
            work.wait()
        return self.coming


@dataclass(frozen=True, slots=True)
class _Ring:
    """Who holds how many tokens, and where a chunk is at each step."""

    group: dist.ProcessGroup
    lengths: tuple[int, ...]

    @property
    def ranks(self) -> int:
        return len(self.lengths)

    def length(self, step: int) -> int:
        """Tokens of the chunk that is here at a step; step 0 is this rank's own."""
        return self.lengths[(dist.get_rank(self.group) - step) % self.ranks]

    def buffers(self, like_BLHD: Tensor, dtype: torch.dtype) -> list[Tensor]:
        """Two, each with room for two tensors of the longest chunk: one is attended while the other fills."""
        batch, _, heads, dim = like_BLHD.shape
        size = 2 * batch * max(self.lengths) * heads * dim
        return [torch.empty(size, dtype=dtype, device=like_BLHD.device) for _ in range(2)]

    def view(self, buffers: list[Tensor], like_BLHD: Tensor, step: int) -> Tensor:
        """The chunk of a step in its buffer: (2, B, L, H, D)."""
        batch, _, heads, dim = like_BLHD.shape
        shape = (2, batch, self.length(step), heads, dim)
        return buffers[step % 2][: torch.Size(shape).numel()].view(shape)

    def hop(self, leaving: Tensor, coming: Tensor, tag: int) -> _Hop:
        rank = dist.get_rank(self.group)
        to = dist.get_global_rank(self.group, (rank + 1) % self.ranks)
        source = dist.get_global_rank(self.group, (rank - 1) % self.ranks)
        send = dist.P2POp(dist.isend, leaving, to, self.group, tag)
        receive = dist.P2POp(dist.irecv, coming, source, self.group, tag)
        return _Hop(coming, leaving, dist.batch_isend_irecv([send, receive]))


class _RingAttention(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, q: Tensor, k: Tensor, v: Tensor, ring: _Ring, scale: float) -> Tensor:
        buffers = ring.buffers(k, k.dtype)
        kv = ring.view(buffers, k, 0)
        torch.stack((k, v), out=kv)
        # Parts come in float32 as well: rounded each, they would be 1.4 times as far off as one attention.
        total, part = (torch.empty(q.shape, dtype=exact_dtype(q.dtype), device=q.device) for _ in range(2))
        lse = None
        for step in range(ring.ranks):
            last = step == ring.ranks - 1
            hop = None if last else ring.hop(kv, ring.view(buffers, k, step + 1), KV)
            _, lse_part = core.forward(q, kv[0], kv[1], scale, out=total if lse is None else part)
            if lse is None:
                lse = lse_part
            else:
                merge_partial(total, lse, part, lse_part)
            kv = kv if hop is None else hop.wait()
        out = total.to(q.dtype)
        ctx.save_for_backward(q, k, v, out, lse)
        ctx.ring, ctx.scale = ring, scale
        return out

    @staticmethod
    def backward(ctx: Any, dout: Tensor) -> tuple[Tensor | None, ...]:
        q, k, v, out, lse = ctx.saved_tensors
        ring: _Ring = ctx.ring
        exact = exact_dtype(q.dtype)
        delta = core.delta(out, dout)
        kv_buffers, gradient_buffers = ring.buffers(k, k.dtype), ring.buffers(k, exact)
        kv = ring.view(kv_buffers, k, 0)
        torch.stack((k, v), out=kv)
        dq = torch.empty(q.shape, dtype=exact, device=q.device)
        d_kv, gradient_hop = ring.view(gradient_buffers, k, 0), None
        for step in range(ring.ranks):
            last = step == ring.ranks - 1
            kv_hop = None if last else ring.hop(kv, ring.view(kv_buffers, k, step + 1), KV)
            given = (q, kv[0], kv[1], dout, lse, delta, ctx.scale)
            core.backward_q(*given, dq, accumulate=step > 0)
            if gradient_hop is not None:
                d_kv = gradient_hop.wait()
            core.backward_kv(*given, d_kv[0], d_kv[1], accumulate=step > 0)
            if ring.ranks > 1:
                gradient_hop = ring.hop(d_kv, ring.view(gradient_buffers, k, step + 1), GRADIENT)
            kv = kv if kv_hop is None else kv_hop.wait()
        d_kv = d_kv if gradient_hop is None else gradient_hop.wait()
        return dq.to(q.dtype), d_kv[0].to(k.dtype), d_kv[1].to(v.dtype), None, None
