"""Distributions of numbers in two passes, neither of which holds the values.

First a `Sketch`: counts by the leading 15 bits of a number, which give quantiles within 1.6 % whatever the range is.
From it edges at round numbers, and in the second pass a `Histogram` with exact counts between them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Numbers = NDArray[np.float64]

QUANTILES = (0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99)
BINS = 40
_KEPT_BITS = 15  # sign, 8 of the exponent, 6 of the mantissa: steps of 1/64
_NOTHING = 1e-30
_STEPS = (1.0, 2.0, 2.5, 5.0, 10.0)


class Sketch:
    """How many numbers there are, the least, the most, their mean, and about where the quantiles lie."""

    def __init__(self) -> None:
        self._counts = np.zeros(1 << _KEPT_BITS, np.int64)
        self.count = 0
        self.least = math.inf
        self.most = -math.inf
        self._sum = 0.0

    def add(self, values: Numbers) -> None:
        """Finite numbers."""
        if not values.size:
            return
        self.count += values.size
        self.least, self.most = min(self.least, float(values.min())), max(self.most, float(values.max()))
        self._sum += float(values.sum())
        self._counts += np.bincount(_key(values), minlength=self._counts.size)

    @property
    def mean(self) -> float | None:
        return self._sum / self.count if self.count else None

    def quantile(self, share: float) -> float | None:
        """The number below which about this share of them lies; never outside the least and the most."""
        if not self.count:
            return None
        place = int(np.searchsorted(np.cumsum(self._counts), max(1, math.ceil(share * self.count))))
        return min(max(_value(place), self.least), self.most)


def _key(values: Numbers) -> NDArray[np.int64]:
    """The leading bits of each number, such that a greater number has a greater key."""
    bits = (values + 0.0).astype(np.float32).view(np.uint32)  # + 0.0: there is one zero
    ordered = np.where(bits >> 31, ~bits, bits | np.uint32(1 << 31))
    return (ordered >> (32 - _KEPT_BITS)).astype(np.int64)


def _value(key: int) -> float:
    """The number nearest to zero of those that have this key: a round one among them."""
    left = 32 - _KEPT_BITS
    positive = key >> (_KEPT_BITS - 1)
    ordered = np.uint32(key << left | (0 if positive else (1 << left) - 1))
    bits = ordered & np.uint32((1 << 31) - 1) if positive else ~ordered
    found = float(np.array(bits, np.uint32).view(np.float32))
    return 0.0 if abs(found) < float(np.finfo(np.float32).tiny) else found


def edges(low: float, high: float, whole: bool = False, most: int = BINS) -> Numbers:
    """At most `most` + 1 edges at equal, round steps around `low` to `high`. `whole`: of numbers that are integers."""
    wide = (high - low) / (most - 1)
    scale = max(abs(low), abs(high))
    if high - low <= scale * 1e-6 or scale < _NOTHING:  # one number: some room on each side
        wide = scale / most if scale >= _NOTHING else 1 / most
        low, high = low - 2 * wide, high + 2 * wide
    power = 10.0 ** math.floor(math.log10(wide))
    step = next(one * power for one in _STEPS if one * power >= wide * (1 - 1e-9))
    step = max(1.0, float(math.ceil(step))) if whole else step
    first, last = math.floor(low / step + 1e-9), math.floor(high / step + 1e-9) + 1
    digits = max(0, 1 - math.floor(math.log10(step)))
    return np.round(np.arange(first, last + 1) * step, digits).astype(np.float64)


@dataclass(slots=True)
class Histogram:
    """Counts of numbers between edges, each from its lower edge up to its upper one (exclusive); `below` the first edge
    and `above` the last.
    """

    edges: Numbers
    counts: NDArray[np.int64]
    below: int = 0
    above: int = 0

    @classmethod
    def between(cls, edges: Numbers) -> Histogram:
        return cls(edges, np.zeros(edges.size - 1, np.int64))

    @classmethod
    def of(cls, sketch: Sketch, whole: bool = False) -> Histogram:
        """An empty one from the first to the 99th percentile of a sketch, where nearly all numbers lie."""
        low, high = sketch.quantile(QUANTILES[0]), sketch.quantile(QUANTILES[-1])
        assert low is not None and high is not None, "there are no numbers"
        return cls.between(edges(low, high, whole))

    def add(self, values: Numbers, times: NDArray[np.int64] | None = None) -> None:
        """Count values, each once or as often as `times` says."""
        places = np.searchsorted(self.edges, values, side="right")
        found = np.zeros(self.edges.size + 1, np.int64)
        np.add.at(found, places, 1 if times is None else times)
        self.below += int(found[0])
        self.counts += found[1:-1]
        self.above += int(found[-1])
