"""Context parallelism by all-to-all of heads (DeepSpeed-Ulysses): tokens are exchanged for heads, and back.

A rank gives away its tokens of the other ranks' heads and receives all tokens of its own, attends as if alone, and
sends the outputs home. Per rank and layer 4 (P - 1) / P of its chunk moves, forward and backward alike, half of what
the ring moves. The number of heads must be a multiple of the number of ranks.

To hide the exchange, a rank's heads go in parts: while one part is attended, the next one arrives and the one before
leaves. Buffers have tokens first, so that a rank's share is a run of rows, of any length, and the kernels read and
write them where they are: nothing is padded or unpacked before attention.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from kernels.attention import core
from kernels.attention.op import padded
from kernels.context_parallel.chunks import agreed, even_lengths


@torch.compiler.disable
def heads_attention(
    q_BLHD: Tensor,
    k_BLHD: Tensor,
    v_BLHD: Tensor,
    group: dist.ProcessGroup,
    lengths: Sequence[int] | None = None,
    parts: int = 2,
) -> Tensor:
    """Attention of this rank's tokens to those of all ranks: (B, L, H, D), scale 1/sqrt(D).

    `lengths`: tokens of each rank, all alike if None. `parts`: in how many goes the heads are exchanged. Every rank of
    the group must call it. Raises ValueError where H is no multiple of the number of ranks. torch.compile stops before
    it and goes on after it.
    """
    ranks = dist.get_world_size(group)
    if q_BLHD.shape[2] % ranks:
        raise ValueError(f"context parallel: {q_BLHD.shape[2]} heads do not divide among {ranks} ranks; use the ring")
    if not q_BLHD.shape == k_BLHD.shape == v_BLHD.shape:
        raise ValueError("context parallel: q, k, v differ in shape")
    exchange = _Exchange(group, agreed(lengths, q_BLHD.shape[1], group), parts)
    dim = q_BLHD.shape[-1]
    out: Any = _HeadsAttention.apply(*padded(q_BLHD, k_BLHD, v_BLHD), exchange, dim**-0.5)
    return out[..., :dim]


@dataclass(frozen=True, slots=True)
class _Moving:
    """An exchange under way. The tensor that leaves is held until it has."""

    arriving: Tensor
    leaving: Tensor
    work: Any

    def wait(self) -> Tensor:
        self.work.wait()
        return self.arriving


@dataclass(frozen=True, slots=True)
class _Exchange:
    """Who holds how many tokens. In shapes: P ranks, T tokens of all, L of this one, N tensors, h heads of a part."""

    group: dist.ProcessGroup
    lengths: tuple[int, ...]
    parts: int

    @property
    def ranks(self) -> int:
        return len(self.lengths)

    @property
    def own(self) -> int:
        return self.lengths[dist.get_rank(self.group)]

    def slices(self, heads: int) -> list[slice]:
        """The parts of every rank's share of the heads."""
        share = heads // self.ranks
        ends = list(accumulate(even_lengths(share, min(self.parts, share))))
        return [slice(start, end) for start, end in zip([0, *ends], ends, strict=False)]

    def by_rank(self, x_BLHD: Tensor) -> Tensor:
        """(B, L, P, heads of a rank, D), a view."""
        return x_BLHD.unflatten(2, (self.ranks, -1))

    def gather(self, tensors_BLHD: Sequence[Tensor], part: slice) -> _Moving:
        """Start sending a part of each rank's heads there; all tokens of this rank's arrive: (T, N, B, h, D)."""
        ours = [self.by_rank(x)[:, :, :, part].permute(2, 1, 0, 3, 4) for x in tensors_BLHD]
        leaving_SNBhD = torch.stack(ours, 2).flatten(0, 1)
        arriving = leaving_SNBhD.new_empty(sum(self.lengths), *leaving_SNBhD.shape[1:])
        return self._start(arriving, leaving_SNBhD, self.lengths, (self.own,) * self.ranks)

    def scatter(self, x_TNBhD: Tensor) -> _Moving:
        """Start sending each rank's tokens home; those of this rank arrive from all: (P L, N, B, h, D)."""
        arriving = x_TNBhD.new_empty(self.ranks * self.own, *x_TNBhD.shape[1:])
        return self._start(arriving, x_TNBhD, (self.own,) * self.ranks, self.lengths)

    def put(self, moving: _Moving, into_BLHD: Sequence[Tensor], part: slice) -> None:
        """Wait for `scatter` and lay each of its N tensors into its heads."""
        arrived_PLNBhD = moving.wait().unflatten(0, (self.ranks, self.own))
        for x_PLBhD, into in zip(arrived_PLNBhD.unbind(2), into_BLHD, strict=True):
            self.by_rank(into)[:, :, :, part] = x_PLBhD.permute(2, 1, 0, 3, 4)

    def _start(self, arriving: Tensor, leaving: Tensor, rows_in: Sequence[int], rows_out: Sequence[int]) -> _Moving:
        sizes = {"output_split_sizes": list(rows_in), "input_split_sizes": list(rows_out)}
        work = dist.all_to_all_single(arriving, leaving, **sizes, group=self.group, async_op=True)
        return _Moving(arriving, leaving, work)


class _HeadsAttention(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, q: Tensor, k: Tensor, v: Tensor, exchange: _Exchange, scale: float) -> Tensor:
        parts = exchange.slices(q.shape[2])
        arriving = [exchange.gather((q, k, v), part) for part in parts]
        leaving, saved = list[_Moving](), list[Tensor]()
        for moving in arriving:
            qkv_TNBhD = moving.wait()
            out_TNBhD = qkv_TNBhD.new_empty(qkv_TNBhD.shape[0], 1, *qkv_TNBhD.shape[2:])
            q_BThD, k_BThD, v_BThD = _batch_first(qkv_TNBhD)
            _, lse_BhT = core.forward(q_BThD, k_BThD, v_BThD, scale, out=_batch_first(out_TNBhD)[0])
            leaving.append(exchange.scatter(out_TNBhD))
            saved += (qkv_TNBhD, out_TNBhD, lse_BhT)
        out_BLHD = torch.empty(q.shape, dtype=q.dtype, device=q.device)
        for part, moving in zip(parts, leaving, strict=True):
            exchange.put(moving, (out_BLHD,), part)
        ctx.save_for_backward(*saved)
        ctx.exchange, ctx.scale = exchange, scale
        return out_BLHD

    @staticmethod
    def backward(ctx: Any, dout: Tensor) -> tuple[Tensor | None, ...]:
        exchange, scale = ctx.exchange, ctx.scale
        parts = exchange.slices(dout.shape[2])
        arriving = [exchange.gather((dout,), part) for part in parts]
        leaving, saved = list[_Moving](), ctx.saved_tensors  # once: of a recomputed block they are there once
        for index, moving in enumerate(arriving):
            qkv_TNBhD, out_TNBhD, lse_BhT = saved[3 * index : 3 * index + 3]
            (dout_BThD,), (out_BThD,) = _batch_first(moving.wait()), _batch_first(out_TNBhD)
            d_qkv_TNBhD = torch.empty_like(qkv_TNBhD)
            dq, dk, dv = _batch_first(d_qkv_TNBhD)
            q_BThD, k_BThD, v_BThD = _batch_first(qkv_TNBhD)
            given = (q_BThD, k_BThD, v_BThD, dout_BThD, lse_BhT, core.delta(out_BThD, dout_BThD), scale)
            core.backward_kv(*given, dk, dv)
            core.backward_q(*given, dq)
            leaving.append(exchange.scatter(d_qkv_TNBhD))
        gradients = [torch.empty(dout.shape, dtype=dout.dtype, device=dout.device) for _ in range(3)]
        for part, moving in zip(parts, leaving, strict=True):
            exchange.put(moving, gradients, part)
        return (*gradients, None, None)


def _batch_first(x_TNBhD: Tensor) -> list[Tensor]:
    """N views (B, T, h, D)."""
    return [x_TBhD.transpose(0, 1) for x_TBhD in x_TNBhD.unbind(1)]
