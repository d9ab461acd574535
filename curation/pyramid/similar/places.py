"""What stands in `clips` about copies: whose place changes when some clips have been compared.

    a round's pairs + what stands of the clips in them -> [changed] -> rows to write, clips that have lost their place

Of a group the best clip stays: first the one in the strictest tier, whatever likeness and crowding the tiers ask for,
so that no tier loses a group of which it keeps a clip; then by the columns of the rule. A clip with a place has
`likeness_by` of the rule; one that is a copy has `duplicate_of`, its group's best. Where a better clip takes the place
of one that stood, or ranks have changed, the copies of that one lose theirs: they are compared again, for they may be
no copies of the new best, and copies of each other, or more like a third one.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from curation.contract import AMONG_OTHERS, LIKENESS
from curation.embed.groups import Pair, Place, grouped
from curation.pyramid.commits.merge import values
from curation.pyramid.queries.derived import stored
from curation.pyramid.tiering.tiers import JUDGED, Tiers

AGAIN = "again"
"""`likeness_by` of a clip that has lost its place."""
BY, WHY, BEST = f"{LIKENESS}_by", f"{LIKENESS}_why", "duplicate_of"
WRITTEN = ("clip_id", LIKENESS, BY, WHY, BEST)

Row = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Rule:
    """What is a copy, and which of several stays. `copy_from`: the likeness; `best`: columns, `-` before those of which
    the least is best; `by`: what `likeness_by` says of a clip that has its place by this rule.
    """

    copy_from: float
    best: tuple[str, ...]
    by: str


@dataclass(frozen=True, slots=True)
class Changed:
    """`rows`: to be written, with the columns `WRITTEN`. `deposed`: clips that stood and are copies now; all copies of
    them lose their place. `unmet`: pairs to be compared before this can be relied on.
    """

    rows: list[dict[str, Any]]
    deposed: list[str]
    unmet: list[tuple[str, str]]


def read(scores: Sequence[str]) -> list[str]:
    """The columns of `clips` that a row needs here, in a pyramid with these scores."""
    return list(dict.fromkeys(["clip_id", "video_id", BEST, LIKENESS, BY, *scores, *stored(JUDGED)]))


def changed(rows: Mapping[str, Row], new: Collection[str], pairs: Sequence[Pair], rule: Rule, tiers: Tiers) -> Changed:
    """What a round changes. `rows`: of the `new` clips, of all in `pairs`, and of the bests of those that are copies,
    as far as they are there.
    """
    before = {name: row[BEST] for name, row in rows.items() if name not in new and row[BEST]}
    told = [*pairs, *(Pair(name, best, rows[name][LIKENESS]) for name, best in before.items())]
    places = grouped(told, {name: rank(row, tiers, rule) for name, row in rows.items()}, rule.copy_from)
    deposed = {name for name in rows if name not in new and name not in before and _is_copy(places, name)}
    written = list[dict[str, Any]]()
    for name, row in rows.items():
        place = places.get(name, Place())
        is_moved = place.is_copy and place.nearest != before.get(name)
        if before.get(name) in deposed:
            written.append(unsettled(name))
        elif name in new or is_moved or place.likeness > (row[LIKENESS] or 0.0):
            written.append(of_place(name, place, rule))
    return Changed(written, sorted(deposed), sorted(_unmet(told, places, rule)))


def _is_copy(places: Mapping[str, Place], name: str) -> bool:
    return name in places and places[name].is_copy


def _unmet(pairs: Sequence[Pair], places: Mapping[str, Place], rule: Rule) -> set[tuple[str, str]]:
    """Clips that are as much like a copy as to be copies, each with what that one is a copy of where the two have not
    been compared: of many copies the best need not be among the nearest of each.
    """
    met = {frozenset((pair.one, pair.other)) for pair in pairs}
    near = [pair for pair in pairs if pair.likeness >= rule.copy_from]
    both_ways = (found for pair in near for found in ((pair.one, pair.other), (pair.other, pair.one)))
    bests = ((name, places[other].nearest) for name, other in both_ways if _is_copy(places, other))
    others = ((name, best) for name, best in bests if best is not None and best != name)
    return {pair for pair in others if frozenset(pair) not in met}


def rank(row: Row, tiers: Tiers, rule: Rule) -> tuple[float, ...]:
    """How good a clip is among its copies, the greater the better; what is missing is worst."""
    known = values(dict(row))
    highest = tiers.without(AMONG_OTHERS).highest(known)
    place = -1.0 if highest is None else float(tiers.position(highest))
    found = ((known.get(name.removeprefix("-")), -1.0 if name.startswith("-") else 1.0) for name in rule.best)
    return (place, *(float("-inf") if value is None else sign * float(value) for value, sign in found))


def has_lost_its_best(row: Row, best: Row | None, rule: Rule, tiers: Tiers) -> bool:
    """Whether the best of a copy's group is gone, has no place itself, or is no better than the copy by now."""
    if best is None or best[BEST] is not None or best[BY] != rule.by:
        return True
    order = [(*(-number for number in rank(one, tiers, rule)), one["clip_id"]) for one in (best, row)]
    return order[0] > order[1]


def of_place(clip_id: str, place: Place, rule: Rule) -> dict[str, Any]:
    """The row of a clip that has its place."""
    best = place.nearest if place.is_copy else None
    return dict(zip(WRITTEN, (clip_id, place.likeness, rule.by, None, best), strict=True))


def without(clip_id: str, why: str, rule: Rule) -> dict[str, Any]:
    """The row of a clip that cannot be compared."""
    return dict(zip(WRITTEN, (clip_id, None, rule.by, why, None), strict=True))


def unsettled(clip_id: str) -> dict[str, Any]:
    """The row of a clip that has lost its place."""
    return dict(zip(WRITTEN, (clip_id, None, AGAIN, "to be compared again", None), strict=True))
