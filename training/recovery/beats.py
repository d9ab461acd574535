"""Heartbeats by step: which rank has fallen silent.

A process that dies is seen by whoever started it. One that is stopped, or that hangs while the others wait for it in a
collective, is not: gloo waits for half an hour, and the hung process answers everything else. So each rank tells where
it is in which step (`Mark`), and `Beats` judges: it knows no clock and no Ray.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, NamedTuple

_OWN_PACE = 10.0


class Mark(NamedTuple):
    """Where a rank is; a later place is a larger tuple. `place`: what it has passed of the step: 0 nothing, then one
    more with each micro-batch and each thing after them. `aside`: beside the step itself, where a validation or a save
    may take long, or samples that are encoded meanwhile."""

    step: int
    place: int
    aside: bool = False


@dataclass(frozen=True, slots=True)
class Silent:
    """A rank that is lost. `for_s`: how long. `what`: what it has not done."""

    rank: int
    at: Mark
    for_s: float
    what: Literal["was not heard of", "has not moved, and others wait for it", "has not moved, nor has any other"]

    @property
    def why(self) -> str:
        return f"rank {self.rank} in step {self.at.step + 1} {self.what}, for {self.for_s:.0f} s"


@dataclass(slots=True)
class _Rank:
    mark: Mark
    moved: float
    heard: float


class Beats:
    """Those of the ranks of one group. `silence_s`: how long a rank may be silent, and how long it may stay where it is
    while another one is further; this one grows with the run, to ten times the longest that any rank has stayed
    anywhere and then gone on, aside excepted. `aside_s`: how long it may stay aside, where that is more. Where all of
    them stay at the same place nobody can be named, and it takes twice as long.
    """

    def __init__(self, silence_s: float, aside_s: float = 0.0) -> None:
        self._silence_s, self._aside_s, self._longest = silence_s, aside_s, 0.0
        self._ranks: dict[int, _Rank] = {}

    def heard(self, rank: int, mark: Mark, now: float) -> None:
        known = self._ranks.get(rank)
        if known is None:
            self._ranks[rank] = _Rank(mark, now, now)
            return
        known.heard = now
        if mark != known.mark:
            if not known.mark.aside:
                self._longest = max(self._longest, now - known.moved)
            known.mark, known.moved = mark, now

    def left(self, rank: int) -> None:
        """The rank has ended, as it should."""
        self._ranks.pop(rank, None)

    @property
    def marks(self) -> Mapping[int, Mark]:
        return {rank: one.mark for rank, one in self._ranks.items()}

    def silent(self, now: float) -> list[Silent]:
        """Ranks that are lost, the one that is furthest behind first."""
        if not self._ranks:
            return []
        furthest = max(one.mark for one in self._ranks.values())
        patience = max(self._silence_s, _OWN_PACE * self._longest)
        stuck = all(one.mark == furthest for one in self._ranks.values())
        found: list[Silent] = []
        for rank, one in sorted(self._ranks.items(), key=lambda item: item[1].mark):
            unheard, still = now - one.heard, now - one.moved
            allowed = max(patience, self._aside_s) if one.mark.aside else patience
            if unheard > self._silence_s:
                found.append(Silent(rank, one.mark, unheard, "was not heard of"))
            elif one.mark < furthest and still > allowed:
                found.append(Silent(rank, one.mark, still, "has not moved, and others wait for it"))
            elif stuck and still > 2 * allowed:
                found.append(Silent(rank, one.mark, still, "has not moved, nor has any other"))
        return found
