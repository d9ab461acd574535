"""torch FSDP2: every rank holds a part of each weight, of its gradient and of its moments, and gathers a block's
weights for as long as the block computes.

The parts are float32 and are the masters. Where the network computes in bfloat16, it gathers them rounded; gradients
are cast to float32 first and then summed over ranks and micro-batches, so nothing of a sum is lost. Every micro-batch
sends its gradients: to wait for the last (`set_requires_gradient_sync`) would have each rank hold 4 bytes for every
number of the whole network, more than ZeRO-2 holds.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from math import prod
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy, fully_shard
from torch.distributed.tensor import DTensor

from training.parallel.adamw import MOMENTS, adamw, seed_moments, set_rate, set_updates
from training.parallel.base import AdamW, Precision
from training.parallel.parts import all_placed, chunk
from training.parallel.processes import Processes

# It warns of outputs that are views, for nobody may change them in place: no method does.
warnings.filterwarnings("ignore", message="FSDP2-wrapped module .* returned a view tensor", category=UserWarning)


class Fsdp2(Processes):
    """An `Engine` of as many ranks as were started. Every rank must run the same blocks in every micro-batch: what it
    does not use of a block has a gradient of zero, but a block that it leaves out would keep the others waiting."""

    def __init__(self, device: torch.device, precision: Precision = "float32") -> None:
        super().__init__("fsdp2", device, precision)
        self._mesh = init_device_mesh(device.type, (self.ranks,))

    def wrap(self, model: nn.Module, optimizer: AdamW) -> None:
        self._shapes = {name: tuple(one.shape) for name, one in model.named_parameters() if one.requires_grad}
        self.match(model)
        self._wrapped = self._shard(model)
        self._weights = {name: one for name, one in model.named_parameters() if one.requires_grad}
        self._starts = {
            name: chunk(shape[0], self.rank, self.ranks)[0] * prod(shape[1:]) for name, shape in self._shapes.items()
        }
        self._optimizer = adamw(self._weights.values(), optimizer)
        seed_moments(self._optimizer, self._weights.values())

    def _shard(self, model: nn.Module) -> FSDPModule:
        """Block by block, so that a device never holds more than one whole block."""
        # Inputs are not cast: a time in bfloat16 is another time.
        policy = MixedPrecisionPolicy(
            param_dtype=None if self.dtype == torch.float32 else self.dtype,
            reduce_dtype=torch.float32,
            cast_forward_inputs=False,
        )
        # Gathered weights go after each forward, the outermost module's too: kept ones would be stale after `put`.
        for one in (*blocks(model), model):
            fully_shard(one, mesh=self._mesh, mp_policy=policy, reshard_after_forward=True)
        assert isinstance(model, FSDPModule)
        # A weight that one rank does not use would be missing from what it sends.
        model.set_reduce_scatter_unused_params(True)
        return model

    @property
    def model(self) -> Any:
        return self._wrapped

    @contextmanager
    def micro_batch(self, last: bool) -> Iterator[None]:
        yield

    def backward(self, loss: Tensor) -> None:
        loss.backward()

    def clip(self, most: float) -> Tensor:
        norm = torch.nn.utils.clip_grad_norm_(self._weights.values(), most)
        return norm.full_tensor() if isinstance(norm, DTensor) else norm

    def update(self, rate: float) -> None:
        set_rate(self._optimizer, rate)
        self._optimizer.step()

    def clear(self) -> None:
        self._optimizer.zero_grad()

    def masters(self) -> Mapping[str, Tensor]:
        return {name: _flat(weight) for name, weight in self._weights.items()}

    @torch.no_grad()
    def put(self, change: Callable[[str, Tensor], None]) -> None:
        for name, part in self.masters().items():
            change(name, part)

    def saved(self, values: Mapping[str, Tensor]) -> dict[str, Tensor]:
        return all_placed(self._mesh, values, self._starts, self._shapes)

    def moments(self) -> Mapping[str, Mapping[str, Tensor]]:
        return {
            name: {moment: _flat(self._optimizer.state[weight][moment]) for moment in MOMENTS}
            for name, weight in self._weights.items()
        }

    def loaded(self, updates: int) -> None:
        set_updates(self._optimizer, self._weights.values(), updates)

    def shapes(self) -> Mapping[str, tuple[int, ...]]:
        return self._shapes


def blocks(model: nn.Module) -> list[nn.Module]:
    """What is gathered one by one: the entries of every outermost list of modules, the layers of a network."""
    if isinstance(model, nn.ModuleList):
        nested = [blocks(entry) if isinstance(entry, nn.ModuleList) else [entry] for entry in model]
        return [entry for entries in nested for entry in entries if any(True for _ in entry.parameters())]
    return [entry for child in model.children() for entry in blocks(child)]


def _flat(weight: Any) -> Tensor:
    """This rank's part of a sharded tensor, flat, in the same memory."""
    return weight.detach().to_local().view(-1)
