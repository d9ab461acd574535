"""Memory as a Gluon kernel sees it, for `gluon_machine`: descriptors, pointers, shared memory and its barriers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor


class Wrong(AssertionError):
    """What the kernel did that no kernel may do."""


@dataclass(frozen=True)
class Descriptor:
    """A TMA descriptor of (B, H, L, D) over a (B, L, H, D) tensor; tiles have `rows` rows, zeros past the end."""

    x_BLHD: Tensor
    rows: int
    layout: None = None

    @property
    def dtype(self) -> torch.dtype:
        return self.x_BLHD.dtype

    @property
    def block_type(self) -> SimpleNamespace:
        shape = [1, 1, self.rows, self.x_BLHD.shape[3]]
        return SimpleNamespace(shape=shape, nbytes=math.prod(shape) * self.x_BLHD.itemsize)

    def read(self, at: Sequence[int]) -> Tensor:
        batch, head, row, _ = at
        tile = self.x_BLHD.new_zeros(self.block_type.shape)
        part = self.x_BLHD[batch, row : row + self.rows, head]
        tile[0, 0, : len(part)] = part
        return tile


@dataclass(frozen=True)
class Pointer:
    """Into the flat memory of a tensor, at one element or (`at` a tensor) at many."""

    flat: Tensor
    at: Any

    @classmethod
    def to(cls, x: Tensor) -> Pointer:
        whole = x.untyped_storage().nbytes() // x.itemsize
        return cls(x.as_strided((whole,), (1,), 0), x.storage_offset())

    @property
    def dtype(self) -> SimpleNamespace:
        return SimpleNamespace(element_ty=self.flat.dtype)

    def __add__(self, more: Any) -> Pointer:
        return Pointer(self.flat, self.at + more)


@dataclass(frozen=True)
class Shared:
    """A view of shared memory."""

    data: Tensor

    @property
    def shape(self) -> list[int]:
        return list(self.data.shape)

    @property
    def dtype(self) -> torch.dtype:
        return self.data.dtype

    def index(self, i: int) -> Shared:
        assert 0 <= i < len(self.data)
        return Shared(self.data[i])

    def reshape(self, shape: list[int]) -> Shared:
        return Shared(self.data.view(shape))

    def permute(self, order: tuple[int, ...]) -> Shared:
        return Shared(self.data.permute(order))

    def load(self, layout: Any) -> Tensor:
        del layout
        return self.data.clone()

    def store(self, value: Tensor) -> None:
        self.data.copy_(value)


@dataclass
class Barrier:
    """`phase`: rounds that are over. One is over when `missing` arrivals and `bytes_missing` have come."""

    count: int = 0
    missing: int = 0
    bytes_missing: int = 0
    phase: int = 0

    def come(self, arrivals: int, nbytes: int = 0) -> None:
        self.missing -= arrivals
        self.bytes_missing -= nbytes
        if self.missing < 0 or (self.missing == 0 and self.bytes_missing < 0):
            raise Wrong("more arrivals or bytes at a barrier than it expects")
        if self.missing == self.bytes_missing == 0:
            self.phase, self.missing = self.phase + 1, self.count


class Barriers(list[Barrier]):
    index = list.__getitem__  # type: ignore[assignment]


def allocate(dtype: torch.dtype, shape: list[int], layout: Any) -> Shared | Barriers:
    """64-bit integers are barriers."""
    del layout
    if dtype is torch.int64:
        return Barriers(Barrier() for _ in range(shape[0]))
    return Shared(torch.full(shape, torch.nan, dtype=dtype))


def load(pointer: Pointer, mask: Tensor, other: float) -> Tensor:
    mask, at = torch.broadcast_tensors(mask, pointer.at)
    value = torch.full(at.shape, other, dtype=pointer.flat.dtype)
    value[mask] = pointer.flat[at[mask]]
    return value


def store(pointer: Pointer, value: Tensor, mask: Tensor) -> None:
    mask, at = torch.broadcast_tensors(mask, pointer.at)
    pointer.flat[at[mask]] = value[mask]
