"""An adapter into plain weights, a tensor at a time: `W + scale B A`, under the names and in the types as before."""

from __future__ import annotations

from collections.abc import Sequence
from math import sqrt

import torch
from torch import Tensor

from training.lora.adapter import Adapter
from training.models.weights import Tensors


class Merged:
    """`base` with the adapter added, as `Tensors`; a weight is computed in float32 when it is read.

    UserError: the adapter does not fit.
    """

    def __init__(self, base: Tensors, adapter: Adapter) -> None:
        adapter.check(base)
        self.where, self.metadata = base.where, base.metadata
        self._base, self._adapter = base, adapter
        self._layers = {f"{layer}.weight": layer for layer in adapter.layers}
        self._squares: dict[str, tuple[float, float]] = {}

    def names(self) -> Sequence[str]:
        return self._base.names()

    def shape(self, name: str) -> tuple[int, ...]:
        return self._base.shape(name)

    def dtype(self, name: str) -> torch.dtype:
        return self._base.dtype(name)

    def read(self, name: str, start: int = 0, stop: int | None = None) -> Tensor:
        weight = self._base.read(name)
        if name in self._layers:
            change = self._adapter.change(self._layers[name]).to(weight.device)
            exact = weight.float() + change
            weight = exact.to(weight.dtype)
            squares = ((weight.float() - exact).square().sum(), change.square().sum())
            self._squares[name] = (float(squares[0]), float(squares[1]))
        return weight[start:stop]

    @property
    def rounding(self) -> float:
        """The share of the adapter that the weights' type could not hold, of the tensors read so far: a bfloat16
        weight rounds away what is small beside it. Norm of what is lost, over the norm of the change."""
        lost, change = (sum(pair[i] for pair in self._squares.values()) for i in (0, 1))
        return sqrt(lost / change) if change else 0.0
