"""The processes that train together: who this one is, and what all of them do at once whatever engine they run."""

from __future__ import annotations

import os
from datetime import timedelta

import torch
import torch.distributed as dist
from torch import Tensor, nn

from curation.errors import UserError
from training.parallel.base import Precision

SAVE_TIMEOUT = timedelta(minutes=30)


class Processes:
    """As many ranks as were started. `device` "cuda" takes the GPU of the local rank.

    UserError: not started as one of several.
    """

    def __init__(self, name: str, device: torch.device, precision: Precision) -> None:
        if "RANK" not in os.environ and not dist.is_initialized():
            raise UserError(
                f"engine {name} runs in several processes", "start it with torchrun or --workers, or take engine single"
            )
        if device.type == "cuda":
            device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
            torch.cuda.set_device(device)
        self.name, self.device = name, device
        self.dtype: torch.dtype = getattr(torch, precision)
        self._ours = not dist.is_initialized()
        if self._ours:
            dist.init_process_group("cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo")
        self.rank, self.ranks = dist.get_rank(), dist.get_world_size()
        group = dist.new_group(backend="gloo", timeout=SAVE_TIMEOUT)
        assert isinstance(group, dist.ProcessGroup), "a group of all ranks has this one"
        self.group: dist.ProcessGroup | None = group

    def agree(self, values: Tensor) -> Tensor:
        dist.all_reduce(values)
        return values

    def barrier(self) -> None:
        dist.barrier(group=self.group)

    def close(self) -> None:
        if self._ours:
            dist.destroy_process_group()

    def match(self, model: nn.Module) -> None:
        """Give a model the weights and buffers that it has on rank 0, before masters are made of them."""
        for tensor in (*model.parameters(), *model.buffers()):
            dist.broadcast(tensor.detach(), src=0, group=None if tensor.is_cuda else self.group)
