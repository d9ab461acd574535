"""The 3D PatchGAN discriminator of the autoencoder's second training phase (spec section 1.5).

It says of every patch of a video whether it is real: 8x8x8 logits for 32 frames of 256x256. `losses` turns them
into losses. Parameter names are those of the public code.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from torch import Tensor, nn


@dataclass(frozen=True, slots=True)
class DiscriminatorConfig:
    """`layers` convolutions of stride 2 in space, `timed` of them in time too, the first included.

    `norm`: the public code's "batch" is fragile with one clip a device; "group" depends on no other sample.
    """

    channels: int = 64
    layers: int = 5
    timed: int = 2
    dropout: float = 0.3
    norm: Literal["batch", "group"] = "batch"


class PatchDiscriminator(nn.Module):
    """(B, 3, T, H, W) -> logits (B, 1, T/4, H/32, W/32), rounded up. High for real."""

    def __init__(self, config: DiscriminatorConfig | None = None) -> None:
        super().__init__()
        config = config or DiscriminatorConfig()
        width = config.channels
        ops: list[nn.Module] = [nn.Conv3d(3, width, 3, (2, 2, 2), 1), nn.LeakyReLU(0.2)]
        for layer in range(1, config.layers + 1):
            wider = config.channels * min(2**layer, 8)
            stride = 1 if layer == config.layers else (2 if layer < config.timed else 1, 2, 2)
            ops += [
                nn.Conv3d(width, wider, 3, stride, 1, bias=False),
                _norm(config.norm, wider),
                nn.LeakyReLU(0.2),
                nn.Dropout(config.dropout),
            ]
            width = wider
        self.main = nn.Sequential(*ops, nn.Conv3d(width, 1, 3, 1, 1))
        self.apply(_init)

    def forward(self, video_B3THW: Tensor) -> Tensor:
        return self.main(video_B3THW)


def _norm(kind: Literal["batch", "group"], channels: int) -> nn.Module:
    return nn.BatchNorm3d(channels) if kind == "batch" else nn.GroupNorm(min(32, channels), channels)


def _init(module: nn.Module) -> None:
    """Kernels N(0, 0.02), norm weights N(1, 0.02) with bias 0."""
    if isinstance(module, nn.Conv3d):
        nn.init.normal_(module.weight, 0.0, 0.02)
    elif isinstance(module, nn.BatchNorm3d | nn.GroupNorm):
        nn.init.normal_(module.weight, 1.0, 0.02)
        nn.init.zeros_(module.bias)
