"""Which clips are copies of which: groups around their best member.

    pairs that are alike, and ranks of the clips -> [grouped] -> of each clip: which better one it is a copy of, if any

Clips are taken from the best to the worst. One is a copy when it is alike enough to a clip before it that is no copy
itself. So every copy is compared with the one that stays in its place, and groups never grow along chains: where A is
like B and B like C, but A not like C, then C stays.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Pair:
    """Two clips and how alike they are."""

    one: str
    other: str
    likeness: float


@dataclass(frozen=True, slots=True)
class Place:
    """Where a clip stands. `nearest`: of the clips before it that are no copies, the one it is most like, and how much;
    None and 0 where no pair has one. `is_copy`: whether that is enough.
    """

    nearest: str | None = None
    likeness: float = 0.0
    is_copy: bool = False


def grouped(pairs: Iterable[Pair], ranks: Mapping[str, tuple[float, ...]], accept: float) -> dict[str, Place]:
    """The place of each clip in `pairs`; clips in none are like nothing. `ranks`: the greater, the better, compared
    from left to right; of equals the lower id is better. A pair with a clip that has no rank does not count.
    """
    near: dict[str, list[tuple[str, float]]] = {}
    for pair in pairs:
        if pair.one != pair.other and pair.one in ranks and pair.other in ranks:
            near.setdefault(pair.one, []).append((pair.other, pair.likeness))
            near.setdefault(pair.other, []).append((pair.one, pair.likeness))
    places: dict[str, Place] = {}
    best_first = sorted(near, key=lambda clip_id: (*(-rank for rank in ranks[clip_id]), clip_id))
    order = {clip_id: number for number, clip_id in enumerate(best_first)}
    for clip_id in best_first:
        standing = [(other, like) for other, like in near[clip_id] if other in places and not places[other].is_copy]
        if standing:
            nearest, likeness = max(standing, key=lambda found: (found[1], -order[found[0]]))
            places[clip_id] = Place(nearest, likeness, likeness >= accept)
        else:
            places[clip_id] = Place()
    return places
