"""The learning rate by step: constant between the steps at which it changes, after a warm-up."""

from __future__ import annotations

from dataclasses import dataclass

from curation.errors import UserError


@dataclass(frozen=True, slots=True)
class Schedule:
    """`rates`: (from this step on, rate), the first from step 0. `warmup`: steps over which it rises from nothing.

    UserError: no rates, the first not from step 0, steps that do not rise, a rate that is not positive.
    """

    rates: tuple[tuple[int, float], ...]
    warmup: int = 0

    def __post_init__(self) -> None:
        starts = [start for start, _ in self.rates]
        if not starts or starts[0] != 0 or starts != sorted(set(starts)) or not all(rate > 0 for _, rate in self.rates):
            shown = [list(pair) for pair in self.rates]
            raise UserError(f"schedule.rates = {shown} is no schedule", "write [[0, 5e-5], [40000, 3e-5]]")

    def rate(self, step: int) -> float:
        """The rate of the step of that number, counted from 0."""
        rate = next(rate for start, rate in reversed(self.rates) if step >= start)
        return rate * min(1.0, (step + 1) / self.warmup) if self.warmup else rate
