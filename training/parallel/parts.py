"""A rank's part of a weight, as DCP saves and loads it: numbers `start` to `start + n` of the flat weight.

Engines cut weights in different places (FSDP2 between rows, ZeRO anywhere), and a `DTensor` alone knows of one way to
cut. Here each part carries the place that it is from, so a checkpoint of any engine loads in any other at any number of
ranks, each of which reads what overlaps with its own parts.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import prod

import torch
from torch import Tensor
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.tensor import DTensor, Shard
from torch.distributed.tensor._shards_wrapper import LocalShardsWrapper


def placed(mesh: DeviceMesh, part: Tensor, start: int, whole: int) -> DTensor:
    """`part`, flat, as the numbers from `start` on of `whole`; it shares memory with what it was made of."""
    here = LocalShardsWrapper([part], [(start,)])
    return DTensor.from_local(here, mesh, [Shard(0)], run_check=False, shape=torch.Size((whole,)), stride=(1,))


def all_placed(
    mesh: DeviceMesh, parts: Mapping[str, Tensor], starts: Mapping[str, int], shapes: Mapping[str, tuple[int, ...]]
) -> dict[str, Tensor]:
    """The same of every weight, by name."""
    return {
        name: placed(mesh, part.detach().view(-1), starts[name], prod(shapes[name])) for name, part in parts.items()
    }


def chunk(whole: int, rank: int, ranks: int) -> tuple[int, int]:
    """Start and end of a rank's part where `whole` is cut as `torch.chunk` does: equal parts, the last ones less."""
    size = -(-whole // ranks)
    return min(whole, rank * size), min(whole, (rank + 1) * size)
