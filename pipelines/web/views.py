"""What the templates show, as plain values: cards of clips, rows of tiers, fields of bounds. No HTML is made here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from curation.contract import Kind
from curation.pyramid.queries.histogram import histogram
from curation.pyramid.store import Pyramid
from curation.pyramid.tiering.retention import FilterLoss, TierRow
from curation.pyramid.tiering.tiers import shown as shown_bound
from pipelines.render.review import DONE, whose
from pipelines.web import drawing
from pipelines.web.state import State, shown

COLUMNS = (
    *("clip_id", "source", "start_s", "duration_s", "width", "height", "kind", "caption", "tier", "media"),
    *("decision", "decision_by", "decided_at", "tagged"),
)
BINS = 48
_STEPS = 400
"""Of a handle; each a little shorter than that, so that the last one does not fall beyond the end."""
_TIMES = (("h", 3600), ("min", 60))


@dataclass(frozen=True, slots=True)
class Card:
    """A clip in a grid. `told`: in words what is seen, for who does not see it. `decision`, `decided`: what a person
    has decided, and the same in words with who and when; "" where nobody has.
    """

    id: str
    told: str
    caption: str
    scores: tuple[tuple[str, str], ...]
    tier: str
    has_film: bool
    is_image: bool
    length: str
    size: str
    similarity: str = ""
    decision: str = ""
    decided: str = ""
    tags: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Field:
    """A bound over one column: what is typed, between which ends it is dragged, and how the values lie."""

    column: str
    value: str
    low: str
    high: str
    least: str
    most: str
    step: str
    picture: Markup
    wrong: str


def card(row: Mapping[str, Any], scores: Sequence[str]) -> Card:
    image = row["kind"] == Kind.IMAGE
    place = "" if image else f" at {row['start_s'] or 0:.1f} s"
    found = tuple((name, f"{row[name]:.3g}") for name in scores if row.get(name) is not None)
    alike = row.get("similarity")
    return Card(
        row["clip_id"],
        row["caption"] or f"{'image' if image else 'clip'} of {row['source']}{place}",
        row["caption"] or "",
        found,
        row["tier"] or "",
        row["media"] is not None,
        image,
        "" if image else f"{row['duration_s'] or 0:.1f} s",
        f"{row['width']}x{row['height']}" if row["width"] else "",
        "" if alike is None else f"{alike:.3f}",
        row["decision"] or "",
        _decided(row),
        tuple(row["tagged"].split(",")) if row["tagged"] else (),
    )


def _decided(row: Mapping[str, Any]) -> str:
    """Who decided what, and when: `kept by anna at 2026-12-01 13:50 UTC`."""
    if row["decision"] is None:
        return ""
    return f"{DONE[row['decision']]} {whose(row['decision_by'], row['decided_at'])}"


def fields(pyramid: Pyramid, state: State) -> list[Field]:
    """One for every score that some clip has, and for the length."""
    ranges, columns = state.ranges(pyramid), [*pyramid.scores, "duration_s", "short_side"]
    found: list[Field] = []
    for column in columns:
        if column not in pyramid.dataset("clips").schema.names and column in pyramid.scores:
            continue
        values = histogram(state.query(pyramid, without=column), column, BINS)
        if not sum(values.counts) + values.below + values.above and column not in ranges:
            continue
        low, high = shown(ranges.get(column))
        ends = (values.edges[0], values.edges[-1])
        found.append(
            Field(
                column,
                shown_bound(ranges[column]) if column in ranges and column != "kind" else "",
                low,
                high,
                f"{ends[0]:.9g}",
                f"{ends[1]:.9g}",
                f"{(ends[1] - ends[0]) / _STEPS * (1 - 1e-6):.9g}",
                drawing.histogram(values, ranges.get(column)),
                state.wrong.get(column, ""),
            )
        )
    return found


@dataclass(frozen=True, slots=True)
class Step:
    """A tier in the table: what it keeps, how much more or less than with the bounds in force, what each of its
    filters drops, and what a person has dropped of the rest.
    """

    name: str
    clips: int
    hours: str
    more: str
    losses: tuple[Loss, ...]
    dropped: int = 0


@dataclass(frozen=True, slots=True)
class Loss:
    column: str
    range: str
    after: int
    alone: int
    null: int


def steps(now: Sequence[TierRow], tried: Sequence[TierRow]) -> list[Step]:
    found: list[Step] = []
    for before, row in zip(now, tried, strict=True):
        change = row.clips - before.clips
        found.append(
            Step(
                row.tier,
                row.clips,
                length(row.hours * 3600),
                f"{change:+,}" if change else "",
                tuple(_loss(one) for one in row.losses),
                row.dropped,
            )
        )
    return found


def _loss(one: FilterLoss) -> Loss:
    null = sum(one.after_null.values())
    return Loss(one.column, shown_bound(one.range), one.after, one.alone, null)


def length(seconds: float) -> str:
    """As a person says it: `3.2 h`, `12 min`, `8 s`."""
    for unit, size in _TIMES:
        if seconds >= size:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds:.0f} s"
