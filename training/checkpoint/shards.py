"""Whether all of a checkpoint is in its folder, by the headers of its files: asked before it is named whole.

Each rank writes a file of its own, perhaps from another machine. What a listing shows of these may be old (a share
caches it) or less than all (a folder that is not shared), and a checkpoint with a part missing would load as far as it
goes, or be refused later, when nothing can be done.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from math import prod
from pathlib import Path

_LENGTH = 8
"""Bytes of a safetensors file that tell how long its header is."""


def check_whole(folder: Path, numbers: Mapping[str, int]) -> None:
    """OSError: a file is not as long as it says, or of some tensor not all `numbers` are there."""
    found: Counter[str] = Counter()
    for path in sorted(folder.glob("*.safetensors")):
        found.update(_numbers(path))
    for name, wanted in numbers.items():
        if found[name] != wanted:
            told = f"{found[name]:,} of {wanted:,} numbers of {name} are seen in {folder}"
            raise OSError(f"{told}: does every process write to the same folder?")


def _numbers(path: Path) -> dict[str, int]:
    """How many numbers of each tensor a file holds."""
    size = path.stat().st_size
    with path.open("rb") as file:
        length = int.from_bytes(file.read(_LENGTH), "little")
        if _LENGTH + length > size:
            raise OSError(f"{path.name} has {size} bytes, and its header alone {length}")
        header = json.loads(file.read(length))
    tensors = {name: one for name, one in header.items() if name != "__metadata__"}
    end = _LENGTH + length + max((one["data_offsets"][1] for one in tensors.values()), default=0)
    if size != end:
        raise OSError(f"{path.name} has {size} bytes, not {end}")
    return {name: prod(one["shape"]) for name, one in tensors.items()}
