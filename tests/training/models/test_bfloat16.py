"""bfloat16 on a CPU: forward convolutions of the autoencoders are float32's within rounding, short axes included.

Gradients are not (docs/autoencoder.md), so training refuses it there; `encode` and `sample` compute forward alone.
"""

from __future__ import annotations

import itertools

import pytest

torch = pytest.importorskip("torch")

from torch import nn

from training.models.dcae import VideoDcAe, preset
from training.models.hunyuan import HunyuanVae

TIMES, SIDES = (1, 2, 3, 4, 9), ((1, 1), (2, 3), (8, 8))
MOST = 2e8
"""Multiplications of a case: all 24,514 take half an hour."""


def _kinds() -> list[tuple[object, ...]]:
    """The kinds of convolution in the released autoencoders and the tiny one."""
    with torch.device("meta"):
        networks = [VideoDcAe(preset("f32t4c128")), VideoDcAe(preset("tiny")), HunyuanVae()]
    found = {
        (one.in_channels, one.out_channels, one.kernel_size, one.stride, one.padding, one.groups, one.bias is not None)
        for network in networks
        for one in network.modules()
        if isinstance(one, nn.Conv3d)
    }
    return sorted(found, key=str)


def test_forward_convolutions_are_right() -> None:
    torch.manual_seed(0)
    cases = 0
    for channels, out, kernel, stride, padding, groups, bias in _kinds():
        exact = nn.Conv3d(channels, out, kernel, stride, padding, groups=groups, bias=bias)  # type: ignore[arg-type]
        rounded = nn.Conv3d(channels, out, kernel, stride, padding, groups=groups, bias=bias)  # type: ignore[arg-type]
        rounded.load_state_dict(exact.state_dict())
        rounded.to(torch.bfloat16)
        exact.load_state_dict({name: value.float() for name, value in rounded.state_dict().items()})
        for time, (height, width) in itertools.product(TIMES, SIDES):
            size = (time, height, width)
            if any(a + 2 * p < k for a, p, k in zip(size, padding, kernel, strict=True)):  # type: ignore[call-overload]
                continue
            if exact.weight.numel() * time * height * width > MOST:
                continue
            if channels == 3 and time == 1 and any(padding):  # type: ignore[arg-type]
                continue  # wrong on processors with AMX, and done without oneDNN: the next test
            x = torch.randn(1, channels, *size).to(torch.bfloat16)  # type: ignore[call-overload]
            with torch.no_grad():
                one, two = rounded(x).float(), exact(x.float())
            assert (one - two).norm() < 5e-3 * two.norm(), (channels, out, kernel, stride, groups, size)
            cases += 1
    assert cases > 100


@pytest.mark.parametrize("frames", [1, 4, 8, 12])
def test_a_clip_through_the_tiny_autoencoder_is_right(frames: int) -> None:
    """Against the same network in bfloat16 without oneDNN: nearer than bfloat16 is to float32."""
    torch.manual_seed(1)
    made = VideoDcAe(preset("tiny")).eval()
    for weight in made.parameters():
        torch.nn.init.normal_(weight, 0.0, 0.1)
    made.to(torch.bfloat16)
    video = torch.rand(1, 3, frames, 64, 64) * 2 - 1
    found = []
    for enabled in (True, False):
        with torch.backends.mkldnn.flags(enabled=enabled), torch.no_grad():
            latent = made.encode(video)
            found.append((latent, made.decode(latent, still=frames == 1).float()))
    with torch.no_grad():
        made.float()
        latent = made.encode(video)
        exact = latent, made.decode(latent, still=frames == 1)
    for one, two, three in zip(*found, exact, strict=True):
        rounding = (two - three).norm()
        assert rounding > 0 and (one - three).norm() < 2 * rounding
