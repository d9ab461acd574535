"""How each engine adds up the gradients of ranks and of their micro-batches in bfloat16, done by hand."""

from __future__ import annotations

import functools
from typing import Any

import torch

from training.parallel.fsdp2 import blocks


class Through(torch.autograd.Function):
    """The same tensors, whose gradients come back together."""

    @staticmethod
    def forward(ctx: Any, *inputs: Any) -> Any:
        return inputs

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        return gradients


def as_in(name: str, model: Any) -> None:
    """Have a bare model compute as under that engine."""
    if name == "fsdp2":  # its hooks sum up what a block gives back of an input before other blocks' is added
        for block in blocks(model):
            block.register_forward_pre_hook(lambda _, inputs: Through.apply(*inputs))


def summed(name: str, by_rank: list[list[Any]]) -> Any:
    """The mean over ranks of the sums over their micro-batches, in float32, rounded where that engine rounds."""
    turns, ranks = zip(*by_rank, strict=True), len(by_rank)
    if name == "fsdp2":
        return _sum([_sum([grad.float() for grad in turn]) / ranks for turn in turns])
    if name == "colossal-2":
        return _sum([_sum([(grad / ranks).float() for grad in turn]).bfloat16().float() for turn in turns])
    return _sum([(_sum(rank) / ranks).float() for rank in by_rank]).bfloat16().float()


def _sum(tensors: list[Any]) -> Any:
    return functools.reduce(torch.add, tensors)
