"""Which rank is slow: against the fastest of the step, and against its own best.

Ranks of a step have about the same to compute, and wait for each other: so a slow one costs as much as all of them. A
slow step costs little and happens; a rank that stays slow has a fault (a clock that is held down, a card that others
use, a disk), and is told once, until it was in time again.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

SLOW = 1.5
LASTS = 10
_NOTHING_S = 0.005
"""Seconds within which ranks differ for no reason."""


@dataclass(frozen=True, slots=True)
class Slow:
    """`times`: what the fastest took, `own`: what it took itself at best; both as factors, of the last step."""

    rank: int
    times: float
    own: float

    @property
    def why(self) -> str:
        return (
            f"rank {self.rank} has taken more than {SLOW:g} times the fastest rank's time for {LASTS} steps: "
            f"{self.times:.1f} times now, {self.own:.1f} times its own best"
        )


class Paces:
    """Of all ranks, step after step."""

    def __init__(self, ranks: int) -> None:
        self._best = [float("inf")] * ranks
        self._behind = [0] * ranks

    def slow(self, seconds: Sequence[float], work: Sequence[float]) -> list[Slow]:
        """Those that have become slow. `seconds`: that each rank has computed in a step by itself, `work`: how much it
        had, in FLOPs."""
        pace = [time / amount if amount else 0.0 for time, amount in zip(seconds, work, strict=True)]
        found: list[Slow] = []
        fastest = min(pace)
        for rank, own in enumerate(pace):
            self._best[rank] = min(self._best[rank], own)
            behind = own > SLOW * fastest and (own - fastest) * work[rank] > _NOTHING_S
            self._behind[rank] = self._behind[rank] + 1 if behind else 0
            if self._behind[rank] == LASTS:
                times = own / fastest if fastest else float("inf")
                found.append(Slow(rank, times, own / self._best[rank] if self._best[rank] else float("inf")))
        return found
