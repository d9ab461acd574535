"""Odd steps: single timestamps that do not fit a rate that is constant otherwise.

Muxers make them: a first or last picture that lasts another time, a copy whose stamps were guessed, a clock that was
set. Used by `rates`, which looks for rates in the times without them. A *hop* moves all later pictures in time; a
*displaced* stamp is only its own picture's.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

_AROUND = 8
"""A step is compared with so many before and after it: what is odd among them is no other rate."""

_TOLERANCE = 0.04
_TICKS = 1.5
"""A step may differ from the usual one by this share of it, or by what rounding to ticks does."""

_COARSE = 0.25
"""Ticks of more intervals tell nothing of a single step."""

MILLISECOND = 1e-3
"""Times may be rounded to it even where ticks are finer: a copy from Matroska keeps them."""

LOST_FROM = 1.6
"""A step of so many intervals skips a picture; a shorter one is late."""

_LONGEST = 4.5
_ODD_IN = 32
_FEW = 4


@dataclass(frozen=True, slots=True)
class Straight:
    """Times without their odd steps. `drift`: seconds by which each picture really comes later than that."""

    times: np.ndarray
    drift: np.ndarray | None


def straightened(times: np.ndarray, tick: float) -> Straight:
    """Times (seconds, rising) without hops and displaced stamps; unchanged where more than a few steps are odd.

    `tick`: seconds to which the times are rounded.
    """
    plain, tick = Straight(times, None), max(tick, MILLISECOND)
    few = max(len(times) // _ODD_IN, min(_FEW, len(times) // (2 * _AROUND)))
    if few == 0 or tick > _COARSE * float(np.median(np.diff(times))):
        return plain
    smooth, displaced = _smoothed(times, tick)
    steps = np.diff(smooth)
    usual, tolerance = _usual(steps, tick)
    skipped = np.where(steps < LOST_FROM * usual, 1.0, np.rint(steps / usual))
    excess = steps - skipped * usual
    odd = (np.abs(excess) > tolerance) & (steps < _LONGEST * usual)
    hops = int(odd.sum())
    if hops + displaced > few or not hops + displaced:
        return plain
    drift = np.concatenate([[0.0], np.cumsum(np.where(odd, excess, 0.0))])
    return Straight(smooth - drift, drift if hops else None)


def _smoothed(times: np.ndarray, tick: float) -> tuple[np.ndarray, int]:
    """Times in which each displaced stamp stands in the middle of its neighbours, and how many there are."""
    steps = np.diff(times)
    usual, tolerance = _usual(steps, tick)
    odd = np.abs(steps - usual) > tolerance
    fits = np.abs(steps[:-1] + steps[1:] - 2 * usual[1:]) <= np.maximum(tolerance[1:], _TOLERANCE * usual[1:])
    at = np.flatnonzero((odd[:-1] | odd[1:]) & fits) + 1
    smooth = times.copy()
    smooth[at] = (times[at - 1] + times[at + 1]) / 2
    return smooth, len(at)


def _usual(steps: np.ndarray, tick: float) -> tuple[np.ndarray, np.ndarray]:
    """The usual step around each one, and by how much a step may differ from it. At least `2 * _AROUND` steps."""
    around = np.pad(steps, _AROUND, mode="reflect")
    median = np.median(sliding_window_view(around, 2 * _AROUND + 1), axis=1)
    tolerance = np.maximum(_TICKS * tick, _TOLERANCE * median)
    # Rounded steps have a mean that is none of them.
    ordinary = np.abs(steps - median) <= tolerance
    count = _sums(ordinary.astype(float))
    total = _sums(np.where(ordinary, steps, 0.0))
    return np.where(count > 0, total / np.maximum(count, 1), median), tolerance


def _sums(values: np.ndarray) -> np.ndarray:
    """The sum of the values around each one."""
    padded = np.pad(values, 2 * _AROUND, mode="reflect")
    total = np.concatenate([[0.0], np.cumsum(padded)])
    width = 4 * _AROUND + 1
    return total[width:] - total[:-width]


def followed(offsets: np.ndarray, slack: float) -> np.ndarray:
    """Whole numbers that follow `offsets` with a play of `slack`: what swings by less changes no number.

    They are off by at most `slack` + 0.5, and no number falls by more than one where no offset falls by more.
    """
    held, found = 0.0, np.empty(len(offsets), np.int64)
    for at, offset in enumerate(offsets.tolist()):
        held = min(max(held, offset - slack), offset + slack)
        found[at] = round(held)
    return found
