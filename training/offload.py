"""Activations that wait on the host: what a recomputed block keeps for its backward pass, its inputs.

    forward     input -> [copied in a stream of its own] -> pinned memory; the device's is free when that is done
    backward    pinned memory -> [copied back while the block behind it computes] -> device -> block again -> gradients

A copy keeps its strides: another order of the same numbers in memory makes kernels add up in another order, and
gradients differ in their last bits. torch's own `save_on_cpu(pin_memory=True)` loses them.
"""

from __future__ import annotations

import weakref
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks

_Layout = tuple[torch.Size, tuple[int, ...], torch.dtype]


@dataclass(slots=True)
class _Kept:
    """One tensor. `there`: its copy on the host, until it is fetched. `back`: the copy of that on its device."""

    block: _Block
    device: torch.device
    there: Tensor | None
    back: Tensor | None = None


@dataclass(slots=True, weakref_slot=True)
class _Block:
    """The tensors of a block, and the block before it: the next one that a backward pass asks for. Only the graph of
    a backward pass holds them, so they go when it goes. `arrived`: an event, when all of them are back."""

    before: weakref.ref[_Block] | None
    kept: list[_Kept] = field(default_factory=list)
    arrived: Any = None


class Offload:
    """For the blocks of one network. Buffers are allocated once and used again. `moved`: bytes copied to the host."""

    def __init__(self) -> None:
        self._buffers: defaultdict[_Layout, list[Tensor]] = defaultdict(list)
        self._stream: torch.cuda.Stream | None = None
        self._last: weakref.ref[_Block] | None = None
        self.moved = 0

    @contextmanager
    def inputs(self, *tensors: Tensor) -> Iterator[None]:
        """In this block what is kept of `tensors` for a backward pass, which may come once, is kept on the host."""
        block = _Block(self._last)
        wanted = {tensor.untyped_storage().data_ptr() for tensor in tensors}

        def pack(tensor: Tensor) -> Tensor | _Kept:
            # Not what else is kept: tables that all blocks share, and views of weights, are there anyway.
            if tensor.untyped_storage().data_ptr() not in wanted or 0 in tensor.stride():
                return tensor
            return self._send(tensor, block)

        with saved_tensors_hooks(pack, self._back):
            yield
        self._last = weakref.ref(block)

    def _send(self, tensor: Tensor, block: _Block) -> _Kept:
        there = self._buffer(tensor)
        self.moved += tensor.nbytes
        if tensor.is_cuda:
            stream = self._beside(tensor.device)
            stream.wait_stream(torch.cuda.current_stream(tensor.device))
            with torch.cuda.stream(stream):
                there.copy_(tensor, non_blocking=True)
            tensor.record_stream(stream)
        else:
            there.copy_(tensor)
        kept = _Kept(block, tensor.device, there)
        block.kept.append(kept)
        return kept

    def _back(self, packed: Tensor | _Kept) -> Tensor:
        if isinstance(packed, Tensor):
            return packed
        block = packed.block
        self._fetch(block)
        if block.arrived is not None:
            torch.cuda.current_stream(packed.device).wait_event(block.arrived)
        tensor, packed.back = packed.back, None
        assert tensor is not None, "a backward pass through offloaded blocks comes once"
        if tensor.is_cuda:
            tensor.record_stream(torch.cuda.current_stream(packed.device))
        before = block.before() if block.before else None
        if before is not None:
            self._fetch(before)
        return tensor

    def _fetch(self, block: _Block) -> None:
        """Begin to copy a block's tensors back, if that has not begun."""
        for kept in block.kept:
            if kept.there is None:
                continue
            there, kept.there = kept.there, None
            if kept.device.type != "cuda":
                kept.back = there
                continue
            stream = self._beside(kept.device)
            with torch.cuda.stream(stream):
                kept.back = torch.empty_strided(there.shape, there.stride(), dtype=there.dtype, device=kept.device)
                kept.back.copy_(there, non_blocking=True)
            block.arrived = stream.record_event()
            # The next copy into it is in the same stream, behind this one.
            self._buffers[_layout(there)].append(there)

    def _buffer(self, tensor: Tensor) -> Tensor:
        free = self._buffers[_layout(tensor)]
        if free:
            return free.pop()
        return torch.empty_strided(tensor.shape, tensor.stride(), dtype=tensor.dtype, pin_memory=tensor.is_cuda)

    def _beside(self, device: torch.device) -> torch.cuda.Stream:
        if self._stream is None:
            self._stream = torch.cuda.Stream(device)
        return self._stream


def _layout(tensor: Tensor) -> _Layout:
    return tensor.shape, tensor.stride(), tensor.dtype
