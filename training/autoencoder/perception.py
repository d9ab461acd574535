"""LPIPS for training: there, or refused in one line."""

from __future__ import annotations

from pathlib import Path

from curation.errors import UserError
from training.autoencoder.settings import Settings
from training.quality.lpips import Lpips, load_lpips


def perceptual(settings: Settings, vgg16: Path | None, linear: Path | None, device: str = "cpu") -> Lpips | None:
    """The network of the perceptual loss; None where its weight is 0. UserError: its files are not there."""
    if not settings.lpips:
        return None
    try:
        return load_lpips(vgg16, linear, device)
    except UserError as error:
        raise UserError(error.cause, f"{error.remedy}, or train without it: lpips = 0") from error
