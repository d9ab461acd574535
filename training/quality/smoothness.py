"""motion_smoothness: can the odd frames be foretold from the even ones? Smooth motion can.

Every second frame is left out, an interpolator draws it anew from its neighbours, and the mean absolute difference
counts (VBench, spec section 9). VBench's interpolator is AMT-S, a large network of which no library has a copy, so any
callable of the shape of `Interpolate` serves, and `Script` reads one from a TorchScript file. To make that file,
beside a checkout of github.com/MCG-NKU/AMT with `amt-s.pth` loaded into its `networks.AMT-S.Model`:

    half = torch.full((1, 1, 1, 1), 0.5)
    run = lambda a, b: model(a, b, half, scale_factor=1.0, eval=True)["imgt_pred"]
    torch.jit.trace(run, (frame, frame)).save("amt-s.ts")

`frame` (1, 3, H, W) in 0..1, sides multiples of 16: a trace keeps H and W, so one file serves one size of picture.
"""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor

from curation.errors import UserError
from training.quality import weights
from training.quality.frames import need_frames, pad_even, to_float


class Interpolate(Protocol):
    """The frames (N, 3, H, W) half-way between two, all in 0..1."""

    def __call__(self, frame0_N3HW: Tensor, frame1_N3HW: Tensor, /) -> Tensor: ...


def motion_smoothness(video_T3HW: Tensor, interpolate: Interpolate) -> float:
    """(255 - mean absolute difference) / 255, in 8-bit values as VBench compares them."""
    need_frames(video_T3HW, 3, "motion_smoothness")
    frames = to_float(video_T3HW)
    even = frames[::2]
    drawn = interpolate(even[:-1], even[1:])
    left_out = frames[1::2][: len(drawn)]
    # A stored video is rounded to 8 bits; VBench cuts the drawn frame off instead.
    difference = (left_out * 255).round() - (drawn.to(left_out) * 255).clamp(0, 255).floor()
    return 1 - difference.abs().mean().item() / 255


class Script:
    """`Interpolate` by a TorchScript file, one pair of frames at a time; sides are padded to multiples of 16."""

    def __init__(self, path: Path | None, device: str = "cpu") -> None:
        path = weights.need(path, weights.AMT)
        try:
            self._network = torch.jit.load(path, map_location=device).eval()
        except RuntimeError as error:
            raise UserError(f"{path} is no TorchScript file", weights.AMT.command) from error
        self._path, self._device = path, device

    def __call__(self, frame0_N3HW: Tensor, frame1_N3HW: Tensor) -> Tensor:
        pair = torch.stack([frame0_N3HW, frame1_N3HW]).to(self._device)
        padded, unpad = pad_even(pair.flatten(0, 1), 16)
        before, after = (x.split(1) for x in padded.chunk(2))
        try:
            with torch.inference_mode():
                drawn = torch.cat([self._network(a, b) for a, b in zip(before, after, strict=True)])
        except RuntimeError as error:
            size = "x".join(map(str, padded.shape[-2:]))
            raise UserError(f"{self._path} does not run on pictures of {size}", f"trace it for {size}") from error
        return unpad(drawn)
