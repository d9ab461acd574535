"""CLIP's image features: ViT-B/32 for background_consistency, ViT-L/14 for aesthetic_quality. Network: transformers.

The folder is one of the hub's, with `config.json` and the weights of the whole CLIP or of its image half. The
folder of ViT-L/14 is the one that training reads its pooled text from.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch import Tensor

from curation.errors import UserError
from training.quality import weights
from training.quality.frames import centre_crop, in_batches, resize_short, standardise
from training.quality.weights import Wanted

MEAN, STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)


class ClipImage:
    """`consistency.Embed`: projected image features, not normalised. Bicubic resize of the short side, centre crop."""

    def __init__(self, folder: Path | None, wanted: Wanted, device: str = "cpu", batch: int = 16) -> None:
        self._network = _load(weights.need(folder, wanted), wanted).to(device)
        self._side = self._network.config.image_size
        self._device, self._batch = device, batch

    def __call__(self, frames_N3HW: Tensor) -> Tensor:
        return in_batches(self._features, frames_N3HW, batch=self._batch)

    def _features(self, frames_N3HW: Tensor) -> Tensor:
        resized = resize_short(frames_N3HW.to(self._device), self._side, "bicubic")
        return self._network(standardise(centre_crop(resized, self._side), MEAN, STD)).image_embeds


def _load(folder: Path, wanted: Wanted) -> Any:
    try:
        from transformers import CLIPVisionModelWithProjection
    except ImportError as error:
        raise UserError("the package transformers is not installed", "pip install -e '.[train]'") from error
    try:
        loaded: Any = CLIPVisionModelWithProjection.from_pretrained(
            folder, local_files_only=True, output_loading_info=True
        )
    except Exception as error:  # the library raises whatever the folder provokes
        raise UserError(f"{folder} is not {wanted.what} ({type(error).__name__})", wanted.command) from error
    network, report = loaded
    # The library fills a missing weight with random numbers and only warns.
    lacking = [*report["missing_keys"], *report["mismatched_keys"]]
    if lacking:
        raise UserError(f"{folder} is not {wanted.what}: it lacks {lacking[0]}", wanted.command)
    return network.float().eval().requires_grad_(False)
