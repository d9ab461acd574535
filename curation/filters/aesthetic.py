"""Aesthetic score: CLIP and a small head that learnt people's ratings, mean over a clip's sample frames.

It comes after the measuring pass and OCR, being the dearest filter, and sees sample frames. The report
(section 2.1, Aesthetic ScoreValue) takes LAION's CLIP + MLP predictor on the first, middle and last frame. The
image encoder is OpenAI's CLIP ViT-L/14 by open_clip; the head works on its L2-normalised embedding. On the
way the filter keeps the *middle* frame's normalised embedding, which near-duplicate search compares.

No package ships CLIP's weights. They come from a path, or from the hub when the user allowed that; without
them the filter cannot be made (`UserError`), and nothing else ever writes into this score.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from curation.errors import UserError
from curation.filters.base import NO_SAMPLES, ScoreValue, check_frame, weights_hash
from curation.identity import fingerprint

if TYPE_CHECKING:
    import torch
    from PIL import Image
    from torch import nn

VERSION = 1
MODEL = "ViT-L-14-quickgelu"
"""OpenAI trained with QuickGELU; with plain GELU the same weights give other embeddings."""

HUB_REPO = "timm/vit_large_patch14_clip_224.openai"
HUB_FILE = "open_clip_model.safetensors"
HEAD_FILE = "sac+logos+ava1-l14-linearMSE.pth"
HEAD_PAGE = "https://github.com/christophschuhmann/improved-aesthetic-predictor"
GET_CLIP = f"hf download {HUB_REPO} {HUB_FILE} --local-dir weights"
GET_HEAD = f"curl -L --create-dirs -o weights/{HEAD_FILE} {HEAD_PAGE}/raw/main/{HEAD_FILE}"
INSTALL = "pip install -e '.[clip]'"

Dtype = Literal["fp32", "bf16"]


class Aesthetic:
    """The filter: `aesthetic`, on LAION's scale of about 1 to 10, and an embedding (768, float32).

    `clip`, `head`: weights files (see `missing_weights`). `dtype`: of the encoder's arithmetic, bf16 being
    three times as fast on a CPU that has it; the head is always float32. `batch`: frames in one encoder call.
    Raises `UserError` where a package or file is missing, or a file does not hold the weights expected.
    """

    name = "aesthetic"
    scores = ("aesthetic",)

    def __init__(self, clip: Path, head: Path, *, dtype: Dtype = "fp32", device: str = "cpu", batch: int = 32) -> None:
        self.fingerprint = aesthetic_fingerprint(clip, head, dtype)
        self._device, self._dtype, self._batch = device, dtype, batch
        self._encoder = load_encoder(clip, dtype).to(device)
        self._head = load_head(head).to(device)
        self._transform = preprocess()

    def measure(self, clips: Sequence[Sequence[np.ndarray]]) -> list[ScoreValue]:
        """See `base.SampleFilter`; clips share batches. A result that is not finite is None and why."""
        embeddings = self.embed([frame for frames in clips for frame in frames])
        scores = self.rate(embeddings)
        cuts = np.cumsum([len(frames) for frames in clips])[:-1]
        return [_clip(*parts) for parts in zip(np.split(embeddings, cuts), np.split(scores, cuts), strict=True)]

    def embed(self, frames: Sequence[np.ndarray]) -> np.ndarray:
        """CLIP embeddings of BGR frames: (n, 768), float32, each of unit length."""
        import torch

        dtype = torch.bfloat16 if self._dtype == "bf16" else torch.float32
        parts = [np.zeros((0, 768), np.float32)]
        for start in range(0, len(frames), self._batch):
            images = torch.stack([self._image(frame) for frame in frames[start : start + self._batch]])
            with torch.inference_mode():
                features = self._encoder(images.to(self._device, dtype)).float()
                parts.append(torch.nn.functional.normalize(features, dim=-1).cpu().numpy())
        return np.concatenate(parts)

    def rate(self, embeddings: np.ndarray) -> np.ndarray:
        """The head's scores (n,) of unit-length embeddings (n, 768), both float32."""
        import torch

        with torch.inference_mode():
            return self._head(torch.from_numpy(embeddings).to(self._device)).squeeze(-1).cpu().numpy()

    def _image(self, frame: np.ndarray) -> torch.Tensor:
        from PIL import Image

        check_frame(frame)
        return self._transform(Image.fromarray(np.ascontiguousarray(frame[:, :, ::-1])))


def _clip(embeddings: np.ndarray, scores: np.ndarray) -> ScoreValue:
    if len(scores) == 0:
        return ScoreValue(None, NO_SAMPLES)
    if not (np.isfinite(scores).all() and np.isfinite(embeddings).all()):
        return ScoreValue(None, "CLIP gave a number that is not finite")
    return ScoreValue(float(scores.mean(dtype=np.float64)), embedding=embeddings[len(embeddings) // 2].copy())


def preprocess() -> Callable[[Image.Image], torch.Tensor]:
    """open_clip's own transform for OpenAI's models: RGB picture to (3, 224, 224), bicubic, centre crop."""
    import open_clip

    return open_clip.image_transform(224, is_train=False)  # pyright: ignore[reportReturnType]


def load_encoder(path: Path, dtype: Dtype = "fp32") -> nn.Module:
    """CLIP's image tower from a weights file in open_clip's layout: (n, 3, 224, 224) to (n, 768)."""
    torch, open_clip = _packages()
    weights = load_weights(path, GET_CLIP)
    # On the meta device nothing is allocated or initialised; `_fill` puts the file's own tensors in place.
    with torch.device("meta"):
        model = open_clip.CLIP(**open_clip.get_model_config(MODEL), cast_dtype=open_clip.get_cast_dtype(dtype))
    if dtype == "bf16":
        open_clip.convert_weights_to_lp(model, torch.bfloat16)  # not the layer norms
    tower = {k.removeprefix("visual."): v for k, v in weights.items() if k.startswith("visual.")}
    return _fill(model.visual, tower, path, "OpenAI's CLIP ViT-L/14 in open_clip's layout", GET_CLIP)


def load_head(path: Path) -> nn.Module:
    """An aesthetic head, (n, 768) to (n, 1): LAION v2 (five linear layers) or v1 (one).

    v2 is the report's (`sac+logos+ava1-l14-linearMSE.pth`), v1 is VBench's (`sa_0_4_vit_l_14_linear.pth`).
    """
    nn = _packages()[0].nn
    weights = load_weights(path, GET_HEAD)
    # The dropouts do nothing in eval mode; they keep v2's numbering. There are no activations.
    v2 = nn.Sequential(
        *(nn.Linear(768, 1024), nn.Dropout(0.2), nn.Linear(1024, 128), nn.Dropout(0.2), nn.Linear(128, 64)),
        *(nn.Dropout(0.1), nn.Linear(64, 16), nn.Linear(16, 1)),
    )
    head = v2 if "layers.0.weight" in weights else nn.Linear(768, 1)
    layers = {k.removeprefix("layers."): v for k, v in weights.items()}
    return _fill(head, layers, path, "a LAION head", GET_HEAD)


def load_weights(path: Path, remedy: str) -> Mapping[str, torch.Tensor]:
    """The tensors of a `.safetensors` file, or of a torch checkpoint by `weights_only`: no code runs."""
    torch, _ = _packages()
    if not path.is_file():
        raise UserError(f"no weights at {path}", remedy)
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            weights = load_file(path)
        else:
            weights = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # the readers raise whatever the bytes provoke: pickle, zip, struct errors
        raise UserError(f"{path} does not hold plain weights ({type(error).__name__})", remedy) from error
    if not isinstance(weights, Mapping) or not all(isinstance(v, torch.Tensor) for v in weights.values()):
        raise UserError(f"{path} does not hold a plain mapping of names to tensors", remedy)
    return weights


def _fill(module: nn.Module, weights: Mapping[str, torch.Tensor], path: Path, what: str, remedy: str) -> nn.Module:
    """Put `weights` into `module` in the precision that it wants; every name and shape must be right."""
    wanted = module.state_dict()
    for name, like in wanted.items():
        found = tuple(weights[name].shape) if name in weights else "missing"
        if found != tuple(like.shape):
            raise UserError(f"{path} is not {what}: {name} is {found}, not {tuple(like.shape)}", remedy)
    extra = sorted(weights.keys() - wanted.keys())
    if extra:
        raise UserError(f"{path} is not {what}: it also holds {extra[0]}", remedy)
    # Small tensors are always copied: else, in bf16, a layer norm would keep the whole mapped file in memory.
    copies = {n: weights[n].to(like.dtype, copy=like.numel() < 1 << 19) for n, like in wanted.items()}
    module.load_state_dict(copies, assign=True)
    return module.eval().requires_grad_(False)


def aesthetic_fingerprint(clip: Path, head: Path, dtype: Dtype = "fp32") -> str:
    """The filter's fingerprint without loading a model: a driver needs it for stages elsewhere."""
    missing = missing_weights(clip, head)
    if missing:
        raise UserError(f"weights missing: {missing[0][0]}", missing[0][1])
    parameters = {"model": MODEL, "clip": weights_hash(clip), "head": weights_hash(head), "dtype": dtype}
    return fingerprint("aesthetic", VERSION, parameters)


def missing_weights(clip: Path | None, head: Path | None) -> list[tuple[str, str]]:
    """What the filter lacks, each with the command that gets it; empty when both files are there."""
    needs = (("CLIP ViT-L/14 of OpenAI", clip, GET_CLIP), ("LAION's aesthetic head", head, GET_HEAD))
    return [
        (what if path is None else f"{what} ({path})", command)
        for what, path, command in needs
        if path is None or not path.is_file()
    ]


def clip_from_hub(download: bool = False) -> Path | None:
    """CLIP's weights in the hub's local cache, or None; the network is used only with `download`."""
    try:
        import huggingface_hub
    except ImportError as error:
        raise UserError("the package huggingface_hub is not installed", INSTALL) from error
    if download:
        return Path(huggingface_hub.hf_hub_download(HUB_REPO, HUB_FILE))
    cached = huggingface_hub.try_to_load_from_cache(HUB_REPO, HUB_FILE)
    return Path(cached) if isinstance(cached, str) else None


def _packages() -> tuple[ModuleType, Any]:
    try:
        import open_clip
        import torch
    except ImportError as error:
        raise UserError(f"the package {error.name} is not installed", INSTALL) from error
    return torch, open_clip
