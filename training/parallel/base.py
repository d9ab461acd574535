"""An engine: the processes of a run, the weights that each holds, and how a gradient becomes an update.

    wrap -> [ micro_batch, backward ] ... -> clip -> agree -> update or clear

The loop (`trainer`) and the callbacks go through this interface alone, so another engine changes no line of theirs.
What is trained and saved are the *masters*: float32 weights that the optimizer changes. The network may compute in
another type, in a copy of them. An engine may hold a part of each master: `masters` are then its parts, and whatever
works number by number (an average, a copy) needs no more.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Protocol

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn
    from torch.distributed import ProcessGroup

Precision = Literal["float32", "bfloat16"]


@dataclass(frozen=True, slots=True)
class AdamW:
    """Of the report (spec section 4.3). The rate is the schedule's."""

    beta1: float = 0.9
    beta2: float = 0.999
    eps: float = 1e-15
    weight_decay: float = 0.0


class Engine(Protocol):
    """One of the processes that train together. Every rank makes the same calls in the same order."""

    name: str
    rank: int
    ranks: int
    device: torch.device
    dtype: torch.dtype
    """What the network computes in."""
    group: ProcessGroup | None
    """For checkpoints, apart from that of the gradients: a save that takes long must not end a step. None: alone."""

    def wrap(self, model: nn.Module, optimizer: AdamW) -> None:
        """Take a model, the first rank's where they differ, whose weights that have gradients are float32; from now on
        `model` is to be called."""
        ...

    @property
    def model(self) -> Any: ...

    def micro_batch(self, last: bool) -> AbstractContextManager[None]:
        """Round forward and backward of a micro-batch; `last` of this rank's in the step."""
        ...

    def backward(self, loss: Tensor) -> None:
        """Add the gradients of this rank's part of the step: the step's are the mean over ranks of their sums."""
        ...

    def clip(self, most: float) -> Tensor:
        """The norm of the whole gradient before clipping, a scalar, the same on all ranks; above `most` it is cut."""
        ...

    def update(self, rate: float) -> None:
        """A step of the optimizer."""
        ...

    def clear(self) -> None:
        """Forget the gradients."""
        ...

    def agree(self, values: Tensor) -> Tensor:
        """The sum over ranks of a float64 vector, the same on all."""
        ...

    def masters(self) -> Mapping[str, Tensor]:
        """The weights, or this rank's parts of them, by name."""
        ...

    def put(self, change: Callable[[str, Tensor], None]) -> None:
        """Change masters in place, one after another, and then what the network computes with."""
        ...

    def saved(self, values: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """`values`, shaped like `masters`, as DCP takes them: flat, and where a rank has a part of them, DTensors
        that know the part's place (`parts`).

        They share memory with `values`, so that loading into them changes these.
        """
        ...

    def moments(self) -> Mapping[str, Mapping[str, Tensor]]:
        """The optimizer's state, `exp_avg` and `exp_avg_sq`, by weight; there from the start."""
        ...

    def loaded(self, updates: int) -> None:
        """Masters and moments were loaded in place, as they were after so many updates."""
        ...

    def shapes(self) -> Mapping[str, tuple[int, ...]]:
        """Of the whole weights."""
        ...

    def barrier(self) -> None: ...

    def close(self) -> None: ...
