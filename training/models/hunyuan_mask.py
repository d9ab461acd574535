"""The middle block of the HunyuanVideo autoencoder, whose attention looks at its own and earlier frames only.

diffusers' block makes a dense (T H W)^2 mask: 2.3 GB in bf16 for 129 frames of 256 x 256, and more again for the
scores it masks. Here one frame's queries at a time see the keys up to that frame's end. No mask is left to apply, so
fused kernels run, and half of the products are never formed. Parameters and their names stay as they were.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional


def frame_causal_attention(q_BHLD: Tensor, k_BHLD: Tensor, v_BHLD: Tensor, frames: int) -> Tensor:
    """Attention in which a position sees every position of its own and of earlier frames; scale 1/sqrt(D).

    L = frames * positions, time outermost. Equal to a mask that is 1 there (golden README, `mask_3frames_2positions`).
    """
    size = q_BHLD.shape[2] // frames
    assert size * frames == q_BHLD.shape[2], "every frame has as many positions"
    seen = [
        functional.scaled_dot_product_attention(q, k_BHLD[:, :, : (t + 1) * size], v_BHLD[:, :, : (t + 1) * size])
        for t, q in enumerate(q_BHLD.split(size, dim=2))
    ]
    return torch.cat(seen, dim=2)


class FrameCausalMid(nn.Module):
    """Takes the place, and the layers, of a diffusers `HunyuanVideoMidBlock3D`."""

    def __init__(self, block: Any) -> None:
        super().__init__()
        self.attentions, self.resnets = block.attentions, block.resnets
        assert all(layer.heads == 1 for layer in self.attentions), "the public network has one head"

    def forward(self, x_BCTHW: Tensor) -> Tensor:
        x_BCTHW = self.resnets[0](x_BCTHW)
        for attention, resnet in zip(self.attentions, list(self.resnets)[1:], strict=True):
            x_BCTHW = resnet(x_BCTHW + self._attend(attention, x_BCTHW))
        return x_BCTHW

    @staticmethod
    def _attend(layer: Any, x_BCTHW: Tensor) -> Tensor:
        x_BLC = layer.group_norm(x_BCTHW.flatten(2)).transpose(1, 2)
        q, k, v = (project(x_BLC).unsqueeze(1) for project in (layer.to_q, layer.to_k, layer.to_v))
        out_BLC = frame_causal_attention(q, k, v, x_BCTHW.shape[2]).squeeze(1)
        return layer.to_out[0](out_BLC).transpose(1, 2).reshape(x_BCTHW.shape)
