"""Named tensors in safetensors files, one at a time: a file, or shards with an index, to a model and back.

Nothing here holds a second copy of a model: a tensor is read when it is asked for, and a shard is written as soon as it
is complete. `convert` stands between a file and a model whose layouts differ. (Checkpoints of a run in progress, with
optimizer and data state, are not these.)
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from curation.errors import UserError

log = logging.getLogger(__name__)

INDEX_SUFFIX = ".safetensors.index.json"
SHARD_BYTES = 4 << 30
_DTYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "F8_E4M3": torch.float8_e4m3fn,
    "F8_E5M2": torch.float8_e5m2,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U8": torch.uint8,
    "BOOL": torch.bool,
}


class Tensors(Protocol):
    """Named tensors that need not be in memory. `where` names them to a person."""

    @property
    def where(self) -> str: ...

    @property
    def metadata(self) -> Mapping[str, str]:
        """Remarks of a file's header."""
        ...

    def names(self) -> Sequence[str]: ...

    def shape(self, name: str) -> tuple[int, ...]: ...

    def dtype(self, name: str) -> torch.dtype: ...

    def read(self, name: str, start: int = 0, stop: int | None = None) -> Tensor:
        """The tensor, or its rows from `start` to `stop`."""
        ...


@dataclass(frozen=True, slots=True)
class InMemory:
    """A state dict as `Tensors`."""

    tensors: Mapping[str, Tensor]
    where: str = "the state dict"
    metadata: Mapping[str, str] = field(default_factory=dict)

    def names(self) -> Sequence[str]:
        return list(self.tensors)

    def shape(self, name: str) -> tuple[int, ...]:
        return tuple(self.tensors[name].shape)

    def dtype(self, name: str) -> torch.dtype:
        return self.tensors[name].dtype

    def read(self, name: str, start: int = 0, stop: int | None = None) -> Tensor:
        tensor = self.tensors[name]
        return tensor[start:stop] if start or stop is not None else tensor


class Files:
    """Safetensors files as `Tensors`: a file, an index of shards, or a folder that holds one of the two.

    UserError where the files are missing, broken or do not agree with their index.
    """

    def __init__(self, path: Path | str) -> None:
        found = _weights_in(Path(path))
        self.where = str(found)
        listed = _indexed(found) if found.name.endswith(".json") else None
        shards = sorted(set(listed.values())) if listed else [found.name]
        self.metadata: dict[str, str] = {}
        self._shards: dict[str, Any] = {}
        for shard in shards:
            opened = _opened(found.parent / shard)
            self.metadata |= opened.metadata() or {}
            self._shards.update(dict.fromkeys(opened.keys(), opened))
        lost = [name for name in listed or () if name not in self._shards]
        if lost:
            raise UserError(
                f"the shards of {found} lack {listing(lost)}", "fetch the checkpoint again, it is incomplete"
            )

    def names(self) -> Sequence[str]:
        return list(self._shards)

    def shape(self, name: str) -> tuple[int, ...]:
        return tuple(self._shards[name].get_slice(name).get_shape())

    def dtype(self, name: str) -> torch.dtype:
        kind = self._shards[name].get_slice(name).get_dtype()
        if kind not in _DTYPES:
            raise UserError(f"{name} in {self.where} has the type {kind}", f"convert it to one of {', '.join(_DTYPES)}")
        return _DTYPES[kind]

    def read(self, name: str, start: int = 0, stop: int | None = None) -> Tensor:
        if start == 0 and stop is None:
            return self._shards[name].get_tensor(name)
        return self._shards[name].get_slice(name)[start:stop]


def _weights_in(path: Path) -> Path:
    if not path.exists():
        raise UserError(f"there is no checkpoint at {path}", "give a safetensors file, its index or their folder")
    if not path.is_dir():
        return path
    found = sorted(path.glob(f"*{INDEX_SUFFIX}")) or sorted(path.glob("*.safetensors"))
    if len(found) != 1:
        what = "no safetensors file" if not found else f"{len(found)} checkpoints ({listing([p.name for p in found])})"
        raise UserError(f"{path} holds {what}", "give the path of the safetensors file, or of its index")
    return found[0]


def _indexed(path: Path) -> dict[str, str]:
    """Tensor name -> file name."""
    try:
        listed = json.loads(path.read_text())["weight_map"]
        sound = all(isinstance(shard, str) and Path(shard).name == shard for shard in listed.values())
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        sound = False
    if not sound or not listed:
        raise UserError(f"{path} is no index of safetensors shards", "give the file that ends in " + INDEX_SUFFIX)
    return listed


def _opened(path: Path) -> Any:
    try:
        return safe_open(str(path), framework="pt")
    except FileNotFoundError:
        raise UserError(f"the shard {path} is missing", "fetch the checkpoint again, it is incomplete") from None
    except (SafetensorError, OSError) as error:
        cause = f"{path} is no readable safetensors file ({error})"
        raise UserError(cause, "fetch it again, or save it as safetensors if it is of another kind") from None


def write(tensors: Tensors, path: Path | str, shard_bytes: int = SHARD_BYTES) -> list[Path]:
    """Write to `path` (ending in .safetensors); above `shard_bytes` to shards beside it and an index. What was written.

    One shard is in memory at a time. Files appear whole, the index last. UserError where one exists already.
    """
    path = Path(path)
    if path.suffix != ".safetensors":
        raise UserError(f"{path} does not end in .safetensors", "name the output so")
    index = path.with_name(path.stem + INDEX_SUFFIX)
    plan = list(_shards_of(tensors, shard_bytes))
    files = [path]
    if len(plan) > 1:
        files = [path.with_name(f"{path.stem}-{i:05}-of-{len(plan):05}.safetensors") for i in range(1, len(plan) + 1)]
    taken = [file for file in (path, index, *files) if file.exists()]
    if taken:
        raise UserError(f"{taken[0]} exists already", "choose another name, or remove it first")
    path.parent.mkdir(parents=True, exist_ok=True)
    for file, names in zip(files, plan, strict=True):
        _replace(file, lambda part, names=names: _save(tensors, names, part))
    if len(plan) == 1:
        return files
    total = sum(_bytes(tensors, name) for name in tensors.names())
    weight_map = {name: file.name for file, names in zip(files, plan, strict=True) for name in names}
    text = json.dumps({"metadata": {"total_size": total}, "weight_map": weight_map}, indent=2) + "\n"
    _replace(index, lambda part: part.write_text(text))
    return [*files, index]


def _shards_of(tensors: Tensors, shard_bytes: int) -> Iterator[list[str]]:
    """Names in their order, cut where the next would pass `shard_bytes`."""
    names, size = [], 0
    for name in tensors.names():
        more = _bytes(tensors, name)
        if names and size + more > shard_bytes:
            yield names
            names, size = [], 0
        names.append(name)
        size += more
    yield names


def _bytes(tensors: Tensors, name: str) -> int:
    return torch.Size(tensors.shape(name)).numel() * tensors.dtype(name).itemsize


def _save(tensors: Tensors, names: list[str], path: Path) -> None:
    metadata = {"format": "pt", **tensors.metadata}
    save_file({name: tensors.read(name).contiguous() for name in names}, str(path), metadata=metadata)


def _replace(path: Path, make: Callable[[Path], object]) -> None:
    part = path.with_name(path.name + ".part")
    try:
        make(part)
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


@dataclass(frozen=True, slots=True)
class Report:
    """What `load` did beside copying: tensors of the file without a place, and parameters that start anew."""

    dropped: tuple[str, ...] = ()
    fresh: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Allowed:
    """Beginnings of names that may be dropped from the file, and of those that may start anew where they are missing
    or of another shape. Nothing, where a checkpoint must fit exactly."""

    drop: tuple[str, ...] = ()
    fresh: tuple[str, ...] = ()


def load(
    model: nn.Module,
    tensors: Tensors,
    initialise: Callable[[str, Tensor], None],
    allowed: Allowed | None = None,
    device: torch.device | str = "cpu",
) -> Report:
    """Copy every tensor into the model's parameter of that name, in the parameter's dtype. Logs the report.

    A parameter on the meta device comes to life on `device`. `initialise(name, parameter)` fills what starts anew, a
    layer at a time: a weight of another shape takes its bias along. Raises UserError, the model untouched, for any
    name or shape that `allowed` does not cover.
    """
    allowed = allowed or Allowed()
    wanted = dict(model.named_parameters())
    report = compare(wanted, tensors, allowed)
    for name in report.dropped:
        log.warning("%s: dropped %s", tensors.where, name)
    for name in report.fresh:
        log.warning("%s: %s starts anew", tensors.where, name)
    fresh = set(report.fresh)
    for name, parameter in wanted.items():
        target = _alive(model, name, parameter, device)
        if name in fresh:
            initialise(name, target)
        else:
            with torch.no_grad():
                target.copy_(tensors.read(name))
    return report


def _alive(model: nn.Module, name: str, parameter: nn.Parameter, device: torch.device | str) -> nn.Parameter:
    if not parameter.is_meta:
        return parameter
    owner, _, leaf = name.rpartition(".")
    made = nn.Parameter(torch.empty_like(parameter, device=device), parameter.requires_grad)
    setattr(model.get_submodule(owner), leaf, made)
    return made


def compare(wanted: Mapping[str, Tensor], tensors: Tensors, allowed: Allowed) -> Report:
    """What `load` would drop and what would start anew; UserError for all that `allowed` does not cover."""
    held = tensors.names()
    unknown = [name for name in held if name not in wanted]
    missing = sorted(wanted.keys() - set(held), key=list(wanted).index)
    differ = [name for name in held if name in wanted and tensors.shape(name) != tuple(wanted[name].shape)]
    refused = {
        "lacks": [name for name in missing if not name.startswith(allowed.fresh)],
        "has unknown tensors": [name for name in unknown if not name.startswith(allowed.drop)],
        "has other shapes": [
            f"{name} {_by(tensors.shape(name))} instead of {_by(wanted[name].shape)}"
            for name in differ
            if not name.startswith(allowed.fresh)
        ],
    }
    if any(refused.values()):
        faults = "; ".join(f"{what}: {listing(names)}" for what, names in refused.items() if names)
        remedy = "choose the model preset that it was made for, or the checkpoint made for this preset"
        raise UserError(f"{tensors.where} does not fit the model, it {faults}", remedy)
    layers = {name.rpartition(".")[0] for name in (*missing, *differ)}
    return Report(tuple(unknown), tuple(name for name in wanted if name.rpartition(".")[0] in layers))


def listing(names: Sequence[str], most: int = 3) -> str:
    """The first few, and how many more."""
    rest = len(names) - most
    return ", ".join(names[:most]) + (f" and {rest} more" if rest > 0 else "")


def _by(shape: Sequence[int]) -> str:
    return "x".join(map(str, shape))
