"""ColossalAI's ZeRO through its Booster: every rank computes with whole weights, and holds a part of the masters and of
their moments; with stage 2, the default, also only a part of the gradient. The engine that the report trained with.

    backward -> gradients complete, in one order on all ranks -> summed in float32, each rank keeps its part
    clip     -> the norm over all parts     update -> masters stepped, cut by the norm; whole weights gathered

What it does to a bfloat16 gradient: divided by the ranks in bfloat16, summed in float32, the sum rounded to bfloat16.
Micro-batches add up in float32 with stage 2 (each is sent as it comes) and in bfloat16 with stage 1 (the last is sent).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from itertools import islice
from typing import Any, Literal

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh

from training.parallel.adamw import MOMENTS, adamw, seed_moments, set_rate, set_updates
from training.parallel.base import AdamW, Precision
from training.parallel.colossal_compat import load
from training.parallel.in_order import InOrder
from training.parallel.parts import all_placed, chunk
from training.parallel.processes import Processes

_PRECISION: Mapping[torch.dtype, str] = {torch.float32: "fp32", torch.bfloat16: "bf16"}


class Colossal(Processes):
    """An `Engine` of as many ranks as were started. `stage` 1 sends once a step and holds whole gradients, 2 sends in
    every micro-batch and holds parts. UserError: ColossalAI is not installed."""

    def __init__(self, device: torch.device, precision: Precision = "float32", stage: Literal[1, 2] = 2) -> None:
        self._colossal = load(device)
        super().__init__(f"colossal-{stage}", device, precision)
        self._stage = stage
        self._overlaps = device.type == "cuda"
        self._mesh = init_device_mesh(device.type, (self.ranks,))

    def wrap(self, model: nn.Module, optimizer: AdamW) -> None:
        named = {name: one for name, one in model.named_parameters() if one.requires_grad}
        self._shapes = {name: tuple(one.shape) for name, one in named.items()}
        cuts = {name: chunk(one.numel(), self.rank, self.ranks) for name, one in named.items()}
        self._starts = {name: start for name, (start, _) in cuts.items()}
        self.match(model)
        # Kept from before: it makes its masters of weights that it has rounded.
        exact = {name: one.detach().view(-1)[slice(*cuts[name])].clone() for name, one in named.items()}
        self._boost(model, adamw(named.values(), optimizer))
        self._held = {name: self._zero.working_to_master_param[id(one)] for name, one in named.items()}
        self._working = {name: self._zero._working_param_to_padded_working_param[one] for name, one in named.items()}
        # What it holds is padded to the same size on every rank.
        self._masters = {name: held[: len(exact[name])] for name, held in self._held.items()}
        for name, master in self._masters.items():
            master.copy_(exact[name])
        seed_moments(self._zero.optim, self._held.values())
        self._order = self._in_order(list(named.values()))
        self.clear()

    def _boost(self, model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
        plugin = self._colossal.zero_plugin(
            stage=self._stage,
            precision=_PRECISION[self.dtype],
            communication_dtype=torch.float32,
            overlap_communication=self._overlaps,
            cast_inputs=False,  # a time in bfloat16 is another time
        )
        self._booster = self._colossal.booster(plugin=plugin)
        self._wrapped, self._zero, *_ = self._booster.boost(model, optimizer)
        self._zero._backward_context = self._completed
        (self._store,) = self._zero.pg_to_grad_store.values()

    def _in_order(self, weights: list[nn.Parameter]) -> InOrder:
        """Its hooks take gradients as they come, which deadlocks or mixes weights up where ranks differ: ours in their
        place. Without hooks it takes them in order after the backward, but leaves out those that are missing."""
        hooks = self._zero.grad_handles
        order = InOrder(weights, self._give if hooks else lambda weight: None)
        if hooks:
            for hook in hooks:
                hook.remove()
            self._zero.grad_handles = order.listen(lambda: self._zero.require_grad_sync)
        return order

    def _give(self, weight: nn.Parameter) -> None:
        self._zero._add_to_bucket(weight, 0)
        if not self._overlaps:
            self._keep_parts()

    @contextmanager
    def _completed(self) -> Iterator[None]:
        """Round the backward of its optimizer, before it sends what has not been sent."""
        yield
        if self._zero.require_grad_sync:
            self._order.complete()

    def _keep_parts(self) -> None:
        """Copy the parts that have come to float32: they are views, each of which would hold a whole gradient, and what
        further micro-batches add would be rounded."""
        if self._stage == 1:
            return
        found = self._store._grads_of_params.get(0, {})
        for parts in islice(found.values(), self._kept, None):
            parts[0] = parts[0].to(torch.float32, copy=True)
        self._kept = len(found)

    @property
    def model(self) -> Any:
        return self._wrapped

    @contextmanager
    def micro_batch(self, last: bool) -> Iterator[None]:
        with nullcontext() if last or self._stage == 2 else self._zero.no_sync():
            yield

    def backward(self, loss: Tensor) -> None:
        self._booster.backward(loss, self._zero)
        self._keep_parts()

    def clip(self, most: float) -> Tensor:
        # It computes the norm once more in its step, and cuts there: after the cast to float32.
        self._zero._clip_grad_norm = most
        own = torch.nn.utils.get_total_norm(self._store.get_working_grads_by_group_id(0))
        squares = own.double().square()
        dist.all_reduce(squares)
        return squares.sqrt().float()

    def update(self, rate: float) -> None:
        set_rate(self._zero.optim, rate)
        self._zero.step()

    def clear(self) -> None:
        self._zero.zero_grad()
        self._zero._clip_grad_norm = 0.0
        self._kept = 0

    def masters(self) -> Mapping[str, Tensor]:
        return self._masters

    @torch.no_grad()
    def put(self, change: Callable[[str, Tensor], None]) -> None:
        for name, part in self._masters.items():
            change(name, part)
        self._gather()

    @torch.no_grad()
    def _gather(self) -> None:
        """What the network computes with, out of the masters of all ranks."""
        for name, held in self._held.items():
            dist.all_gather_into_tensor(self._working[name], held.to(self.dtype))

    def saved(self, values: Mapping[str, Tensor]) -> dict[str, Tensor]:
        return all_placed(self._mesh, values, self._starts, self._shapes)

    def moments(self) -> Mapping[str, Mapping[str, Tensor]]:
        return {
            name: {moment: self._zero.optim.state[self._held[name]][moment][: len(master)] for moment in MOMENTS}
            for name, master in self._masters.items()
        }

    def loaded(self, updates: int) -> None:
        set_updates(self._zero.optim, self._held.values(), updates)
        self._gather()

    def shapes(self) -> Mapping[str, tuple[int, ...]]:
        return self._shapes
