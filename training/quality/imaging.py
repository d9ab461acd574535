"""imaging_quality: MUSIQ's rating of noise, blur and exposure, mean over all frames, a hundredth of its scale.

Definition: VBench, spec section 9, with its default of at most 512 pixels on the longer side. The network is
pyiqa's, trained on SPAQ. pyiqa's licence is for non-commercial use, so no extra of ours installs it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from torch import Tensor
from torch.nn import functional as F

from curation.errors import UserError
from training.quality import weights
from training.quality.frames import in_batches, need_frames, to_float

LONGEST = 512


class Rate(Protocol):
    """A rating, 0 to 100, of each of the frames (N, 3, H, W) in 0..1."""

    def __call__(self, frames_N3HW: Tensor, /) -> Tensor: ...


def imaging_quality(video_T3HW: Tensor, rate: Rate) -> float:
    """Mean rating / 100."""
    need_frames(video_T3HW, 1, "imaging_quality")
    return (rate(limit(to_float(video_T3HW))).float().mean() / 100).item()


def limit(frames_N3HW: Tensor, longest: int = LONGEST) -> Tensor:
    """Bilinear, down to `longest` on the longer side; smaller frames stay as they are."""
    h, w = frames_N3HW.shape[-2:]
    if max(h, w) <= longest:
        return frames_N3HW
    scale = longest / max(h, w)
    return F.interpolate(frames_N3HW, (int(scale * h), int(scale * w)), mode="bilinear", align_corners=False)


class Musiq:
    """`Rate` by MUSIQ."""

    def __init__(self, path: Path | None, device: str = "cpu", batch: int = 4) -> None:
        try:
            from pyiqa.archs.musiq_arch import MUSIQ
        except ImportError as error:
            raise UserError("the package pyiqa is not installed", "pip install pyiqa, mind its licence") from error
        # The package's own loader would run code that the file holds.
        found = weights.tensors(path, weights.MUSIQ)
        self._network = weights.fill(MUSIQ(pretrained=False), found, path, weights.MUSIQ).to(device)
        self._device, self._batch = device, batch

    def __call__(self, frames_N3HW: Tensor) -> Tensor:
        def rate(frames: Tensor) -> Tensor:
            return self._network(frames.to(self._device)).reshape(-1)

        return in_batches(rate, frames_N3HW, batch=self._batch)
