"""The two transformer blocks and the final layer, over `training.ops`, so that a kernel serves them all.

A double block keeps weights of its own for text and video and attends over both; a single block runs attention and
MLP side by side over the joint sequence, text first (report, figure 6; spec section 3). No block knows positions,
recomputation or parallelism: it gets tokens, the vector of time and text, and rotary tables.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from training import ops
from training.models.mmdit.config import MMDiTConfig
from training.models.mmdit.rope import Rope

EPS = 1e-6


class Modulation(nn.Module):
    """`parts` vectors (B, D) out of SiLU(vec): shift, scale, gate, and once more for a double block's MLP."""

    def __init__(self, hidden: int, parts: int) -> None:
        super().__init__()
        self.parts = parts
        self.lin = nn.Linear(hidden, parts * hidden)

    def forward(self, vec_BD: Tensor) -> tuple[Tensor, ...]:
        return self.lin(functional.silu(vec_BD)).chunk(self.parts, dim=-1)


class HeadScale(nn.Module):
    """The learned scale of a head's RMS norm; `ops.qk_norm_rope` applies it."""

    def __init__(self, head_dim: int) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(head_dim))


class QKNorm(nn.Module):
    """The scales of queries and keys."""

    def __init__(self, head_dim: int) -> None:
        super().__init__()
        self.query_norm = HeadScale(head_dim)
        self.key_norm = HeadScale(head_dim)

    def rotated(self, q_BLHD: Tensor, k_BLHD: Tensor, rope: Rope, interleaved: bool) -> tuple[Tensor, Tensor]:
        """Queries and keys, normed and rotated."""
        return ops.qk_norm_rope(
            q_BLHD, k_BLHD, self.query_norm.scale, self.key_norm.scale, rope[0], rope[1], interleaved, EPS
        )


class StreamAttention(nn.Module):
    """One stream's projections around the joint attention: to heads, and back to the stream's width."""

    def __init__(self, config: MMDiTConfig) -> None:
        super().__init__()
        hidden = config.hidden_size
        self.head_dim = config.head_dim
        self.fused = config.fused_qkv
        self.interleaved = config.interleaved_rope
        if self.fused:
            self.qkv = nn.Linear(hidden, 3 * hidden, bias=config.qkv_bias)
        else:
            self.q_proj = nn.Linear(hidden, hidden, bias=config.qkv_bias)
            self.k_proj = nn.Linear(hidden, hidden, bias=config.qkv_bias)
            self.v_proj = nn.Linear(hidden, hidden, bias=config.qkv_bias)
        self.norm = QKNorm(config.head_dim)
        self.proj = nn.Linear(hidden, hidden)

    def heads(self, x_BLD: Tensor, rope: Rope) -> tuple[Tensor, Tensor, Tensor]:
        """Queries and keys, normed and rotated, and values: (B, L, H, head_dim)."""
        if self.fused:
            parts = self.qkv(x_BLD).chunk(3, dim=-1)
        else:
            parts = (self.q_proj(x_BLD), self.k_proj(x_BLD), self.v_proj(x_BLD))
        q, k, v = (part.unflatten(-1, (-1, self.head_dim)) for part in parts)
        return (*self.norm.rotated(q, k, rope, self.interleaved), v)


class Mlp(nn.Sequential):
    """Linear, tanh GELU, Linear. The first bias is added inside `ops.bias_gelu_tanh`, in one pass with the GELU.

    Where something else stands in the place of the first layer (an adapter's), it adds its bias itself.
    """

    def __init__(self, hidden: int, inner: int) -> None:
        super().__init__(nn.Linear(hidden, inner), nn.GELU(approximate="tanh"), nn.Linear(inner, hidden))

    def forward(self, x_BLD: Tensor) -> Tensor:
        first = self[0]
        if isinstance(first, nn.Linear):  # only a plain layer's weight and bias may be used apart
            return self[2](ops.bias_gelu_tanh(functional.linear(x_BLD, first.weight), first.bias))
        return self[2](functional.gelu(first(x_BLD), approximate="tanh"))


class DoubleBlock(nn.Module):
    """Text and video, each with weights of its own, joined in one attention."""

    def __init__(self, config: MMDiTConfig) -> None:
        super().__init__()
        hidden = config.hidden_size
        self.img_mod = Modulation(hidden, 6)
        self.img_attn = StreamAttention(config)
        self.img_mlp = Mlp(hidden, config.mlp_size)
        self.txt_mod = Modulation(hidden, 6)
        self.txt_attn = StreamAttention(config)
        self.txt_mlp = Mlp(hidden, config.mlp_size)

    def forward(
        self, img_BLD: Tensor, txt_BMD: Tensor, vec_BD: Tensor, cos_SR: Tensor, sin_SR: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Both streams, video first; the tables cover text, then video (S = M + L)."""
        words = txt_BMD.shape[1]
        img_mod, txt_mod = self.img_mod(vec_BD), self.txt_mod(vec_BD)
        txt_normed = ops.layernorm_modulate(txt_BMD, txt_mod[1], txt_mod[0], EPS)
        img_normed = ops.layernorm_modulate(img_BLD, img_mod[1], img_mod[0], EPS)
        txt_heads = self.txt_attn.heads(txt_normed, (cos_SR[:words], sin_SR[:words]))
        img_heads = self.img_attn.heads(img_normed, (cos_SR[words:], sin_SR[words:]))
        q, k, v = (torch.cat(pair, dim=1) for pair in zip(txt_heads, img_heads, strict=True))
        mixed_BSD = ops.attention(q, k, v).flatten(2)
        txt_BMD = _finish(txt_BMD, self.txt_attn.proj(mixed_BSD[:, :words]), txt_mod, self.txt_mlp)
        img_BLD = _finish(img_BLD, self.img_attn.proj(mixed_BSD[:, words:]), img_mod, self.img_mlp)
        return img_BLD, txt_BMD


def _finish(x_BLD: Tensor, attended_BLD: Tensor, mod: tuple[Tensor, ...], mlp: nn.Module) -> Tensor:
    """The attention's residual, then the MLP's."""
    _, _, gate, mlp_shift, mlp_scale, mlp_gate = mod
    x_BLD, normed = ops.gate_residual_layernorm_modulate(x_BLD, attended_BLD, gate, mlp_scale, mlp_shift, EPS)
    return x_BLD + mlp_gate[:, None] * mlp(normed)


class SingleBlock(nn.Module):
    """Attention and MLP in parallel over the joint sequence."""

    def __init__(self, config: MMDiTConfig) -> None:
        super().__init__()
        hidden, mlp = config.hidden_size, config.mlp_size
        self.sizes = (hidden, hidden, hidden, mlp)
        self.head_dim = config.head_dim
        self.fused = config.fused_qkv
        self.interleaved = config.interleaved_rope
        if self.fused:
            self.linear1 = nn.Linear(hidden, 3 * hidden + mlp)
        else:
            self.q_proj = nn.Linear(hidden, hidden)
            self.k_proj = nn.Linear(hidden, hidden)
            self.v_mlp = nn.Linear(hidden, hidden + mlp)
        self.linear2 = nn.Linear(hidden + mlp, hidden)
        self.norm = QKNorm(config.head_dim)
        self.modulation = Modulation(hidden, 3)

    def forward(self, x_BSD: Tensor, vec_BD: Tensor, cos_SR: Tensor, sin_SR: Tensor) -> Tensor:
        shift, scale, gate = self.modulation(vec_BD)
        *qkv, mlp = self._project(ops.layernorm_modulate(x_BSD, scale, shift, EPS))
        q, k, v = (part.unflatten(-1, (-1, self.head_dim)) for part in qkv)
        q, k = self.norm.rotated(q, k, (cos_SR, sin_SR), self.interleaved)
        both = torch.cat((ops.attention(q, k, v).flatten(2), functional.gelu(mlp, approximate="tanh")), dim=-1)
        return x_BSD + gate[:, None] * self.linear2(both)

    def _project(self, x_BSD: Tensor) -> tuple[Tensor, ...]:
        """Query, key, value, MLP input: views into the projections, none of them copied."""
        if self.fused:
            return self.linear1(x_BSD).split(self.sizes, dim=-1)
        return self.q_proj(x_BSD), self.k_proj(x_BSD), *self.v_mlp(x_BSD).split(self.sizes[2:], dim=-1)


class FinalLayer(nn.Module):
    """Modulated norm and projection to token channels. The modulation gives shift, then scale."""

    def __init__(self, hidden: int, channels: int) -> None:
        super().__init__()
        self.linear = nn.Linear(hidden, channels)
        self.adaLN_modulation = nn.Sequential(nn.SiLU(), nn.Linear(hidden, 2 * hidden))

    def forward(self, x_BLD: Tensor, vec_BD: Tensor) -> Tensor:
        shift, scale = self.adaLN_modulation(vec_BD).chunk(2, dim=-1)
        return self.linear(ops.layernorm_modulate(x_BLD, scale, shift, EPS))
