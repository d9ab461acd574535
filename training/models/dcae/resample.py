"""Changing resolution with a shortcut that has no weights (spec section 1.3): how a deep autoencoder stays trainable.

The shortcut moves space and time into channels, or back, and averages or repeats channels to reach the wanted width;
the convolution learns the rest. A still image (T = 1) has no time to halve or double.
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

from training.models.dcae.blocks import ConvLayer, OpList


def space_to_channel(x_BCTHW: Tensor, out_channels: int, time: int) -> Tensor:
    """(B, C, T, H, W) -> (B, out, T/time, H/2, W/2): offsets (t, h, w) behind their channel, then means of runs."""
    b, c, t, h, w = x_BCTHW.shape
    x = x_BCTHW.reshape(b, c, t // time, time, h // 2, 2, w // 2, 2).permute(0, 1, 3, 5, 7, 2, 4, 6)
    return x.reshape(b, out_channels, -1, t // time, h // 2, w // 2).mean(2)


def channel_to_space(x_BCTHW: Tensor, out_channels: int, time: int) -> Tensor:
    """(B, C, T, H, W) -> (B, out, T * time, 2H, 2W): channels repeated, then offsets (t, h, w) taken out of them."""
    b, _, t, h, w = x_BCTHW.shape
    x = repeat_channels(x_BCTHW, out_channels * time * 4).reshape(b, out_channels, time, 2, 2, t, h, w)
    return x.permute(0, 1, 5, 2, 6, 3, 7, 4).reshape(b, out_channels, t * time, h * 2, w * 2)


def repeat_channels(x_BCTHW: Tensor, out_channels: int) -> Tensor:
    """Every channel repeated in place, out / C times."""
    b, c, *sizes = x_BCTHW.shape
    return x_BCTHW[:, :, None].expand(b, c, out_channels // c, *sizes).reshape(b, out_channels, *sizes)


def mean_channels(x_BCTHW: Tensor, out_channels: int) -> Tensor:
    """Means of C / out neighbouring channels."""
    return x_BCTHW.unflatten(1, (out_channels, -1)).mean(2)


class Down(nn.Module):
    """Half the height and width, and half the frames where `time` is 2."""

    def __init__(self, in_channels: int, out_channels: int, time: int) -> None:
        super().__init__()
        self.out_channels, self.time = out_channels, time
        self.main = ConvLayer(in_channels, out_channels, 3, stride=(time, 2, 2))

    def forward(self, x_BCTHW: Tensor) -> Tensor:
        time = self.time if x_BCTHW.shape[2] > 1 else 1
        return self.main(x_BCTHW) + space_to_channel(x_BCTHW, self.out_channels, time)


class Up(nn.Module):
    """Twice the height and width, and twice the frames where `time` is 2: nearest neighbour and a convolution."""

    def __init__(self, in_channels: int, out_channels: int, time: int) -> None:
        super().__init__()
        self.out_channels, self.time = out_channels, time
        self.main = nn.ModuleDict({"conv": ConvLayer(in_channels, out_channels, 3)})

    def forward(self, x_BCTHW: Tensor) -> Tensor:
        time = self.time if x_BCTHW.shape[2] > 1 else 1
        larger = F.interpolate(x_BCTHW, scale_factor=(time, 2, 2), mode="nearest")
        return self.main["conv"](larger) + channel_to_space(x_BCTHW, self.out_channels, time)


class ToLatent(nn.Module):
    """The encoder's end: a convolution plus the mean of channel runs; no norm, no activation before it."""

    def __init__(self, in_channels: int, latent_channels: int) -> None:
        super().__init__()
        self.latent_channels = latent_channels
        self.main = OpList(ConvLayer(in_channels, latent_channels, 3))

    def forward(self, x_BCTHW: Tensor) -> Tensor:
        return self.main(x_BCTHW) + mean_channels(x_BCTHW, self.latent_channels)


class FromLatent(nn.Module):
    """The decoder's start: a convolution plus repeated channels."""

    def __init__(self, latent_channels: int, out_channels: int) -> None:
        super().__init__()
        self.out_channels = out_channels
        self.main = ConvLayer(latent_channels, out_channels, 3)

    def forward(self, x_BCTHW: Tensor) -> Tensor:
        return self.main(x_BCTHW) + repeat_channels(x_BCTHW, self.out_channels)
