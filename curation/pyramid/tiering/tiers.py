"""Tiers: named conjunctions of ranges over score columns, from loose to strict. Thresholds live here and
nowhere else. A tier may also be of one kind of clip, images or videos; a range over what an image does not have says
nothing of images (`queries.kinds`). A clip that a person has dropped is in no tier, whatever its scores (`review`); one
that a person keeps has to pass all ranges as any other.

A tier includes all ranges of the tiers below it, so the tiers of a pyramid nest by construction. Plain data
and plain Python: the recipe builds it, stages ask it which clips to spend work on, `query` turns the same
ranges into a filter.

Scores are stored as float32, so a bound on a score is rounded to float32 before it is compared, here as in a
query: a clip whose score was written as 5.1 passes a threshold of 5.1.
"""

from __future__ import annotations

import ctypes
import json
import math
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from curation import nearest
from curation.contract import BEFORE_FORMAT_4, CLIPS, SCORES, Kind
from curation.pyramid.queries import kinds
from curation.pyramid.review.words import is_dropped

MEASURES = ("duration_s", "width", "height", "short_side", "long_side", "pixels", "fps", "frames")
"""Numbers of a clip that a tier may bound besides the scores, stored or `derived`."""

FACTS = (*MEASURES, kinds.COLUMN)
"""What is known of a clip before any score is: its measures, and its kind."""

JUDGED = (*FACTS, "decision")
"""What a row needs, beside its scores, for its tiers to be told."""

COLUMNS = (*SCORES, *FACTS)
"""What every pyramid's tiers may bound; those of a pyramid that has scores of its own, these too."""

TAKEN = frozenset(
    [
        *CLIPS.names,
        *BEFORE_FORMAT_4,
        *FACTS,
        *("uri", "uris", "source", "extra", "file_name"),  # of videos, and of exports
        *("order", "limit", "columns", "version", "output", "names", "count", "videos", "status", "reason", "timeout"),
        *("json", "help", "move", "unset", "tier"),  # options of commands that take columns as options
    ]
)
"""Names that a score of a user's own does not get, for they mean something beside the scores."""

_SCORE_NAME = re.compile(r"[a-z][a-z0-9_]{0,47}")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,31}")


def single(value: float) -> float:
    """`value` rounded to float32, the precision of the score columns (out of its range: infinite)."""
    return ctypes.c_float(value).value


@dataclass(frozen=True, slots=True)
class Range:
    """`low <= x <= high`, both ends included; None leaves an end open. Null and NaN are in no range."""

    low: float | None = None
    high: float | None = None

    def __post_init__(self) -> None:
        for name, value in (("low", self.low), ("high", self.high)):
            if value is None:
                continue
            object.__setattr__(self, name, _finite(name, value))
        if self.low is not None and self.high is not None and self.low > self.high:
            raise ValueError(f"range {self.low}..{self.high}: low must not be above high")

    def holds(self, value: float | None, rounded: bool = False) -> bool:
        """Whether `value` is inside; `rounded` compares as float32 (for scores)."""
        if value is None or value != value:
            return False
        low, high = self.low, self.high
        if rounded:
            value = single(value)
            low, high = (bound if bound is None else single(bound) for bound in (low, high))
        return (low is None or value >= low) and (high is None or value <= high)

    def __and__(self, other: Range) -> Range:
        """The intersection; a ValueError when nothing would be left."""
        lows = [bound for bound in (self.low, other.low) if bound is not None]
        highs = [bound for bound in (self.high, other.high) if bound is not None]
        return Range(max(lows, default=None), min(highs, default=None))

    @classmethod
    def of(cls, bounds: Any) -> Range:
        """From a Range or a `(low, high)` pair, as recipes, JSON and `Query.where` write it."""
        if isinstance(bounds, Range):
            return bounds
        if isinstance(bounds, (list, tuple)) and len(bounds) == 2:
            return cls(*bounds)
        raise ValueError(f"range {bounds!r}: a pair (low, high) is allowed, either of which may be empty")


Bound = Range | Kind
"""What a tier says of a column: a range of numbers; of the column `kind`, the one kind that it admits."""


def bound(column: str, value: Any) -> Bound:
    """What a tier says of `column`, as recipes, JSON and `Query.where` write it; ValueError where it cannot."""
    if column != kinds.COLUMN:
        return Range.of(value)
    if not isinstance(value, str) or value not in set(Kind):
        raise ValueError(f"{value!r:.80}: one of {', '.join(Kind)} is allowed")
    return Kind(value)


def both(one: Bound | None, other: Bound) -> Bound:
    """What satisfies both; a ValueError when nothing would be left."""
    if one is None:
        return other
    if isinstance(one, Range) and isinstance(other, Range):
        return one & other
    if one != other:
        raise ValueError(f"{one} and {other}")
    return one


def shown(bounds: Bound | None) -> str:
    """As a person writes it: `1..16`, `10..`, `image`; `none` where there is none."""
    if bounds is None or isinstance(bounds, Kind):
        return "none" if bounds is None else str(bounds)
    low = "" if bounds.low is None else f"{bounds.low:g}"
    high = "" if bounds.high is None else f"{bounds.high:g}"
    return f"{low}..{high}"


@dataclass(frozen=True, slots=True)
class Tier:
    """One step of the pyramid: its own ranges only (see `Tiers.effective` for those below included)."""

    name: str
    ranges: Mapping[str, Bound] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or not _NAME.fullmatch(self.name):
            raise ValueError(
                f"tier name {self.name!r}: up to 32 letters, digits, '_', '.', '-' are allowed, a letter or digit first"
            )
        ranges: dict[str, Bound] = {}
        for column, bounds in self.ranges.items():
            check_column(column, f"tier {self.name!r}")
            try:
                ranges[column] = bound(column, bounds)
            except ValueError as error:
                raise ValueError(f"tier {self.name!r}, {column}: {error}") from None
        object.__setattr__(self, "ranges", MappingProxyType(ranges))

    def __reduce__(self) -> tuple[type[Tier], tuple[str, dict[str, Bound]]]:
        return Tier, (self.name, dict(self.ranges))  # a read-only view does not pickle


def may_be_score(column: str) -> bool:
    """Whether a score of a user's own may be called so: neither it nor what stands beside it has another meaning."""
    taken = not TAKEN.isdisjoint((column, f"{column}_by", f"{column}_why")) or column.endswith(("_by", "_why"))
    return _SCORE_NAME.fullmatch(column) is not None and not taken


def is_score(column: str) -> bool:
    """Whether a column that a tier bounds is a score, which is kept as float32."""
    return column not in FACTS


def check_column(column: str, where: str, scores: Sequence[str] | None = None) -> None:
    """ValueError unless a tier may bound `column`. `scores`: those of the pyramid's own; None where they are not known
    and any name may be one.
    """
    if column in COLUMNS or (may_be_score(column) if scores is None else column in scores):
        return
    allowed = nearest.named(column, bounded_by(scores or ()), "allowed are")
    raise ValueError(f"{where}: no column {column!r} to set a range on; {allowed}")


def bounded_by(scores: Sequence[str]) -> tuple[str, ...]:
    """The columns that tiers of a pyramid with these scores of its own may bound."""
    return (*SCORES, *scores, *FACTS)


@dataclass(frozen=True, slots=True)
class Tiers:
    """The steps of a pyramid, loose to strict. `effective(name)` is what a clip must satisfy to be in tier
    `name`.
    """

    steps: tuple[Tier, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "steps", tuple(self.steps))
        names = self.names
        for name in names:
            if names.count(name) > 1:
                raise ValueError(f"tier name {name!r}: used {names.count(name)} times; names must differ")
        for name in names:
            self.effective(name)  # an empty intersection is a mistake of the recipe: say so now

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(step.name for step in self.steps)

    def check_columns(self, scores: Sequence[str]) -> None:
        """ValueError where a tier bounds what is no column of a pyramid that has these scores of its own."""
        for step in self.steps:
            for column in step.ranges:
                check_column(column, f"tier {step.name!r}", scores)

    def position(self, name: str) -> int:
        try:
            return self.names.index(name)
        except ValueError:
            raise ValueError(f"tier {name!r}: unknown; there are {', '.join(self.names) or 'none'}") from None

    def effective(self, name: str) -> dict[str, Bound]:
        """The ranges of tier `name` and of all below it, intersected; columns in the recipe's order."""
        ranges: dict[str, Bound] = {}
        for step in self.steps[: self.position(name) + 1]:
            for column, bounds in step.ranges.items():
                try:
                    ranges[column] = both(ranges.get(column), bounds)
                except ValueError:
                    raise ValueError(
                        f"tier {step.name!r}, {column}: {shown(bounds)} leaves nothing of "
                        f"{shown(ranges[column])} of the tiers below"
                    ) from None
        return ranges

    def admits(self, name: str, scores: Mapping[str, Any]) -> bool:
        """Whether a clip with these values is in tier `name`. A missing value satisfies no range, unless the clip is of
        a kind that never has one. One that a person has dropped is in none.
        """
        return not is_dropped(scores) and _all_hold(self.effective(name), scores)

    def reaches(self, name: str, scores: Mapping[str, Any], known: Collection[str]) -> bool:
        """Whether a clip may still end in tier `name`, judged by the columns in `known` only.

        Stages ask this before they spend work: OCR looks at clips that the frame measures let through, CLIP
        at those that OCR let through. A column in `known` whose value is null fails, as in `admits`.
        """
        ranges = self.effective(name)
        return not is_dropped(scores) and _all_hold(
            {column: ranges[column] for column in ranges if column in known}, scores
        )

    def highest(self, scores: Mapping[str, Any]) -> str | None:
        """The strictest tier that admits the clip, or None."""
        for step in reversed(self.steps):
            if self.admits(step.name, scores):
                return step.name
        return None

    def moved(self, name: str, column: str, bounds: Bound) -> Tiers:
        """The same tiers with one range of tier `name` set to `bounds` (an open range removes it)."""
        index = self.position(name)
        check_column(column, f"tier {name!r}")
        ranges = {**self.steps[index].ranges, column: bounds}
        if bounds == Range():
            del ranges[column]
        return Tiers((*self.steps[:index], Tier(name, ranges), *self.steps[index + 1 :]))

    def without(self, columns: Collection[str]) -> Tiers:
        """The same tiers, which say nothing of some columns."""
        return Tiers(
            tuple(
                Tier(step.name, {name: bounds for name, bounds in step.ranges.items() if name not in columns})
                for step in self.steps
            )
        )

    def to_json(self) -> str:
        return json.dumps(self.to_data())

    def to_data(self) -> list[dict[str, Any]]:
        """What `to_json` writes: a list of `{"name": ..., "ranges": {column: [low, high], "kind": "image"}}`."""
        return [
            {
                "name": step.name,
                "ranges": {
                    column: str(bounds) if isinstance(bounds, Kind) else [bounds.low, bounds.high]
                    for column, bounds in step.ranges.items()
                },
            }
            for step in self.steps
        ]

    @classmethod
    def from_json(cls, text: str) -> Tiers:
        return cls.from_data(json.loads(text))

    @classmethod
    def from_data(cls, data: Any) -> Tiers:
        if not isinstance(data, list):
            raise ValueError(f"tiers {data!r}: a list of {{name, ranges}} is allowed")
        steps: list[Tier] = []
        for entry in data:
            if not isinstance(entry, dict) or set(entry) != {"name", "ranges"} or not isinstance(entry["ranges"], dict):
                raise ValueError(f"tier {entry!r}: exactly the keys name and ranges are allowed")
            steps.append(Tier(entry["name"], entry["ranges"]))
        return cls(tuple(steps))


def _finite(name: str, value: Any) -> float:
    number = math.nan
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        # An integer beyond float's range cannot be compared with a score; repr of it may not even print.
        number = math.inf if isinstance(value, int) and value.bit_length() > 1023 else float(value)
    if not math.isfinite(number):
        shown = "a number beyond 1e308" if isinstance(value, int) and value.bit_length() > 1023 else repr(value)
        raise ValueError(f"range {name}={shown:.80}: a finite number or nothing is allowed")
    return number


def _all_hold(ranges: Mapping[str, Bound], row: Mapping[str, Any]) -> bool:
    return all(holds(column, bounds, row) for column, bounds in ranges.items())


def holds(column: str, bounds: Bound, row: Mapping[str, Any]) -> bool:
    """Whether a row, with its derived columns, is inside what a tier says of `column`."""
    if isinstance(bounds, Kind):
        return kinds.kind_of(row) == bounds
    return kinds.spared(column, row) or bounds.holds(row.get(column), is_score(column))
