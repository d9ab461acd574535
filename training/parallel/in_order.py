"""Gradients handed on in one order, the same on every rank, whichever order a backward makes them in.

What sends gradients puts them one behind another into buckets. Two ranks whose buckets differ (one did not use a
weight, or used it later) would add up the gradients of different weights, or wait for each other for ever. So a
gradient waits until those before it have come, and what has not come when the backward is over is zero.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch import nn


class InOrder:
    """`give` is called with each weight whose gradient is complete, from the last one to the first: about the order
    that a backward takes, so little waits."""

    def __init__(self, weights: Sequence[nn.Parameter], give: Callable[[nn.Parameter], None]) -> None:
        self._weights = tuple(reversed(weights))
        self._give = give
        self._come: set[int] = set()
        self._given = 0

    def listen(self, active: Callable[[], bool]) -> list[Any]:
        """Take gradients as a backward makes them, while `active`: the hooks, to remove."""

        def came(index: int, weight: nn.Parameter) -> None:
            if active():
                self._come.add(index)
                self._hand_on()

        return [
            weight.register_post_accumulate_grad_hook(partial(came, index))
            for index, weight in enumerate(self._weights)
        ]

    def complete(self) -> None:
        """After a backward: hand on what is left, zero where there is no gradient."""
        for weight in self._weights[self._given :]:
            if weight.grad is None:
                weight.grad = torch.zeros_like(weight)
        self._come.update(range(self._given, len(self._weights)))
        self._hand_on()
        self._come.clear()
        self._given = 0

    def _hand_on(self) -> None:
        while self._given in self._come:
            self._give(self._weights[self._given])
            self._given += 1
