"""VBench's six on tiny extractors whose answers are known, computed by hand (spec section 9)."""

from __future__ import annotations

import math
from typing import Literal

import pytest

pytest.importorskip("torch")

import torch
from torch import Tensor

from curation.errors import UserError
from training.quality.aesthetic import aesthetic_quality
from training.quality.consistency import consistency
from training.quality.dynamics import dynamic_degree
from training.quality.frames import centre_crop, pad_even, resize_short, to_float
from training.quality.imaging import imaging_quality, limit
from training.quality.smoothness import motion_smoothness


def levels(*values: float, side: int = 4) -> Tensor:
    """A video of grey frames of these levels, 0 to 255."""
    return torch.tensor(values, dtype=torch.uint8)[:, None, None, None].expand(-1, 3, side, side).contiguous()


def at_angle(frames_N3HW: Tensor) -> Tensor:
    """A grey frame of level d points to d degrees; twice as long as a unit vector, so that the norm matters."""
    degrees = frames_N3HW.mean((1, 2, 3)) * 255
    return 2 * torch.stack([torch.cos(torch.deg2rad(degrees)), torch.sin(torch.deg2rad(degrees))], 1)


def test_consistency_is_the_mean_of_both_cosines_with_none_below_zero() -> None:
    # 0 -> 60: cos 60 to both. 60 -> 180: cos 120 and cos 180, both below 0. 180 -> 120: cos 60, and cos 120 below 0.
    want = ((0.5 + 0.5) / 2 + 0 + (0.5 + 0) / 2) / 3
    assert consistency(levels(0, 60, 180, 120), at_angle) == pytest.approx(want, abs=1e-6)


def test_a_still_is_consistent() -> None:
    assert consistency(levels(70, 70, 70), at_angle) == pytest.approx(1, abs=1e-6)


def mean_of(frame0_N3HW: Tensor, frame1_N3HW: Tensor) -> Tensor:
    return (frame0_N3HW + frame1_N3HW) / 2


def test_smoothness_compares_the_odd_frames_with_what_the_even_ones_foretell() -> None:
    # Foretold: 20 for 26, and 60 for 56: off by 6 and 4. The last frame has no successor to foretell it from.
    want = (255 - (6 + 4) / 2) / 255
    assert motion_smoothness(levels(0, 26, 40, 56, 80, 200), mean_of) == pytest.approx(want, abs=1e-6)


def test_smoothness_cuts_the_foretold_frame_off_to_8_bits() -> None:
    assert motion_smoothness(levels(0, 13, 27), mean_of) == pytest.approx(1, abs=1e-6)  # 13.5 becomes 13


def flow_of(*speeds: float, share: float = 1.0):
    """A flow that gives pair i a motion of `speeds[i]` pixels, on the part `share` of the picture."""

    def flow(a_N3HW: Tensor, b_N3HW: Tensor) -> Tensor:
        n, _, h, w = a_N3HW.shape
        assert n == len(speeds) == len(b_N3HW)
        field = torch.zeros(n, 2, h * w)
        field[..., : round(h * w * share)] = torch.tensor(speeds)[:, None, None] * torch.tensor([0.6, -0.8])[:, None]
        return field.reshape(n, 2, h, w)

    return flow


def test_dynamic_when_a_quarter_of_the_frames_move_faster_than_the_threshold() -> None:
    video = levels(*range(8), side=128)  # threshold 6 * 128 / 256 = 3 pixels; round(8 / 4) = 2 pairs
    assert dynamic_degree(video, flow_of(3.1, 0, 0, 3.1, 0, 0, 0), fps=8) == 1
    assert dynamic_degree(video, flow_of(3.1, 0, 0, 2.9, 0, 0, 0), fps=8) == 0


def test_dynamic_looks_at_the_fastest_twentieth() -> None:
    video = levels(0, 0, 0, 0, side=20)  # threshold 0.47 pixels
    assert dynamic_degree(video, flow_of(0.5, 0, 0, share=0.05), fps=8) == 1
    assert dynamic_degree(video, flow_of(0.5, 0, 0, share=0.04), fps=8) == 0  # 0.5 * 0.8 = 0.4


def test_dynamic_thins_to_eight_frames_a_second() -> None:
    seen: list[list[int]] = []

    def flow(a_N3HW: Tensor, b_N3HW: Tensor) -> Tensor:
        seen.extend((x[:, 0, 0, 0] * 255).round().int().tolist() for x in (a_N3HW, b_N3HW))
        return torch.zeros(len(a_N3HW), 2, 4, 4)

    assert dynamic_degree(levels(*range(10)), flow, fps=24) == 0
    assert seen == [[0, 3, 6], [3, 6, 9]]


def test_two_still_frames_are_not_dynamic() -> None:
    assert dynamic_degree(levels(0, 0), flow_of(0), fps=8) == 0


def test_aesthetic_quality_is_the_mean_rating_of_unit_features_over_ten() -> None:
    head = torch.nn.Linear(2, 1)
    with torch.no_grad():
        head.weight.copy_(torch.tensor([[4.0, 2.0]]))
        head.bias.fill_(1.0)
        got = aesthetic_quality(levels(0, 90), at_angle, head)
    assert got == pytest.approx(((4 + 1) + (2 + 1)) / 2 / 10, abs=1e-6)


def test_imaging_quality_is_the_mean_rating_over_a_hundred() -> None:
    assert imaging_quality(levels(51, 204), lambda x: 100 * x.mean((1, 2, 3))) == pytest.approx(0.5, abs=1e-6)


def test_imaging_quality_sees_512_pixels_at_most() -> None:
    assert limit(torch.zeros(1, 3, 576, 1024)).shape[-2:] == (288, 512)
    assert limit(torch.zeros(1, 3, 700, 300)).shape[-2:] == (512, 219)  # 219.43 rounded down
    assert limit(torch.zeros(1, 3, 100, 512)).shape[-2:] == (100, 512)


SHORT = {
    "consistency": (1, lambda video: consistency(video, at_angle)),
    "motion_smoothness": (2, lambda video: motion_smoothness(video, mean_of)),
    "dynamic_degree": (3, lambda video: dynamic_degree(video, flow_of(), fps=24)),
    "aesthetic_quality": (0, lambda video: aesthetic_quality(video, at_angle, torch.nn.Linear(2, 1))),
    "imaging_quality": (0, lambda video: imaging_quality(video, lambda x: x)),
}


@pytest.mark.parametrize("metric", SHORT)
def test_a_video_that_is_too_short_is_refused(metric: str) -> None:
    frames, measure = SHORT[metric]
    with pytest.raises(UserError, match=f"{metric}.* needs .* longer video"):
        measure(levels(*range(frames)))


def test_a_video_that_is_not_finite_is_refused() -> None:
    video = torch.zeros(3, 3, 4, 4)
    video[1, 0, 0, 0] = math.nan
    with pytest.raises(UserError, match="not finite"):
        to_float(video)


def test_frames_as_bytes_and_as_floats_are_the_same() -> None:
    video = levels(0, 17, 255)
    assert torch.equal(to_float(video), to_float(video.double() / 255))


MODES: tuple[Literal["bilinear", "bicubic"], ...] = ("bilinear", "bicubic")


@pytest.mark.parametrize("size", [(90, 160), (160, 90), (64, 64)])
def test_resize_and_crop_as_torchvision(size: tuple[int, int]) -> None:
    transforms = pytest.importorskip("torchvision.transforms")
    frames = torch.rand(2, 3, *size)
    for mode in MODES:
        want = transforms.Resize(33, transforms.InterpolationMode(mode), antialias=False)(frames)
        torch.testing.assert_close(resize_short(frames, 33, mode), want)
        torch.testing.assert_close(centre_crop(resize_short(frames, 33, mode), 33), transforms.CenterCrop(33)(want))


def test_padding_is_even_and_comes_off() -> None:
    frames = torch.rand(1, 3, 13, 16)
    padded, unpad = pad_even(frames, 8)
    assert padded.shape[-2:] == (16, 16)
    assert torch.equal(padded[..., 0, :], frames[..., 0, :]) and torch.equal(padded[..., 14, :], frames[..., 12, :])
    assert torch.equal(padded[..., 1:14, :], frames) and torch.equal(unpad(padded), frames)
