"""Frames as the metrics take them: checked, as floats, resized, padded. Everything in this package begins here.

Letters in tensor names: N or T frames, H height, W width; a video is (T, 3, H, W), RGB, uint8 or float in 0..1.
Resizing is without antialiasing, as VBench's is (vbench/utils.py).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from curation.errors import UserError


def to_float(video_T3HW: Tensor) -> Tensor:
    """float32 in 0..1. UserError where a number is not finite, as after a sampling that diverged."""
    assert video_T3HW.ndim == 4 and video_T3HW.shape[1] == 3, f"not (T, 3, H, W): {tuple(video_T3HW.shape)}"
    if video_T3HW.dtype == torch.uint8:
        return video_T3HW.float() / 255
    frames = video_T3HW.float()
    if not torch.isfinite(frames).all():
        raise UserError("the video holds numbers that are not finite", "sample again with another seed or in float32")
    assert frames.min() >= 0 and frames.max() <= 1, "a float video lies in 0..1"
    return frames


def need_frames(video_T3HW: Tensor, least: int, metric: str) -> None:
    if len(video_T3HW) < least:
        raise UserError(f"{metric} needs {least} frames, the video has {len(video_T3HW)}", "score a longer video")


def resize_short(frames_N3HW: Tensor, side: int, mode: Literal["bilinear", "bicubic"]) -> Tensor:
    """The shorter side becomes `side`, the other keeps the ratio, rounded down."""
    h, w = frames_N3HW.shape[-2:]
    size = (side, side * w // h) if h <= w else (side * h // w, side)
    return F.interpolate(frames_N3HW, size, mode=mode, align_corners=False)


def centre_crop(frames_N3HW: Tensor, side: int) -> Tensor:
    h, w = frames_N3HW.shape[-2:]
    top, left = round((h - side) / 2), round((w - side) / 2)
    return frames_N3HW[..., top : top + side, left : left + side]


def standardise(frames_N3HW: Tensor, mean: tuple[float, ...], std: tuple[float, ...]) -> Tensor:
    """(x - mean) / std for each channel."""
    mean_311, std_311 = (torch.tensor(v, device=frames_N3HW.device).reshape(3, 1, 1) for v in (mean, std))
    return (frames_N3HW - mean_311) / std_311


def pad_even(frames_N3HW: Tensor, multiple: int) -> tuple[Tensor, Callable[[Tensor], Tensor]]:
    """Sides made multiples by repeating the edge on both sides alike, and the function that takes the edge off."""
    h, w = frames_N3HW.shape[-2:]
    more_h, more_w = -h % multiple, -w % multiple
    top, left = more_h // 2, more_w // 2
    padded = F.pad(frames_N3HW, (left, more_w - left, top, more_h - top), mode="replicate")
    return padded, lambda x: x[..., top : top + h, left : left + w]


def in_batches(function: Callable[..., Tensor], *frames: Tensor, batch: int) -> Tensor:
    """`function` of runs of `batch` frames at a time, without gradients; its results joined."""

    def runs() -> Iterator[Tensor]:
        for parts in zip(*(x.split(batch) for x in frames), strict=True):
            yield function(*parts)

    with torch.inference_mode():
        return torch.cat(list(runs()))
