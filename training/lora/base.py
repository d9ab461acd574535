"""The weights under an adapter: where they come from, and the hash by which a run and an adapter know them again."""

from __future__ import annotations

import hashlib
from concurrent.futures import ThreadPoolExecutor

import torch
import xxhash
from torch import Tensor

from curation.errors import UserError
from training.models.build import DenoiserSpec
from training.models.convert import Converted
from training.models.layouts import detect, layout_of
from training.models.mmdit import MMDiT, MMDiTConfig, preset
from training.models.pretrained import locate
from training.models.weights import Allowed, Files, InMemory, Tensors, compare, listing

THREADS = 8


def fingerprint(weights: Tensors, rounded: bool = False) -> str:
    """A hash over names, shapes and numbers, whatever type holds them: a bfloat16 file and its copy in float32 have the
    same.

    It reads all weights, a tensor a thread at a time. `rounded`: as they are once rounded to bfloat16.
    """

    def digest(name: str) -> str:
        tensor = weights.read(name).detach().cpu()
        numbers = tensor.bfloat16() if rounded else _shortest(tensor)
        found = xxhash.xxh3_128_hexdigest(numbers.contiguous().view(-1).view(torch.uint8).numpy().data)
        return f"{name}:{tuple(weights.shape(name))}:{found}\n"

    with ThreadPoolExecutor(THREADS) as pool:
        return hashlib.sha256("".join(pool.map(digest, sorted(weights.names()))).encode()).hexdigest()


def _shortest(tensor: Tensor) -> Tensor:
    """The numbers in bfloat16 where that holds each of them, else in float32."""
    if tensor.dtype == torch.bfloat16:
        return tensor
    numbers = tensor.float()
    short = numbers.bfloat16()
    return short if torch.equal(short.float(), numbers) else numbers


def known(base: str, weights: Tensors) -> bool:
    """Whether `base` is the fingerprint of these weights, or of what a bfloat16 network has of them."""
    return base == fingerprint(weights) or base == fingerprint(weights, rounded=True)


def weights_of(spec: DenoiserSpec) -> tuple[MMDiTConfig, Tensors]:
    """A transformer's configuration and its weights in its own layout, read when they are asked for.

    UserError: a file that is not there, or not of that preset.
    """
    config = preset(spec.preset)
    if spec.path is None:
        torch.manual_seed(spec.seed)
        return config, InMemory(dict(MMDiT(config).state_dict()), f"preset {spec.preset}, drawn from {spec.seed}")
    return config, in_layout_of(config, Files(locate(spec.path, "the transformer")))


def in_layout_of(config: MMDiTConfig, files: Tensors) -> Converted:
    """A whole checkpoint of any public layout in that of `config`. UserError where it does not fit exactly."""
    view = Converted(files, detect(files), layout_of(config), config)
    if view.unused:
        cause = f"{files.where} has tensors without a place in the model: {listing(view.unused)}"
        raise UserError(cause, "choose the model that it was made for")
    with torch.device("meta"):
        compare(dict(MMDiT(config).named_parameters()), view, Allowed())
    return view
