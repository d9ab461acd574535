"""Bad data or bad hardware: a step is computed again where it was, and then each share by the next rank.

    as it came -> in place -> on the next rank

What is right in place was a passing fault. What is wrong wherever it is computed is the data's. What is right on one
rank and wrong on another is the hardware of the other. Where the losses are as they should be and the norm alone is
wrong each time, it is open: every rank takes part in the norm, so one that computes backward wrongly spoils it whoever
has which share, and it looks as bad data do. Batches, noise and dropout are functions of seed and step, so
sound machines give the same numbers; on one kind of CPU to the bit.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from math import isfinite

SAME = 1e-3
"""Losses that are so close, in proportion, are the same: other kernels and other orders of sums differ by less."""


class Verdict(StrEnum):
    """What was wrong with a step."""

    TRANSIENT = "transient"
    DATA = "data"
    HARDWARE = "hardware"
    OPEN = "open"


@dataclass(frozen=True, slots=True)
class Finding:
    """`batches`: the micro-batches that are bad data, by number. `ranks`: those whose hardware is bad, none where that
    cannot be told."""

    verdict: Verdict
    batches: tuple[int, ...] = ()
    ranks: tuple[int, ...] = ()


def computed_by(batch: int, ranks: int, shift: int = 0) -> int:
    """The rank that computes the micro-batch of that number where each takes the share of the one `shift` after it."""
    return (batch - shift) % ranks


def compare(
    here: Sequence[float],
    there: Sequence[float],
    ranks: int,
    usual: float | None,
    sound_there: bool,
    norm_alone: bool = False,
) -> Finding:
    """The losses of a step's micro-batches, as their ranks have them and as the ranks before those have them (`shift`
    1). `usual`: the mean loss of the steps before. `sound_there`: nothing was wrong with the step as a whole then.
    `norm_alone`: what is wrong here is not the losses."""
    liars: set[int] = set()
    for batch, (a, b) in enumerate(zip(here, there, strict=True)):
        if not same(a, b):
            liars.add(computed_by(batch, ranks, 0 if worse(a, b, usual) else 1))
    if liars or sound_there:
        return Finding(Verdict.HARDWARE, ranks=tuple(sorted(liars)))
    if norm_alone:
        return Finding(Verdict.OPEN, batches=tuple(range(len(here))))
    bad = [batch for batch, loss in enumerate(here) if not isfinite(loss)]
    if not bad and usual is not None:
        bad = [max(range(len(here)), key=here.__getitem__)] if max(here) > usual else []
    return Finding(Verdict.DATA, batches=tuple(bad) or tuple(range(len(here))))


def differing(first: Sequence[float], again: Sequence[float], ranks: int) -> tuple[int, ...]:
    """The ranks that gave other losses for the same micro-batches the second time."""
    return tuple(
        sorted({batch % ranks for batch, (a, b) in enumerate(zip(first, again, strict=True)) if not same(a, b)})
    )


def same(a: float, b: float) -> bool:
    if not isfinite(a) or not isfinite(b):
        return not isfinite(a) and not isfinite(b)
    return abs(a - b) <= SAME * max(abs(a), abs(b))


def worse(a: float, b: float, usual: float | None) -> bool:
    """Whether `a` is the wrong one of two: the one that is not finite, or the one further from what is usual."""
    if not isfinite(a) or not isfinite(b):
        return not isfinite(a)
    middle = 0.0 if usual is None else usual
    return abs(a - middle) > abs(b - middle)
