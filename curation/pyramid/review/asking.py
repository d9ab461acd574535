"""Conditions of a query on what people have said: `decision=keep,null`, `tagged=sunset,-blurry`.

As the other conditions (`queries.conditions`, which calls this): each is one Arrow expression of typed literals, and
judges a row in plain Python by the same rules. Rows of a pyramid that is older than the columns have been told nothing.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from operator import or_
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from curation.errors import UserError
from curation.pyramid.review import words
from curation.pyramid.review.words import NULL, Decision

WORDED = ("decision", "tagged")
"""The columns whose conditions are of this module."""


@dataclass(frozen=True, slots=True)
class Decided:
    """Of clips with one of some decisions, and with `undecided` those without any."""

    values: tuple[str, ...]
    undecided: bool
    column: str = "decision"

    def holds(self, row: Mapping[str, Any]) -> bool:
        found = row.get(self.column)
        return self.undecided if found is None else found in self.values

    def expression(self, there: Collection[str]) -> pc.Expression:
        if self.column not in there:
            return pc.scalar(self.undecided)
        named = pc.field(self.column).isin(pa.array(self.values, pa.string()))
        return named | pc.field(self.column).is_null() if self.undecided else named


UNDROPPED = Decided((str(Decision.KEEP),), True)
"""What every tier asks for: nobody has dropped the clip."""


@dataclass(frozen=True, slots=True)
class Tagged:
    """Of clips with one of the tags `some`, or with `untagged` without any tag (neither: whatever they have), and with
    none of the tags `none`.
    """

    some: tuple[str, ...]
    untagged: bool
    none: tuple[str, ...]
    column: str = "tagged"

    def holds(self, row: Mapping[str, Any]) -> bool:
        found = {*words.tags_of(row)}
        wanted = not (self.some or self.untagged) or not found.isdisjoint(self.some) or (self.untagged and not found)
        return wanted and found.isdisjoint(self.none)

    def expression(self, there: Collection[str]) -> pc.Expression:
        if self.column not in there:
            return pc.scalar(self.untagged or not self.some)
        null = pc.field(self.column).is_null()
        parts = [*map(_has, self.some), *([null] if self.untagged else [])]
        wanted = reduce(or_, parts) if parts else pc.scalar(True)
        return wanted & (null | ~reduce(or_, map(_has, self.none))) if self.none else wanted


def decided(value: Any) -> Decided:
    """What `where(decision=value)` means: a decision, None for none, or several of them: `keep,null`."""
    parts = _parts("decision", value)
    return Decided(tuple(sorted({str(words.decision(one)) for one in parts if one != NULL})), NULL in parts)


def tagged(value: Any) -> Tagged:
    """What `where(tagged=value)` means: one of some tags, None for no tag; `-tag`: without it."""
    parts = _parts("tagged", value)
    none = words.tags(one.removeprefix("-") for one in parts if one.startswith("-"))
    some = words.tags(one for one in parts if not one.startswith("-") and one != NULL)
    return Tagged(some, NULL in parts, none)


def condition(column: str, value: Any) -> Decided | Tagged:
    """A condition on one of `WORDED`."""
    return decided(value) if column == "decision" else tagged(value)


def _parts(column: str, value: Any) -> list[str]:
    """The parts of a value: a text with commas, or several texts; None is the text null."""
    given: Iterable[Any] = value if isinstance(value, Sequence | set) and not isinstance(value, str) else (value,)
    texts = [NULL if one is None else one for one in given]
    if not all(isinstance(one, str) for one in texts):
        raise UserError(f"{column}={value!r:.80} is not a text", "give a text, or several")
    parts = [part.strip() for one in texts for part in one.split(",") if part.strip()]
    if not parts or len(parts) > words.MOST_TAGS:
        raise UserError(f"{column}={value!r:.80} names nothing, or too much", f"give 1 to {words.MOST_TAGS} words")
    return parts


def _has(tag: str) -> pc.Expression:
    """That a text of tags has this one among them."""
    column = pc.field("tagged")
    found = (column == pa.scalar(tag)) | pc.starts_with(column, f"{tag},")  # type: ignore[operator]
    return found | pc.match_substring(column, f",{tag},") | pc.ends_with(column, f",{tag}")  # type: ignore[operator]
