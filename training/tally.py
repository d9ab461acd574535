"""What is added up in a step on each rank, and met by all ranks and the host once: `Tally`.

A GPU runs ahead of the host; each look at a number makes it wait. So whatever a step has to tell goes into one vector.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from training.parallel.base import Engine


class Tally:
    """Sums by name, float64 on the device. Every rank adds the same names in the same sizes."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._sums: dict[str, Tensor] = {}

    def add(self, name: str, values: Tensor | float) -> None:
        """Add numbers, a scalar or a vector, to those of that name."""
        new = torch.as_tensor(values, dtype=torch.float64, device=self._device).reshape(-1)
        self._sums[name] = self._sums[name] + new if name in self._sums else new

    def place(self, name: str, value: Tensor, at: int, size: int) -> None:
        """Put a number at a place of a vector of `size`, zero elsewhere."""
        row = torch.zeros(size, dtype=torch.float64, device=self._device)
        row[at] = value.detach().double()
        self.add(name, row)

    def agreed(self, engine: Engine) -> Mapping[str, list[float]]:
        """The sums over all ranks, on the host: what waits for the device, and for the slowest rank."""
        names = sorted(self._sums)
        sizes = [len(self._sums[name]) for name in names]
        found = engine.agree(torch.cat([self._sums[name] for name in names])).tolist()
        starts = [sum(sizes[:index]) for index in range(len(sizes))]
        return {name: found[start : start + size] for name, start, size in zip(names, starts, sizes, strict=True)}
