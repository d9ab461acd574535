"""The MMDiT's blocks in plain torch, what `bench.models` compares ours with: nothing of `training.ops` in them.

They take over our blocks' weights, so that both compute the same numbers, and are written as they most often are: heads
before tokens, one library call for each norm, the rotation as x cos + rotate_half(x) sin. Shapes as in our blocks.
"""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from training.models.mmdit import MMDiT
from training.models.mmdit.blocks import EPS, DoubleBlock, QKNorm, SingleBlock, StreamAttention


class PlainDouble(nn.Module):
    """A double block's weights."""

    def __init__(self, block: DoubleBlock) -> None:
        super().__init__()
        self.block = block

    def forward(self, img: Tensor, txt: Tensor, vec: Tensor, cos: Tensor, sin: Tensor) -> tuple[Tensor, Tensor]:
        block, words = self.block, txt.shape[1]
        img_mod = block.img_mod.lin(functional.silu(vec))[:, None].chunk(6, -1)
        txt_mod = block.txt_mod.lin(functional.silu(vec))[:, None].chunk(6, -1)
        txt_heads = _heads(block.txt_attn, _modulated(txt, *txt_mod[:2]), cos[:words], sin[:words])
        img_heads = _heads(block.img_attn, _modulated(img, *img_mod[:2]), cos[words:], sin[words:])
        q, k, v = (torch.cat(pair, 2) for pair in zip(txt_heads, img_heads, strict=True))
        mixed = functional.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)
        txt = txt + txt_mod[2] * block.txt_attn.proj(mixed[:, :words])
        img = img + img_mod[2] * block.img_attn.proj(mixed[:, words:])
        txt = txt + txt_mod[5] * _mlp(block.txt_mlp, _modulated(txt, *txt_mod[3:5]))
        img = img + img_mod[5] * _mlp(block.img_mlp, _modulated(img, *img_mod[3:5]))
        return img, txt


class PlainSingle(nn.Module):
    """A single block's weights."""

    def __init__(self, block: SingleBlock) -> None:
        super().__init__()
        self.block = block

    def forward(self, x: Tensor, vec: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        block = self.block
        shift, scale, gate = block.modulation.lin(functional.silu(vec))[:, None].chunk(3, -1)
        normed = _modulated(x, shift, scale)
        v, mlp = block.v_mlp(normed).split(block.sizes[2:], -1)
        q, k, v = (_split(part, block.head_dim) for part in (block.q_proj(normed), block.k_proj(normed), v))
        q, k = _turned(block.norm, q, k, cos, sin)
        attended = functional.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)
        return x + gate * block.linear2(torch.cat((attended, functional.gelu(mlp, approximate="tanh")), -1))


def make_plain(model: MMDiT) -> MMDiT:
    """The model with its blocks replaced by plain ones; its layout must be the default one."""
    assert not model.config.fused_qkv and not model.config.interleaved_rope, "written for opensora_v2's layout"
    model.double_blocks = nn.ModuleList(PlainDouble(cast(DoubleBlock, block)) for block in model.double_blocks)
    model.single_blocks = nn.ModuleList(PlainSingle(cast(SingleBlock, block)) for block in model.single_blocks)
    return model


def _modulated(x: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
    return (1 + scale) * functional.layer_norm(x, x.shape[-1:], eps=EPS) + shift


def _heads(attention: StreamAttention, x: Tensor, cos: Tensor, sin: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    projected = (attention.q_proj(x), attention.k_proj(x), attention.v_proj(x))
    q, k, v = (_split(part, attention.head_dim) for part in projected)
    return (*_turned(attention.norm, q, k, cos, sin), v)


def _split(x: Tensor, head_dim: int) -> Tensor:
    return x.unflatten(-1, (-1, head_dim)).transpose(1, 2)


def _turned(norm: QKNorm, q: Tensor, k: Tensor, cos: Tensor, sin: Tensor) -> tuple[Tensor, Tensor]:
    q = functional.rms_norm(q, q.shape[-1:], norm.query_norm.scale, EPS)
    k = functional.rms_norm(k, k.shape[-1:], norm.key_norm.scale, EPS)
    return _rotated(q, cos, sin), _rotated(k, cos, sin)


def _rotated(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    first, second = x.chunk(2, -1)
    half = torch.cat((-second, first), -1)
    return (x.float() * torch.cat((cos, cos), -1) + half.float() * torch.cat((sin, sin), -1)).to(x.dtype)


def _mlp(mlp: nn.Sequential, x: Tensor) -> Tensor:
    return mlp[2](functional.gelu(mlp[0](x), approximate="tanh"))
