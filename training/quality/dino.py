"""DINO ViT-B/16: the features of subject_consistency. The parameter names are those of the published weights.

A frame keeps its ratio, so the grid of patches is rarely the square that the positions were learnt on; they are
interpolated as the authors do it. That rule is why the network stands here: library versions resample otherwise.
"""

from __future__ import annotations

from collections import OrderedDict
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from training.quality import weights
from training.quality.frames import in_batches, resize_short, standardise

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
SIDE = 224


class Dino:
    """`consistency.Embed`: the class token of each frame, its shorter side resized to 224."""

    def __init__(self, path: Path | None, device: str = "cpu", batch: int = 16) -> None:
        with torch.device("meta"):
            network = VisionTransformer()
        found = weights.tensors(path, weights.DINO)
        self._network = weights.fill(network.to_empty(device="cpu"), found, path, weights.DINO).to(device)
        self._device, self._batch = device, batch

    def __call__(self, frames_N3HW: Tensor) -> Tensor:
        return in_batches(self._features, frames_N3HW, batch=self._batch)

    def _features(self, frames_N3HW: Tensor) -> Tensor:
        return self._network(dino_pixels(frames_N3HW.to(self._device)))


def dino_pixels(frames_N3HW: Tensor) -> Tensor:
    """What the network sees of frames in 0..1: the whole frame, 224 on the shorter side, in ImageNet's statistics."""
    return standardise(resize_short(frames_N3HW, SIDE, "bilinear"), MEAN, STD)


class VisionTransformer(nn.Module):
    """(N, 3, H, W) to the class token's features (N, width); H and W of any size from `patch` on."""

    def __init__(
        self, width: int = 768, depth: int = 12, heads: int = 12, patch: int = 16, grid: int = SIDE // 16
    ) -> None:
        super().__init__()
        self.grid = grid
        self.cls_token = nn.Parameter(torch.zeros(1, 1, width))
        self.pos_embed = nn.Parameter(torch.zeros(1, 1 + grid**2, width))
        self.patch_embed = nn.Sequential(OrderedDict(proj=nn.Conv2d(3, width, patch, stride=patch)))
        self.blocks = nn.Sequential(*(_Block(width, heads) for _ in range(depth)))
        self.norm = nn.LayerNorm(width, eps=1e-6)

    def forward(self, x_N3HW: Tensor) -> Tensor:
        patches_NDhw = self.patch_embed(x_N3HW)
        n, _, h, w = patches_NDhw.shape
        x_NLD = torch.cat([self.cls_token.expand(n, -1, -1), patches_NDhw.flatten(2).mT], 1)
        return self.norm(self.blocks(x_NLD + self._positions(h, w)))[:, 0]

    def _positions(self, h: int, w: int) -> Tensor:
        """Positions of an h x w grid, bicubic; the authors add 0.1 to the sides, which shifts the samples a little."""
        if (h, w) == (self.grid, self.grid):
            return self.pos_embed
        square_1Dhw = self.pos_embed[:, 1:].mT.unflatten(2, (self.grid, self.grid))
        scale = ((h + 0.1) / self.grid, (w + 0.1) / self.grid)
        stretched = F.interpolate(square_1Dhw, scale_factor=scale, mode="bicubic")
        return torch.cat([self.pos_embed[:, :1], stretched.flatten(2).mT], 1)


class _Block(nn.Module):
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width, eps=1e-6)
        self.attn = _Attention(width, heads)
        self.norm2 = nn.LayerNorm(width, eps=1e-6)
        layers = {"fc1": nn.Linear(width, 4 * width), "act": nn.GELU(), "fc2": nn.Linear(4 * width, width)}
        self.mlp = nn.Sequential(OrderedDict(layers))

    def forward(self, x_NLD: Tensor) -> Tensor:
        x_NLD = x_NLD + self.attn(self.norm1(x_NLD))
        return x_NLD + self.mlp(self.norm2(x_NLD))


class _Attention(nn.Module):
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)

    def forward(self, x_NLD: Tensor) -> Tensor:
        q, k, v = self.qkv(x_NLD).unflatten(2, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        return self.proj(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))
