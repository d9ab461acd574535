"""The weights that the metrics need, the command that gets each, and their loading: whole, by name, and as data only.

Nothing is fetched and nothing stands in: a file that is absent or holds something else is a `UserError`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from curation.errors import UserError

M = TypeVar("M", bound=nn.Module)


@dataclass(frozen=True, slots=True)
class Wanted:
    """A weights file or folder: what it is, and the command that gets it."""

    what: str
    command: str


def _curl(file: str, url: str) -> str:
    return f"curl -L --create-dirs -o weights/{file} {url}"


def _hub(repository: str) -> str:
    folder = repository.split("/")[1]
    return f"hf download {repository} --local-dir weights/{folder} --exclude '*.h5' '*.msgpack'"


DINO = Wanted(
    "DINO ViT-B/16",
    _curl(
        "dino_vitbase16_pretrain.pth",
        "https://dl.fbaipublicfiles.com/dino/dino_vitbase16_pretrain/dino_vitbase16_pretrain.pth",
    ),
)
DINOV2_L14 = Wanted("the folder of DINOv2 ViT-L/14", _hub("facebook/dinov2-large"))
CLIP_B32 = Wanted("the folder of CLIP ViT-B/32", _hub("openai/clip-vit-base-patch32"))
CLIP_L14 = Wanted("the folder of CLIP ViT-L/14", _hub("openai/clip-vit-large-patch14"))
LAION_HEAD = Wanted(
    "LAION's linear head for CLIP ViT-L/14",
    _curl(
        "sa_0_4_vit_l_14_linear.pth",
        "https://github.com/LAION-AI/aesthetic-predictor/raw/main/sa_0_4_vit_l_14_linear.pth",
    ),
)
RAFT = Wanted(
    "RAFT trained on Chairs and Things, in torchvision's names",
    _curl("raft_large_C_T_V1-22a6c225.pth", "https://download.pytorch.org/models/raft_large_C_T_V1-22a6c225.pth"),
)
AMT = Wanted(
    "AMT-S as TorchScript",
    _curl("amt-s.pth", "https://huggingface.co/lalala125/AMT/resolve/main/amt-s.pth")
    + " and save the network as TorchScript (training/quality/smoothness.py says how)",
)
MUSIQ = Wanted(
    "MUSIQ trained on SPAQ",
    _curl(
        "musiq_spaq_ckpt-358bb6af.pth",
        "https://github.com/chaofengc/IQA-PyTorch/releases/download/v0.1-weights/musiq_spaq_ckpt-358bb6af.pth",
    ),
)
VGG16 = Wanted(
    "VGG16 of torchvision",
    _curl("vgg16-397923af.pth", "https://download.pytorch.org/models/vgg16-397923af.pth"),
)
LPIPS_LINEAR = Wanted(
    "LPIPS's linear layers for VGG16, version 0.1",
    _curl(
        "lpips_vgg.pth",
        "https://github.com/richzhang/PerceptualSimilarity/raw/master/lpips/weights/v0.1/vgg.pth",
    ),
)


def need(path: Path | None, wanted: Wanted) -> Path:
    """The path, or a UserError that names the file and the command."""
    if path is None:
        raise UserError(f"{wanted.what} is needed and no path was given", wanted.command)
    if not path.exists():
        raise UserError(f"{wanted.what}: nothing at {path}", wanted.command)
    return path


def tensors(path: Path | None, wanted: Wanted) -> Mapping[str, Tensor]:
    """Names and tensors of a safetensors file or a torch checkpoint; no code in it runs."""
    path = need(path, wanted)
    try:
        found: Any = _read(path)
    except Exception as error:  # the readers raise whatever the bytes provoke
        raise UserError(f"{path} does not hold plain weights ({type(error).__name__})", wanted.command) from error
    if not isinstance(found, Mapping) or not all(isinstance(value, Tensor) for value in found.values()):
        raise UserError(f"{path} does not hold a plain mapping of names to tensors", wanted.command)
    return {name.removeprefix("module."): value for name, value in found.items()}


def _read(path: Path) -> Any:
    if path.suffix == ".safetensors":
        from safetensors.torch import load_file

        return load_file(path)
    return torch.load(path, map_location="cpu", weights_only=True)


def fill(module: M, found: Mapping[str, Tensor], path: Path | None, wanted: Wanted) -> M:
    """Put the weights in place, every name and shape right, none too many; in float32, for evaluation."""
    like = module.state_dict()
    for name in sorted(like.keys() | found.keys()):
        here, there = (tuple(x[name].shape) if name in x else "absent" for x in (found, like))
        if here != there:
            raise UserError(f"{path} is not {wanted.what}: {name} is {here}, not {there}", wanted.command)
    module.load_state_dict(dict(found))
    return module.float().eval().requires_grad_(False)
