"""Two networks that train together, each with its own optimizer and clip, as one engine: an autoencoder and the
discriminator that it learns against.

    Pair.model = Two(first, second) -> one loss of both -> one backward -> each network's own norm, clip and update

To the loop and the callbacks it is an engine like any other. The loss is a sum whose terms keep apart who learns from
what (a detached clip for the one, detached weights for the other), so one backward gives each network its gradients.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from training.parallel.base import AdamW, Engine

UPDATES = "updates"


class Two(NamedTuple):
    """What is to be called."""

    first: Any
    second: Any


class Both(nn.Module):
    """What `Pair.wrap` takes: a bag of the two."""

    def __init__(self, first: nn.Module, second: nn.Module) -> None:
        super().__init__()
        self.first, self.second = first, second


class Pair:
    """An `Engine` of two. The first one's weights keep their names, the second's stand under `name`.

    Both may be any engines; of a small second network every rank can hold the whole: `Single`, or `Ddp` where there are
    several. `pace`: its rate over the first one's. It may begin later: in a step in which it was not called it is not
    updated, and the count of its updates, which Adam needs, is saved beside its weights. `norms`: of the last gradients
    of both, before clipping.
    """

    def __init__(self, first: Engine, second: Engine, name: str = "discriminator", pace: float = 1.0) -> None:
        assert (first.rank, first.ranks, first.device) == (second.rank, second.ranks, second.device)
        self.first, self.second = first, second
        self.name, self.rank, self.ranks = first.name, first.rank, first.ranks
        self.device, self.dtype, self.group = first.device, first.dtype, first.group
        self._prefix, self._pace = f"{name}.", pace
        self._updates, self._called = torch.zeros(1), False
        self.norms = torch.zeros(2, device=self.device)

    def wrap(self, model: nn.Module, optimizer: AdamW) -> None:
        """`model`: `Both`."""
        assert isinstance(model, Both), "a pair trains two networks"
        self.first.wrap(model.first, optimizer)
        self.second.wrap(model.second, optimizer)
        model.second.register_forward_pre_hook(self._see)

    @property
    def model(self) -> Two:
        return Two(self.first.model, self.second.model)

    @contextmanager
    def micro_batch(self, last: bool) -> Iterator[None]:
        with self.first.micro_batch(last), self.second.micro_batch(last):
            yield

    def backward(self, loss: Tensor) -> None:
        self.first.backward(loss)

    def clip(self, most: float) -> Tensor:
        """Each is cut by its own norm; the norm of both together is given."""
        self.norms = torch.stack([one.clip(most).detach().to(self.device) for one in (self.first, self.second)])
        return self.norms.norm()

    def update(self, rate: float) -> None:
        self.first.update(rate)
        if self._called:
            self.second.update(rate * self._pace)
            self._updates += 1

    def clear(self) -> None:
        self._called = False
        self.first.clear()
        self.second.clear()

    def agree(self, values: Tensor) -> Tensor:
        return self.first.agree(values)

    def masters(self) -> Mapping[str, Tensor]:
        return {**self.first.masters(), **self._named(self.second.masters()), self._prefix + UPDATES: self._updates}

    def put(self, change: Callable[[str, Tensor], None]) -> None:
        self.first.put(change)
        self.second.put(lambda name, weight: change(self._prefix + name, weight))

    def saved(self, values: Mapping[str, Tensor]) -> dict[str, Tensor]:
        first = {name: value for name, value in values.items() if not name.startswith(self._prefix)}
        second = {name.removeprefix(self._prefix): values[name] for name in values.keys() - first.keys()}
        return {**self.first.saved(first), **self._named(self.second.saved(second))}

    def moments(self) -> Mapping[str, Mapping[str, Tensor]]:
        return {**self.first.moments(), **self._named(self.second.moments())}

    def loaded(self, updates: int) -> None:
        self.first.loaded(updates)
        self.second.loaded(int(self._updates.item()))

    def shapes(self) -> Mapping[str, tuple[int, ...]]:
        return {**self.first.shapes(), **self._named(self.second.shapes()), self._prefix + UPDATES: (1,)}

    def barrier(self) -> None:
        self.first.barrier()

    def close(self) -> None:
        self.second.close()
        self.first.close()

    def _see(self, module: nn.Module, given: object) -> None:
        self._called = self._called or torch.is_grad_enabled()

    def _named(self, found: Mapping[str, Any]) -> dict[str, Any]:
        return {self._prefix + name: value for name, value in found.items()}
