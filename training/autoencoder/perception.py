"""Networks that judge pictures in the autoencoder's training: where their weights are; LPIPS, there or refused in one
line. The model file's [perception] names the files.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from curation.errors import UserError
from training.autoencoder.settings import Settings
from training.quality.lpips import Lpips, load_lpips


@dataclass(frozen=True, slots=True, kw_only=True)
class Files:
    """`vgg16`, `lpips`: torchvision's VGG16 and the linear layers of LPIPS. `dinov2`: the teacher's folder."""

    vgg16: Path | None = None
    lpips: Path | None = None
    dinov2: Path | None = None


def perceptual(settings: Settings, vgg16: Path | None, linear: Path | None, device: str = "cpu") -> Lpips | None:
    """The network of the perceptual loss; None where its weight is 0. UserError: its files are not there."""
    if not settings.lpips:
        return None
    try:
        return load_lpips(vgg16, linear, device)
    except UserError as error:
        raise UserError(error.cause, f"{error.remedy}, or train without it: losses.lpips=0") from error
