"""Tensor parallelism of convolutions: consecutive ranks have the same clip and share the channels of a network's widest
layers, so that each holds a part of what a backward pass needs of them (the report, section 6.1; Megatron-LM's pair of
layers, Shoeybi et al. 2019).

    x whole -> [entered] -> first layer, own output channels -> own channels -> second layer, own input channels
            -> [summed] over the group -> y whole

Weights stay whole on every rank, or are the engine's to share: it knows nothing of this, and averages gradients over
all ranks as ever. Of N ranks that have a clip, one gives a gradient for a channel's weights and the others zeros: so it
gives N times its own (`part`). What lies outside of such pairs all N compute alike.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, cast

import torch
import torch.distributed as dist
from torch import Tensor
from torch.autograd import Function

from curation.errors import UserError
from kernels.context_parallel import even_lengths
from training.parallel.base import Engine
from training.parallel.context import Context, group_of


@dataclass(frozen=True, slots=True)
class Channels(Context):
    """A `Context` whose ranks compute the same sample and not parts of its tokens."""

    @property
    def draws(self) -> int:
        return 0

    def own(self, count: int) -> range:
        """Which of so many channels, or heads, are this rank's."""
        lengths = even_lengths(count, self.ranks)
        start = sum(lengths[: self.rank])
        return range(start, start + lengths[self.rank])

    def entered(self, x: Tensor) -> Tensor:
        """`x`, that every rank has whole and computes its own channels of. Its gradient is the sum of theirs."""
        return cast(Tensor, _Entered.apply(x, self))

    def summed(self, y: Tensor) -> Tensor:
        """The sum over ranks of what their own input channels gave, in float32 whatever the type."""
        return cast(Tensor, _Summed.apply(y, self))

    def part(self, weight: Tensor, index: Tensor, dim: int = 0) -> Tensor:
        """These channels of a weight or a bias."""
        return cast(Tensor, _Part.apply(weight, index, dim, self.ranks))


def channels_of(engine: Engine, ranks: int) -> Channels | None:
    """The group of `ranks` of an engine's that this one is in; None of 1. UserError: one process, or no multiple."""
    if ranks == 1:
        return None
    if engine.group is None:
        raise UserError(
            f"{ranks} ranks are to share a clip's channels, engine {engine.name} is one process",
            "start several with torchrun or --workers, or --set parallel.channels=1 where a GPU holds a whole clip",
        )
    if engine.ranks % ranks:
        raise UserError(
            f"{engine.ranks} ranks are no whole number of groups of {ranks} that share a clip's channels",
            f"start a multiple of {ranks} processes, or change parallel.channels",
        )
    return Channels(engine.rank % ranks, ranks, "ring", group_of(engine, ranks))


def _sum(x: Tensor, channels: Channels) -> Tensor:
    exact = x.to(torch.float32, copy=True).contiguous()
    dist.all_reduce(exact, group=channels.group)
    return exact.to(x.dtype)


class _Entered(Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, channels: Channels) -> Tensor:
        ctx.channels = channels
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        return _sum(grads[0], ctx.channels), None


class _Summed(Function):
    @staticmethod
    def forward(ctx: Any, y: Tensor, channels: Channels) -> Tensor:
        return _sum(y, channels)

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        return grads[0], None


class _Part(Function):
    @staticmethod
    def forward(ctx: Any, weight: Tensor, index: Tensor, dim: int, ranks: int) -> Tensor:
        ctx.shape, ctx.dim, ctx.ranks = weight.shape, dim, ranks
        ctx.save_for_backward(index)
        return weight.index_select(dim, index)

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        (index,) = ctx.saved_tensors
        whole = grads[0].new_zeros(ctx.shape)
        whole.index_copy_(ctx.dim, index, grads[0] * ctx.ranks)
        return whole, None, None, None
