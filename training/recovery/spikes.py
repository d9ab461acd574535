"""A loss or a norm that leaps out of what it has been: by its rolling deviation."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from math import isfinite
from statistics import fmean, pstdev

_LEAST = 0.01
"""Of the mean: values that hardly differ have hardly a deviation."""


@dataclass
class Rolling:
    """The last `window` finite values. `deviations`: a value that is so many above their mean is a spike; 0: none is.
    Spikes count from then on, too, so that a level that has risen for good is soon the usual one."""

    window: int
    deviations: float
    _values: deque[float] = field(init=False)

    def __post_init__(self) -> None:
        self._values = deque(maxlen=self.window)

    def add(self, values: Iterable[float]) -> None:
        self._values.extend(value for value in values if isfinite(value))

    @property
    def usual(self) -> float | None:
        """The mean; None as long as half of the window is missing."""
        return fmean(self._values) if len(self._values) >= max(2, self.window // 2) else None

    def leaps(self, value: float) -> bool:
        """Whether it is a spike. A value that is not finite is none: that is told by itself."""
        usual = self.usual
        if usual is None or not self.deviations or not isfinite(value):
            return False
        deviation = max(pstdev(self._values), _LEAST * abs(usual))
        return value - usual > self.deviations * deviation
