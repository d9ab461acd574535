"""Plain torch DDP: every rank holds all weights and all of the optimizer. The baseline that other engines are measured
against, over gloo on CPUs and NCCL on GPUs. Ranks are started by `torchrun`.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from training.parallel.base import AdamW, Precision
from training.parallel.processes import Processes
from training.parallel.single import Single


class Ddp(Processes, Single):
    """An `Engine` of as many ranks as were started. Every rank must use every weight in every step."""

    def __init__(self, device: torch.device, precision: Precision = "float32") -> None:
        super().__init__("ddp", device, precision)

    def wrap(self, model: nn.Module, optimizer: AdamW) -> None:
        self.match(model)
        super().wrap(model, optimizer)
        places = [self.device.index] if self.device.type == "cuda" else None
        self._wrapped = DistributedDataParallel(self._bare, device_ids=places)

    @property
    def model(self) -> Any:
        return self._wrapped

    @contextmanager
    def micro_batch(self, last: bool) -> Iterator[None]:
        # Gradients gather in the network's type until the last micro-batch, whose backward sends them.
        with nullcontext() if last else self._wrapped.no_sync():
            yield
        if last:
            self._masters.take_gradients()
