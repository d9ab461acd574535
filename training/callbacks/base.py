"""A callback: what the loop calls at its few moments, in the order of the list.

The order counts: averages first, then validation, which exchanges weights for them, then checkpoints, which begin to
copy weights and must find them settled, then the log, which writes what the others have put into the report.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from training.methods.base import Losses
from training.tally import Tally

if TYPE_CHECKING:
    from training.trainer import Progress


@dataclass(frozen=True, slots=True)
class Report:
    """A step as it went, over all ranks. `seconds`: all of it, `computed`: forward, backward and norm, both of this
    rank; `waited`: for data, of the rank that waited longest. `finite` False: it was skipped, and `blamed` are its
    samples; `known`: it stood in the run's list of such steps. `told`: sums of callbacks. `values`: what callbacks have
    to log. `notes`: what a person should know of it."""

    step: int
    loss: float
    norm: float
    rate: float
    finite: bool
    blamed: tuple[int, ...]
    samples: int
    tokens: int
    flops: float
    seconds: float
    computed: float
    waited: float
    told: Mapping[str, list[float]]
    known: bool = False
    values: dict[str, float] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


class Callback(Protocol):
    """Every method is called on every rank."""

    def begin(self, progress: Progress) -> None:
        """Before the first step of this process."""

    def before_inputs(self) -> None:
        """A micro-batch's inputs are waited for, where they are not there yet."""

    def before_forward(self, flops: float) -> None:
        """A micro-batch's inputs are there; `flops`: of training on them."""

    def before_backward(self) -> None:
        """Its loss is there; backward of the last one may wait for other ranks."""

    def after_loss(self, losses: Losses, tally: Tally) -> None:
        """After each micro-batch, on the device: add to `tally`, look at nothing."""

    def before_update(self) -> None:
        """Just before weights change: by the optimizer, or as validation exchanges them at the end."""

    def after_step(self, progress: Progress, report: Report) -> None:
        """After each step, the skipped ones too."""

    def end(self, progress: Progress, stopped: bool) -> None:
        """After the last step, or the one at which the run was asked to stop: then it is to leave soon."""

    def close(self) -> None:
        """Whatever happened: let go of what is held."""


class Quiet:
    """A callback that does nothing: others say what they do."""

    def begin(self, progress: Progress) -> None: ...
    def before_inputs(self) -> None: ...
    def before_forward(self, flops: float) -> None: ...
    def before_backward(self) -> None: ...
    def after_loss(self, losses: Losses, tally: Tally) -> None: ...
    def before_update(self) -> None: ...
    def after_step(self, progress: Progress, report: Report) -> None: ...
    def end(self, progress: Progress, stopped: bool) -> None: ...
    def close(self) -> None: ...
