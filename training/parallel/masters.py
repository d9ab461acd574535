"""Float32 masters of a network that computes in another type, and AdamW over them: for engines that hold all weights.

bfloat16 has 8 bits: an update of 5e-5 of a weight would be lost in it (spec section 4.3). Where the network computes in
float32, the masters are its own parameters.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn

from training.parallel.adamw import MOMENTS, adamw, seed_moments, set_rate, set_updates
from training.parallel.base import AdamW


class Masters:
    """`model` is brought to `dtype`; its gradients are taken from it by `take_gradients`."""

    def __init__(self, model: nn.Module, dtype: torch.dtype, settings: AdamW) -> None:
        named = {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
        assert all(parameter.dtype == torch.float32 for parameter in named.values()), "masters come of float32 weights"
        self.shapes = {name: tuple(parameter.shape) for name, parameter in named.items()}
        self.same = dtype == torch.float32
        if self.same:
            self.weights: dict[str, Tensor] = dict(named)
        else:
            self.weights = {name: parameter.detach().clone() for name, parameter in named.items()}
            model.to(dtype)
        self._working = named
        self._optimizer = adamw(self.weights.values(), settings)
        seed_moments(self._optimizer, self.weights.values())

    def take_gradients(self) -> None:
        """Add the network's gradients to the masters', in float32."""
        if self.same:
            return
        for name, parameter in self._working.items():
            if parameter.grad is None:
                continue
            master = self.weights[name]
            if master.grad is None:
                master.grad = parameter.grad.float()
            else:
                master.grad += parameter.grad
            parameter.grad = None

    def clip(self, most: float) -> Tensor:
        """The norm before clipping."""
        return torch.nn.utils.clip_grad_norm_(self.weights.values(), most)

    def update(self, rate: float) -> None:
        set_rate(self._optimizer, rate)
        # Without a gradient a weight is stepped as well, as where it is shared among ranks: by zero.
        for weight in self.weights.values():
            if weight.grad is None:
                weight.grad = torch.zeros_like(weight)
        self._optimizer.step()
        self._copy()

    def clear(self) -> None:
        for weight in (*self.weights.values(), *self._working.values()):
            weight.grad = None

    @torch.no_grad()
    def put(self, change: Callable[[str, Tensor], None]) -> None:
        """Change every master in place, and then the network."""
        for name, weight in self.weights.items():
            change(name, weight.data)
        self._copy()

    def moments(self) -> Mapping[str, Mapping[str, Tensor]]:
        return {
            name: {moment: self._optimizer.state[weight][moment] for moment in MOMENTS}
            for name, weight in self.weights.items()
        }

    def loaded(self, updates: int) -> None:
        set_updates(self._optimizer, self.weights.values(), updates)
        self._copy()

    @torch.no_grad()
    def _copy(self) -> None:
        if self.same:
            return
        for name, parameter in self._working.items():
            parameter.copy_(self.weights[name])
