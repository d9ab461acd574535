"""Why a clip is not in a tier, in words: each range that its scores miss, and which tier sets that range.

The contact sheet shows it under a dropped clip. A number misses an end of a range; a score without a value misses every
range, and the words are then the reason why there is none.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from curation.contract import Kind
from curation.pyramid.queries import kinds
from curation.pyramid.queries.derived import value
from curation.pyramid.review.words import is_dropped
from curation.pyramid.tiering.retention import UNEXPLAINED
from curation.pyramid.tiering.tiers import Bound, Range, Tiers, holds, is_score


@dataclass(frozen=True, slots=True)
class Miss:
    """One range that a clip is outside of. `tier` is the loosest one whose own range it misses.

    `text` reads "motion 0.12 < 0.3" or "aesthetic: weights missing". `by` is the distance to the range's end as a share
    of that end (infinite where there is no value): near misses have a small one.
    """

    tier: str
    column: str
    text: str
    by: float


def misses(tiers: Tiers, tier: str, row: Mapping[str, Any]) -> list[Miss]:
    """What keeps the clip `row` out of `tier`; a person's word first, then measured misses, then missing values. Empty
    where it is in.
    """
    found: dict[str, Miss] = {}
    if is_dropped(row):
        found["decision"] = Miss(tiers.steps[0].name, "decision", f"dropped by {row.get('decision_by')}", 0.0)
    for step in tiers.steps[: tiers.position(tier) + 1]:
        for column, bounds in step.ranges.items():
            if column not in found and not holds(column, bounds, {**row, column: value(row, column)}):
                found[column] = _miss(step.name, column, bounds, row)
    return sorted(found.values(), key=lambda miss: math.isinf(miss.by))


def _miss(tier: str, column: str, bounds: Bound, row: Mapping[str, Any]) -> Miss:
    if isinstance(bounds, Kind):
        return Miss(tier, column, f"{kinds.kind_of(row)}, not {bounds}", 1.0)
    number = value(row, column)
    if number is None:
        return Miss(tier, column, f"{column}: {row.get(f'{column}_why') or UNEXPLAINED}", math.inf)
    if math.isnan(number):
        return Miss(tier, column, f"{column}: not a number", math.inf)
    low = bounds.low is not None and not Range(bounds.low, None).holds(number, is_score(column))
    end, sign = (bounds.low, "<") if low else (bounds.high, ">")
    assert end is not None, "a number outside a range is beyond one of its ends"
    text = f"{column} {told_apart(number, end)} {sign} {plain(end)}"
    return Miss(tier, column, text, abs(number - end) / (abs(end) or 1.0))


def told_apart(value: float, end: float) -> str:
    """`value` as `short` writes it, or with as many digits as show on which side of `end` it is: 0.2998 beside 0.3."""
    for text in (short(value), *(plain(value, digits) for digits in range(4, 18))):
        if (float(text) < end) == (value < end) and float(text) != end:
            return text
    return repr(value)


def short(value: float) -> str:
    """A number to look at: three digits, two of a small one, an exponent for what is all but nothing."""
    if 0 < abs(value) < 1e-4:
        return f"{value:.1g}"
    return plain(value, 2 if abs(value) < 0.01 else 3)


def plain(value: float, digits: int = 6) -> str:
    """A number in decimals with so many significant digits, no zeros at the end and no exponent: 1230, 0.0068."""
    if value == 0 or not math.isfinite(value):
        return f"{value:g}"
    places = max(0, digits - 1 - math.floor(math.log10(abs(value))))
    text = f"{value:.{places}f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def span(bounds: Bound) -> str:
    """A range in words: "0.3 to 20", "10 or more", "any value"; a kind by its name."""
    if isinstance(bounds, Kind):
        return str(bounds)
    low, high = (None if end is None else plain(end) for end in (bounds.low, bounds.high))
    if low is not None and high is not None:
        return f"{low} to {high}"
    if low is not None:
        return f"{low} or more"
    return "any value" if high is None else f"{high} or less"
