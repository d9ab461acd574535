"""LPIPS with VGG16, version 0.1: distance of pictures as people see it. A metric here, a loss for the autoencoder.

The activations of five layers are scaled to unit length at every position; the squared differences are weighted
by learnt numbers for each channel, then averaged over positions (Zhang et al. 2018).
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn

from training.quality import weights
from training.quality.frames import standardise

STAGES = ((64, 2), (128, 2), (256, 3), (512, 3), (512, 3))
"""Channels and convolutions of VGG16's stages; a pooling stands between two stages, a tap at the end of each."""

MEAN, STD = (-0.030, -0.088, -0.188), (0.458, 0.448, 0.450)
"""ImageNet's statistics for pictures in -1..1, as LPIPS rounds them."""


class Lpips(nn.Module):
    """Distance (N,) of pictures (N, 3, H, W) in -1..1; gradients reach both. Sides of 16 pixels at least.

    `features` has torchvision's numbering. `linear`: a weight a channel, for each of the five taps.
    """

    def __init__(self, stages: tuple[tuple[int, int], ...] = STAGES) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        self.taps: list[int] = []
        before = 3
        for channels, convolutions in stages:
            if layers:
                layers.append(nn.MaxPool2d(2, 2))
            for _ in range(convolutions):
                layers += [nn.Conv2d(before, channels, 3, padding=1), nn.ReLU()]
                before = channels
            self.taps.append(len(layers) - 1)
        self.features = nn.Sequential(*layers)
        self.linear = nn.ParameterList(torch.zeros(channels) for channels, _ in stages)

    def forward(self, a_N3HW: Tensor, b_N3HW: Tensor) -> Tensor:
        x = standardise(torch.cat([a_N3HW, b_N3HW]), MEAN, STD)
        distance_N = x.new_zeros(len(a_N3HW))
        taps = iter(self.linear)
        for index, layer in enumerate(self.features):
            x = layer(x)
            if index in self.taps:
                a, b = (x / (x.square().sum(1, keepdim=True).sqrt() + 1e-10)).chunk(2)
                distance_N = distance_N + torch.einsum("nchw,c->nhw", (a - b).square(), next(taps)).mean((1, 2))
        return distance_N


def load_lpips(vgg16: Path | None, linear: Path | None, device: str = "cpu") -> Lpips:
    """From torchvision's VGG16 (its classifier is left aside) and the `lin0..4` of the lpips package's `vgg.pth`."""
    trunk = weights.tensors(vgg16, weights.VGG16)
    features = {k.removeprefix("features."): v for k, v in trunk.items() if k.startswith("features.")}
    heads = weights.tensors(linear, weights.LPIPS_LINEAR)
    linears = {k.removeprefix("lin").removesuffix(".model.1.weight"): v.flatten() for k, v in heads.items()}
    network = Lpips()
    weights.fill(network.features, features, vgg16, weights.VGG16)
    weights.fill(network.linear, linears, linear, weights.LPIPS_LINEAR)
    return network.eval().to(device)
