"""The teacher of the latent's distillation: DINOv2, or whatever gives a feature for each patch of a frame.

Spec section 1.7. DINOv2 comes of transformers, from a folder as the hub has it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.nn import functional as F

from curation.errors import UserError
from training.quality import weights
from training.quality.frames import standardise
from training.quality.weights import DINOV2_L14

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class Teacher(Protocol):
    """`width`: of a feature; `patch`: pixels that one stands for, along each side."""

    width: int
    patch: int

    def __call__(self, frames_N3HW: Tensor, /) -> Tensor:
        """Frames in 0..1 with sides of whole patches to features (N, width, H/patch, W/patch), without gradient."""
        ...


def features(teacher: Teacher, frames_N3HW: Tensor, size: tuple[int, int]) -> Tensor:
    """A feature for each position of a grid of `size`: (N, width, h, w). The frame is resized to that many patches."""
    sides = [teacher.patch * side for side in size]
    resized = F.interpolate(frames_N3HW, sides, mode="bilinear", align_corners=False, antialias=True)
    return teacher(resized.clamp(0, 1))


class Dinov2:
    """A `Teacher`: the last layer's patch tokens of the network in `folder`. UserError: no folder, or not DINOv2's."""

    def __init__(self, folder: Path | None, device: str = "cpu") -> None:
        self._network = _load(weights.need(folder, DINOV2_L14)).to(device)
        self.width, self.patch = self._network.config.hidden_size, self._network.config.patch_size

    def __call__(self, frames_N3HW: Tensor) -> Tensor:
        n, _, h, w = frames_N3HW.shape
        with torch.no_grad():
            states_NLD = self._network(standardise(frames_N3HW, MEAN, STD)).last_hidden_state[:, 1:]
        return states_NLD.mT.reshape(n, self.width, h // self.patch, w // self.patch)


def _load(folder: Path) -> Any:
    try:
        from transformers import Dinov2Model
    except ImportError as error:
        raise UserError("the package transformers is not installed", "pip install -e '.[train]'") from error
    try:
        loaded: Any = Dinov2Model.from_pretrained(folder, local_files_only=True, output_loading_info=True)
    except Exception as error:  # the library raises whatever the folder provokes
        raise UserError(f"{folder} is not DINOv2 ({type(error).__name__})", DINOV2_L14.command) from error
    network, report = loaded
    # The library fills a missing weight with random numbers and only warns.
    lacking = [*report["missing_keys"], *report["mismatched_keys"]]
    if lacking:
        raise UserError(f"{folder} is not DINOv2: it lacks {lacking[0]}", DINOV2_L14.command)
    return network.float().eval().requires_grad_(False)
