"""The engine of one process: everything is here, nothing is sent."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from training.parallel.base import AdamW, Precision
from training.parallel.masters import Masters


class Single:
    """An `Engine` alone; `ddp.Ddp` builds on it."""

    name = "single"
    group: Any = None

    def __init__(self, device: torch.device, precision: Precision = "float32") -> None:
        self.rank, self.ranks = 0, 1
        self.device = device
        self.dtype: torch.dtype = getattr(torch, precision)

    def wrap(self, model: nn.Module, optimizer: AdamW) -> None:
        self._bare = model.to(self.device)
        self._masters = Masters(self._bare, self.dtype, optimizer)

    @property
    def model(self) -> Any:
        return self._bare

    @contextmanager
    def micro_batch(self, last: bool) -> Iterator[None]:
        yield
        self._masters.take_gradients()

    def backward(self, loss: Tensor) -> None:
        loss.backward()

    def clip(self, most: float) -> Tensor:
        return self._masters.clip(most)

    def update(self, rate: float) -> None:
        self._masters.update(rate)

    def clear(self) -> None:
        self._masters.clear()

    def agree(self, values: Tensor) -> Tensor:
        return values

    def masters(self) -> Mapping[str, Tensor]:
        return {name: weight.detach() for name, weight in self._masters.weights.items()}

    def put(self, change: Callable[[str, Tensor], None]) -> None:
        self._masters.put(change)

    def saved(self, values: Mapping[str, Tensor]) -> dict[str, Tensor]:
        return {name: value.detach().view(-1) for name, value in values.items()}

    def moments(self) -> Mapping[str, Mapping[str, Tensor]]:
        return self._masters.moments()

    def loaded(self, updates: int) -> None:
        self._masters.loaded(updates)

    def shapes(self) -> Mapping[str, tuple[int, ...]]:
        return self._masters.shapes

    def barrier(self) -> None:
        pass

    def close(self) -> None:
        pass
