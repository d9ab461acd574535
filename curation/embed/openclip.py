"""A space of any open_clip model: its image tower sees sample frames, its text tower what is searched for.

The weights are a local safetensors file in open_clip's layout; nothing is fetched, and no pickle is opened. Texts and
pictures of one model lie in one space, so "a red fox" finds pictures of foxes without a caption. Where the recipe has
CLIP's weights for the aesthetic score, the space `clip` is searched by the same class.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np

from curation.embed.base import Made, checked, unit
from curation.errors import UserError
from curation.filters.base import check_frame, weights_hash
from curation.identity import fingerprint

VERSION = 1
INSTALL = "pip install -e '.[clip]'"
Dtype = Literal["fp32", "bf16"]
_BATCH = 32


def open_clip_by(model: str, weights: Path, dtype: Dtype) -> str:
    """How the vectors are made, without loading a model. UserError where the file is not there."""
    return fingerprint("open_clip", VERSION, {"model": model, "weights": weights_hash(found(weights)), "dtype": dtype})


def found(weights: Path) -> Path:
    """The weights file; UserError where it is not there, or no safetensors."""
    if weights.suffix != ".safetensors":
        raise UserError(f"{weights} is no safetensors file", "convert it: a pickle runs what it holds")
    if not weights.is_file():
        raise UserError(f"the weights {weights} are not there", "name a safetensors file of the model in the recipe")
    return weights


class OpenClip:
    """`base.OfPictures` and `base.OfTexts` by a model of open_clip: of a clip the mean over its frames, of unit length.

    `model`: as open_clip calls it, of those that it knows by itself. `width`: of its embedding. `middle`: only the
    middle frame of a clip counts, as in the space `clip`. Raises `UserError` where a package or the file is missing, or
    the file holds other weights.
    """

    def __init__(
        self,
        model: str,
        weights: Path,
        width: int,
        *,
        dtype: Dtype = "fp32",
        device: str = "cpu",
        by: str | None = None,
        middle: bool = False,
    ) -> None:
        self.by = by or open_clip_by(model, weights, dtype)
        self.width, self._device, self._middle, self._name = width, device, middle, model
        self._model, self._transform, self._tokens = _loaded(model, found(weights), dtype, device)

    def pictures(self, clips: Sequence[Sequence[np.ndarray]]) -> list[Made]:
        """See `base.OfPictures`."""
        import torch
        from PIL import Image

        chosen = [[clip[len(clip) // 2]] if self._middle else list(clip) for clip in clips]
        frames = [frame for clip in chosen for frame in clip]
        parts: list[np.ndarray] = []
        for start in range(0, len(frames), _BATCH):
            some = frames[start : start + _BATCH]
            for frame in some:
                check_frame(frame)
            shown = [self._transform(Image.fromarray(np.ascontiguousarray(one[:, :, ::-1]))) for one in some]
            parts.append(self._unit(self._model.encode_image, torch.stack(shown)))
        each = iter(np.concatenate(parts) if parts else ())
        means = [unit(np.mean([next(each) for _ in clip], axis=0)) for clip in chosen]
        return [checked(one, self.width, self._name) for one in means]

    def texts(self, texts: Sequence[str]) -> list[Made]:
        """See `base.OfTexts`. What is longer than the model reads is cut."""
        found = self._unit(self._model.encode_text, self._tokens(list(texts)))
        return [checked(one, self.width, self._name) for one in found]

    def _unit(self, encode: Any, given: Any) -> np.ndarray:
        import torch

        given = given.to(self._device)
        if given.is_floating_point():
            given = given.to(next(self._model.parameters()).dtype)
        with torch.inference_mode():
            return unit(encode(given).float().cpu().numpy())


def _loaded(model: str, weights: Path, dtype: Dtype, device: str) -> tuple[Any, Any, Any]:
    """The model, its transform of pictures and its tokenizer."""
    os.environ.setdefault("HF_HUB_OFFLINE", "1")  # some configurations name a tokenizer on the hub
    try:
        import open_clip
    except ImportError as error:
        raise UserError(f"the package {error.name} is not installed", INSTALL) from error
    if model not in open_clip.list_models():
        raise UserError(f"open_clip knows no model {model!r}", "see open_clip.list_models()")
    try:
        made, _, transform = open_clip.create_model_and_transforms(
            model, pretrained=str(weights), precision=dtype, device=device
        )
        tokens = open_clip.get_tokenizer(model)
    except Exception as error:  # whatever torch and open_clip raise where a file does not fit
        said = " ".join(str(error).split())[:200]
        cause = f"{weights} does not load as {model}: {type(error).__name__}: {said}"
        raise UserError(cause, "name the model that the weights are of") from error
    return made.eval(), transform, tokens
