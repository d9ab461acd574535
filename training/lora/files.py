"""An adapter on the disk, in peft's format: a folder that `PeftModel.from_pretrained` reads too.

adapter_model.safetensors   base_model.model.LAYER.lora_A.weight (R, I) and lora_B.weight (O, R), float32;
                            of the header, "base" is the fingerprint of the weights that it was made for
adapter_config.json         rank (r), lora_alpha, lora_dropout, target_modules; written last
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from curation.errors import UserError
from training.lora.adapter import Adapter, Factors
from training.models.weights import Files, InMemory, listing, write

CONFIG = "adapter_config.json"
WEIGHTS = "adapter_model.safetensors"
PREFIX = "base_model.model."
_ENDS = (".lora_A.weight", ".lora_B.weight")
_BASE = "base"
_PLAIN: Mapping[str, tuple[Any, ...]] = {
    "peft_type": ("LORA",),
    "bias": ("none",),
    "use_dora": (False,),
    "use_rslora": (False,),
    "lora_bias": (False,),
    "fan_in_fan_out": (False,),
    "rank_pattern": ({},),
    "alpha_pattern": ({},),
    "modules_to_save": (None, []),
}
"""Keys of peft's that change what an adapter computes, and the values that leave it the plain one."""


def save(adapter: Adapter, folder: Path | str) -> list[Path]:
    """Write the adapter into a folder; the files written. UserError where one is there already."""
    folder = Path(folder)
    if (folder / CONFIG).exists():
        raise UserError(f"{folder} holds an adapter already", "choose another folder, or remove it first")
    tensors = {
        f"{PREFIX}{layer}{end}": factor
        for layer, factors in adapter.layers.items()
        for end, factor in zip(_ENDS, factors, strict=True)
    }
    metadata = {_BASE: adapter.base} if adapter.base else {}
    written = write(InMemory(tensors, metadata=metadata), folder / WEIGHTS)
    part = folder / f"{CONFIG}.part"
    part.write_text(json.dumps(_config(adapter), indent=2, sort_keys=True) + "\n")
    os.replace(part, folder / CONFIG)
    return [*written, folder / CONFIG]


def load(folder: Path | str) -> Adapter:
    """The adapter of a folder. UserError: none is there, it is a pickle, or does what a plain adapter does not."""
    folder = Path(folder)
    config = _read_config(folder)
    if not (folder / WEIGHTS).exists() and list(folder.glob("adapter_model.bin")):
        raise UserError(f"{folder} holds its weights as a pickle, which may run code", "save it as safetensors")
    files = Files(folder / WEIGHTS)
    found: dict[str, dict[str, Tensor]] = {}
    for name in files.names():
        end = next((end for end in _ENDS if name.endswith(end)), None)
        if end is None:
            raise UserError(f"{files.where} holds {name}, which is no part of an adapter", "give one of plain LoRA")
        found.setdefault(name.removeprefix(PREFIX).removesuffix(end), {})[end] = files.read(name).float()
    rank = config["r"]
    wrong = [layer for layer, ends in found.items() if not _sound(ends, rank)]
    if wrong or not found:
        cause = f"not a pair of rank {rank}: {listing(wrong)}" if wrong else "nothing in it"
        raise UserError(f"{files.where} is no whole adapter, {cause}", "get it again")
    return Adapter(
        rank=rank,
        alpha=float(config["lora_alpha"]),
        layers={layer: Factors(*(ends[end] for end in _ENDS)) for layer, ends in found.items()},
        dropout=float(config.get("lora_dropout", 0.0)),
        base=files.metadata.get(_BASE, ""),
    )


def _config(adapter: Adapter) -> dict[str, Any]:
    return {
        **{key: values[0] for key, values in _PLAIN.items()},
        "task_type": None,
        "inference_mode": True,
        "base_model_name_or_path": None,
        "r": adapter.rank,
        "lora_alpha": int(adapter.alpha) if adapter.alpha.is_integer() else adapter.alpha,
        "lora_dropout": adapter.dropout,
        "target_modules": sorted(adapter.layers),
    }


def _read_config(folder: Path) -> dict[str, Any]:
    path = folder / CONFIG
    try:
        config = json.loads(path.read_text())
        numbers = isinstance(config["r"], int) and config["r"] > 0 and float(config["lora_alpha"]) > 0
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{folder} holds no adapter ({error})", f"give a folder with {CONFIG} and {WEIGHTS}") from None
    other = [key for key, values in _PLAIN.items() if config.get(key, values[0]) not in (*values, None)]
    if other or not numbers:
        key = other[0] if other else "r or lora_alpha"
        raise UserError(f"{path} has {key} = {json.dumps(config.get(key))}", "only plain LoRA of one rank is read")
    return config


def _sound(ends: Mapping[str, Tensor], rank: int) -> bool:
    if ends.keys() != set(_ENDS):
        return False
    a, b = (ends[end] for end in _ENDS)
    return a.ndim == b.ndim == 2 and a.shape[0] == b.shape[1] == rank
