"""Where an op runs, and with which settings. Every op asks here, and nothing else decides it.

On a GPU the Triton kernels run; on a CPU the reference does, unless `TRITON_INTERPRET=1` has Triton's interpreter run
the kernels there. Settings are checked in: one JSON file an architecture under `configs/`, made by `kernels.tune`.
"""

from __future__ import annotations

import functools
import json
import os
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

CONFIGS = Path(__file__).parent / "configs"
DEFAULT_ARCH = "sm_90"
"""Whose settings serve an architecture that has none of its own."""


@dataclass(frozen=True, slots=True)
class Config:
    """How a kernel is launched. `blocks`: its tile sizes and flags by the names of its constexpr arguments.

    `registers`: of a thread at the start, where the kernel shares them out anew among its warps. `chosen`: of an op's
    kernels for the same tensors, whether this one runs; one that has not been measured to be the faster is not.
    """

    blocks: dict[str, Any]
    warps: int = 4
    stages: int = 2
    registers: int | None = None
    chosen: bool = True

    def options(self) -> dict[str, Any]:
        """What the compiler is told beside the constants."""
        limit = {} if self.registers is None else {"maxnreg": self.registers}
        return {"num_warps": self.warps, "num_stages": self.stages, **limit}

    def launch(self) -> dict[str, Any]:
        """Keyword arguments of a kernel call."""
        return {**self.blocks, **self.options()}


def interpreting() -> bool:
    """Whether Triton's interpreter runs the kernels (it must have been said before Triton was imported)."""
    return os.environ.get("TRITON_INTERPRET") == "1"


def use_kernel(x: Tensor) -> bool:
    """Whether the Triton kernel is to run on `x`; else the reference."""
    return x.is_cuda or interpreting()


@functools.cache
def arch(device: int | None = None) -> str:
    """The architecture of a CUDA device, as in "sm_90"; that of the default settings where there is none."""
    if not torch.cuda.is_available():
        return DEFAULT_ARCH
    major, minor = torch.cuda.get_device_capability(device)
    return f"sm_{major}{minor}"


@functools.cache
def table(name: str) -> dict[str, dict[str, Config]]:
    """All settings of an architecture: op, then size bucket."""
    path = CONFIGS / f"{name}.json"
    if not path.exists():
        path = CONFIGS / f"{DEFAULT_ARCH}.json"
    data = json.loads(path.read_text())
    return {op: {bucket: Config(**config) for bucket, config in buckets.items()} for op, buckets in data.items()}


def config_for(op: str, bucket: str) -> Config:
    """The settings of an op for a size bucket; those named "any" where the bucket has none of its own.

    The interpreter is slow in proportion to the tile: there, and only there, the bucket is always "interpreter", if
    the op has one.
    """
    buckets = table(arch())[op]
    if interpreting() and "interpreter" in buckets:
        return buckets["interpreter"]
    return buckets.get(bucket) or buckets["any"]


def dense_rows(x: Tensor) -> Tensor:
    """`x`, copied if its last dimension is strided: kernels take any stride of the others."""
    return x if x.stride(-1) == 1 else x.contiguous()


def launch(kernel: Any, grid: tuple[int, ...], *arguments: Any, **named: Any) -> None:
    """Run a Triton kernel, whose type no checker knows, on the device of its tensors; nothing if the grid is empty.

    Every launch comes through here: Triton takes the current device, and on another one's tensors it fails or, worse,
    reads something else.
    """
    if 0 in grid:
        return
    device = next(x.device for x in (*arguments, *named.values()) if isinstance(x, Tensor))
    with torch.cuda.device(device) if device.type == "cuda" else nullcontext():
        kernel[grid](*arguments, **named)
