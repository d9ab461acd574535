"""The blocks of the Video DC-AE (spec section 1.2). Attribute names are those of the public checkpoint.

Convolutions pad with zeros on every side, time included: nothing here is causal. Every branch ends in a norm whose
weight starts near zero, so that a new block is nearly the identity.
"""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from training.models.dcae.config import BlockKind
from training.ops import relu_linear_attention

HEAD_DIM = 32


class ChannelRmsNorm(nn.Module):
    """RMS norm over channels with weight and bias, computed in float32."""

    def __init__(self, channels: int, eps: float = 1e-5) -> None:
        super().__init__()
        self.eps = eps
        self.weight = nn.Parameter(torch.empty(channels))
        self.bias = nn.Parameter(torch.empty(channels))

    def forward(self, x_BCTHW: Tensor) -> Tensor:
        x = x_BCTHW.float()
        weight, bias = (p.float().view(-1, 1, 1, 1) for p in (self.weight, self.bias))
        return (x * torch.rsqrt(x.square().mean(1, keepdim=True) + self.eps) * weight + bias).to(x_BCTHW.dtype)


class ConvLayer(nn.Module):
    """A convolution that keeps the size at stride 1, then a norm and SiLU where asked for."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel: int,
        *,
        stride: tuple[int, int, int] = (1, 1, 1),
        groups: int = 1,
        bias: bool = True,
        norm: bool = False,
        silu: bool = False,
    ) -> None:
        super().__init__()
        self.conv = nn.Conv3d(in_channels, out_channels, kernel, stride, kernel // 2, groups=groups, bias=bias)
        self.norm = ChannelRmsNorm(out_channels) if norm else None
        self.silu = silu

    def forward(self, x_BCTHW: Tensor) -> Tensor:
        x = self.conv(x_BCTHW)
        x = x if self.norm is None else self.norm(x)
        return F.silu(x) if self.silu else x


class OpList(nn.Module):
    """Modules one after another, under the checkpoint's name `op_list`."""

    def __init__(self, *ops: nn.Module) -> None:
        super().__init__()
        self.op_list = nn.Sequential(*ops)

    def forward(self, x: Tensor) -> Tensor:
        return self.op_list(x)


class Block(nn.Module):
    """What a stage is made of. `recomputed`: only its input is kept for the backward pass, which runs it again."""

    recomputed = False

    def forward(self, x_BCTHW: Tensor) -> Tensor:
        if self.recomputed and torch.is_grad_enabled():
            # Nothing in a block draws, so there is no state of a generator to keep.
            return cast(Tensor, checkpoint(self.body, x_BCTHW, use_reentrant=False, preserve_rng_state=False))
        return self.body(x_BCTHW)

    def body(self, x_BCTHW: Tensor) -> Tensor:
        raise NotImplementedError


class Residual(Block):
    """x + main(x)."""

    def __init__(self, main: nn.Module) -> None:
        super().__init__()
        self.main = main

    def body(self, x_BCTHW: Tensor) -> Tensor:
        return x_BCTHW + self.main(x_BCTHW)


class ResBranch(nn.Module):
    """Two 3x3x3 convolutions."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = ConvLayer(channels, channels, 3, silu=True)
        self.conv2 = ConvLayer(channels, channels, 3, bias=False, norm=True)

    def forward(self, x_BCTHW: Tensor) -> Tensor:
        return self.conv2(self.conv1(x_BCTHW))


class LiteMla(nn.Module):
    """ReLU linear attention over all T * H * W positions, at two scales: the second from a 5x5x5 neighbourhood."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        qkv = 3 * channels
        self.qkv = ConvLayer(channels, qkv, 1, bias=False)
        neighbourhood = nn.Conv3d(qkv, qkv, 5, padding=2, groups=qkv, bias=False)
        mix = nn.Conv3d(qkv, qkv, 1, groups=qkv // HEAD_DIM, bias=False)
        self.aggreg = nn.ModuleList([nn.Sequential(neighbourhood, mix)])
        self.proj = ConvLayer(2 * channels, channels, 1, bias=False, norm=True)

    def forward(self, x_BCTHW: Tensor) -> Tensor:
        fine = self.qkv(x_BCTHW)
        heads = torch.cat([fine, self.aggreg[0](fine)], 1)
        q_BHDN, k_BHDN, v_BHDN = heads.flatten(2).unflatten(1, (-1, 3, HEAD_DIM)).unbind(2)
        mixed = relu_linear_attention(q_BHDN, k_BHDN, v_BHDN)
        return self.proj(mixed.flatten(1, 2).unflatten(2, x_BCTHW.shape[2:]))


class GluMbConv(nn.Module):
    """Gated inverted bottleneck: widen 8 times, depthwise 3x3x3, one half gates the other, narrow."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        wide = 8 * channels
        self.inverted_conv = ConvLayer(channels, wide, 1, silu=True)
        self.depth_conv = ConvLayer(wide, wide, 3, groups=wide)
        self.point_conv = ConvLayer(wide // 2, channels, 1, bias=False, norm=True)

    def forward(self, x_BCTHW: Tensor) -> Tensor:
        value, gate = self.depth_conv(self.inverted_conv(x_BCTHW)).chunk(2, 1)
        return self.point_conv(value * F.silu(gate))


class VitBlock(Block):
    """EfficientViT block: linear attention looks far, the gated convolution near."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.context_module = Residual(LiteMla(channels))
        self.local_module = Residual(GluMbConv(channels))

    def body(self, x_BCTHW: Tensor) -> Tensor:
        return self.local_module(self.context_module(x_BCTHW))


def stage_blocks(kind: BlockKind, channels: int, depth: int) -> list[nn.Module]:
    """`depth` blocks of one kind."""
    if kind == "vit":
        return [VitBlock(channels) for _ in range(depth)]
    return [Residual(ResBranch(channels)) for _ in range(depth)]
