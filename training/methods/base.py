"""A method of training: from a micro-batch to a loss. The loop (`trainer`) knows no more of what is learnt than this.

MicroBatch -> prepare (on the host, in a thread that reads ahead) -> Inputs -> loss (on the device) -> Losses
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol, Self

from training.data.batches import MicroBatch

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from training.parallel.context import Context


class Inputs(Protocol):
    """What goes through the network. `tokens`: of all its samples, without text; `flops`: of training on them; both of
    whole samples where ranks share them."""

    @property
    def tokens(self) -> int: ...

    @property
    def flops(self) -> float: ...

    def to(self, device: torch.device) -> Self:
        """The same on a device; from pinned memory the copy does not wait."""
        ...

    def pinned(self) -> Self:
        """The same in pinned memory."""
        ...


@dataclass(frozen=True, slots=True)
class Losses:
    """`total`: a scalar with a gradient. `parts`: what it is made of, by name, without one. `per_sample_B`: of each
    sample; `times_B`: the noise level of each, None where a method has none. Where ranks share samples, what is meant
    is the mean over these ranks."""

    total: Tensor
    per_sample_B: Tensor
    times_B: Tensor | None = None
    parts: Mapping[str, Tensor] = field(default_factory=dict)


class Method(Protocol):
    """What is learnt, and from what."""

    @property
    def context(self) -> Context:
        """Who shares each sample: inputs and losses are of this rank's tokens."""
        ...

    def prepare(self, step: int, batch: MicroBatch) -> Inputs:
        """Pure: of the seed, the step and the samples. Runs in another thread than `loss`."""
        ...

    def loss(self, model: Any, inputs: Any, dtype: torch.dtype) -> Losses:
        """The loss of inputs that `prepare` made, the mean over samples. `dtype`: what the network computes in."""
        ...
