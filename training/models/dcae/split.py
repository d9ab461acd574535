"""The Video DC-AE's wide layers with their channels shared among ranks (`parallel.channels`): the same function, the
same parameters under the same names, and what a backward pass needs of them in parts.

| block | shared | between |
|---|---|---|
| `ResBranch` | channels | two 3x3x3 convolutions |
| `LiteMla` | heads | queries, keys, values and attention, at both scales |
| `GluMbConv` | channels, of both halves alike | widening by 8 and narrowing |

Resampling, the ends and all norms are whole on every rank. Which channels are a rank's is no buffer: engines give all
ranks the first one's.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from curation.errors import UserError
from training.models.dcae.blocks import HEAD_DIM, ConvLayer, GluMbConv, LiteMla, ResBranch
from training.ops import relu_linear_attention
from training.parallel.channels import Channels


class SplitResBranch(nn.Module):
    """`ResBranch`."""

    def __init__(self, whole: ResBranch, channels: Channels) -> None:
        super().__init__()
        self.conv1, self.conv2, self._channels = whole.conv1, whole.conv2, channels
        self._own = _own(channels, whole.conv1.conv.out_channels)

    def forward(self, x_BCTHW: Tensor) -> Tensor:
        own = self._own = self._own.to(x_BCTHW.device)
        wide = F.silu(_first(self.conv1, self._channels.entered(x_BCTHW), own, self._channels))
        return _second(self.conv2, wide, own, self._channels)


class SplitMla(nn.Module):
    """`LiteMla`."""

    def __init__(self, whole: LiteMla, channels: Channels) -> None:
        super().__init__()
        self.qkv, self.aggreg, self.proj, self._channels = whole.qkv, whole.aggreg, whole.proj, channels
        width = whole.qkv.conv.in_channels
        heads = channels.own(width // HEAD_DIM)
        self._rows = _numbers(heads, 3 * HEAD_DIM)
        self._columns = torch.cat([_numbers(heads, HEAD_DIM), width + _numbers(heads, HEAD_DIM)])

    def forward(self, x_BCTHW: Tensor) -> Tensor:
        device, channels = x_BCTHW.device, self._channels
        rows, columns = self._rows, self._columns = self._rows.to(device), self._columns.to(device)
        fine = _first(self.qkv, channels.entered(x_BCTHW), rows, channels)
        near, mix = (channels.part(cast(nn.Conv3d, one).weight, rows) for one in self.aggreg[0].children())
        coarse = F.conv3d(fine, near, padding=2, groups=len(rows))
        coarse = F.conv3d(coarse, mix, groups=len(rows) // HEAD_DIM)
        heads = torch.cat([fine, coarse], 1)
        q_BHDN, k_BHDN, v_BHDN = heads.flatten(2).unflatten(1, (-1, 3, HEAD_DIM)).unbind(2)
        mixed = relu_linear_attention(q_BHDN, k_BHDN, v_BHDN)
        return _second(self.proj, mixed.flatten(1, 2).unflatten(2, x_BCTHW.shape[2:]), columns, channels)


class SplitGluMbConv(nn.Module):
    """`GluMbConv`."""

    def __init__(self, whole: GluMbConv, channels: Channels) -> None:
        super().__init__()
        self.inverted_conv, self.depth_conv, self.point_conv = whole.inverted_conv, whole.depth_conv, whole.point_conv
        self._channels = channels
        half = whole.point_conv.conv.in_channels
        self._own = _own(channels, half)
        self._both = torch.cat([self._own, half + self._own])

    def forward(self, x_BCTHW: Tensor) -> Tensor:
        device, channels = x_BCTHW.device, self._channels
        own, both = self._own, self._both = self._own.to(device), self._both.to(device)
        wide = F.silu(_first(self.inverted_conv, channels.entered(x_BCTHW), both, channels))
        depth = self.depth_conv.conv
        weight, bias = channels.part(depth.weight, both), channels.part(_bias(depth), both)
        value, gate = F.conv3d(wide, weight, bias, padding=1, groups=len(both)).chunk(2, 1)
        return _second(self.point_conv, value * F.silu(gate), own, channels)


@dataclass(frozen=True, slots=True)
class _Way:
    """`make`: the block with its channels shared; `parts`: into how many it can be cut."""

    make: Callable[[Any, Channels], nn.Module]
    parts: Callable[[Any], int]


_WAYS: Mapping[type[nn.Module], _Way] = {
    ResBranch: _Way(SplitResBranch, lambda block: block.conv1.conv.out_channels),
    LiteMla: _Way(SplitMla, lambda block: block.qkv.conv.in_channels // HEAD_DIM),
    GluMbConv: _Way(SplitGluMbConv, lambda block: block.point_conv.conv.in_channels),
}


def split(network: nn.Module, channels: Channels) -> int:
    """Let a network's blocks share their channels, in place; how many do. One that cannot be cut into so many parts
    (the heads of a narrow one) stays whole. UserError: all do.
    """
    found = 0
    for parent in list(network.modules()):
        for name, child in list(parent.named_children()):
            way = _WAYS.get(type(child))
            if way is not None and way.parts(child) >= channels.ranks:
                setattr(parent, name, way.make(child, channels))
                found += 1
    if not found:
        told = f"no block of the autoencoder has channels for {channels.ranks} ranks"
        raise UserError(told, "lower parallel.channels")
    return found


def _first(layer: ConvLayer, x_BCTHW: Tensor, own: Tensor, channels: Channels) -> Tensor:
    """A convolution's own output channels, before norm and activation."""
    conv = layer.conv
    bias = None if conv.bias is None else channels.part(conv.bias, own)
    return F.conv3d(x_BCTHW, channels.part(conv.weight, own), bias, padding=conv.padding)  # type: ignore[arg-type]


def _second(layer: ConvLayer, own_BCTHW: Tensor, own: Tensor, channels: Channels) -> Tensor:
    """A layer without bias on own input channels: the whole of what it gives."""
    assert layer.conv.bias is None and layer.norm is not None and not layer.silu
    weight = channels.part(layer.conv.weight, own, 1)
    return layer.norm(channels.summed(F.conv3d(own_BCTHW, weight, padding=layer.conv.padding)))  # type: ignore[arg-type]


def _own(channels: Channels, count: int) -> Tensor:
    return _numbers(channels.own(count), 1)


def _numbers(of: Iterable[int], each: int) -> Tensor:
    """The channels of some heads, `each` of them in a row."""
    return torch.tensor([one * each + inner for one in of for inner in range(each)])


def _bias(conv: nn.Conv3d) -> Tensor:
    assert conv.bias is not None
    return conv.bias
