"""What each tier keeps, and what each of its filters loses: the drop ledger of a pyramid (`ziggurat tiers`).

Thresholds never delete anything, so all of it is computed from the scores, for the tiers in force or for any
others: one pass over the columns that they bound, batch by batch.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

import numpy as np
import pyarrow as pa

from curation.contract import NOT_OF_IMAGES, Kind
from curation.pyramid.queries import conditions, kinds
from curation.pyramid.queries.access import SCAN_ROWS
from curation.pyramid.queries.derived import DERIVED, DURATION, stored
from curation.pyramid.review.words import Decision
from curation.pyramid.store import Pyramid
from curation.pyramid.tiering.tiers import Bound, Range, Tiers, is_score, single

UNEXPLAINED = "no value and no reason"


@dataclass(frozen=True, slots=True)
class FilterLoss:
    """What one range of a tier drops. `alone`: of all clips, those whose value is outside; `alone_null`:
    those without a value, by the reason why. `after`, `after_null`: the same of the clips that the ranges
    before it have let pass. A range over what images do not have drops none of them.
    """

    column: str
    range: Bound
    alone: int
    after: int
    alone_null: Mapping[str, int]
    after_null: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class TierRow:
    """What a tier keeps: clips, hours and their shares of all clips; and its filters in the recipe's order. `dropped`:
    clips that pass all filters and that a person has dropped.

    `clips` plus what every filter drops after those before it (null or not), and `dropped`, is the number of all clips.
    """

    tier: str
    clips: int
    hours: float
    share_clips: float
    share_hours: float
    losses: tuple[FilterLoss, ...]
    dropped: int = 0


@dataclass(slots=True)
class _Loss:
    alone: int = 0
    after: int = 0
    alone_null: Counter[str] = field(default_factory=Counter)
    after_null: Counter[str] = field(default_factory=Counter)


def tier_report(
    pyramid: Pyramid,
    tiers: Tiers | None = None,
    version: int | str | None = None,
    among: Mapping[str, str] = MappingProxyType({}),
) -> list[TierRow]:
    """One row a tier, loose to strict; the tiers of the pyramid unless others are given. `among`: conditions (as of
    `Query.where`) on the clips that are counted.
    """
    tiers = tiers or pyramid.tiers
    ranges = {name: tiers.effective(name) for name in tiers.names}
    bounded = dict.fromkeys(column for columns in ranges.values() for column in columns)
    whys = {column: f"{column}_why" for column in bounded if is_score(column)}
    there = pyramid.dataset("clips", version).schema.names
    columns = [*stored([DURATION, *(name for name in bounded if name != kinds.COLUMN)]), *whys.values()]
    columns += [name for name in (kinds.COLUMN, "decision") if name in there]
    kept = {name: [0, 0.0] for name in ranges}
    by_people = dict.fromkeys(ranges, 0)
    losses = {name: {column: _Loss() for column in ranges[name]} for name in ranges}
    all_clips, all_seconds = 0, 0.0
    test = conditions.expression((conditions.condition(*one) for one in among.items()), there)
    scanner = pyramid.dataset("clips", version).scanner(columns=columns, filter=test, batch_size=SCAN_ROWS)
    for batch in scanner.to_batches():
        seconds, out = _numbers(batch, DURATION), _dropped(batch)
        all_clips += batch.num_rows
        all_seconds += float(np.nansum(seconds))
        for name in ranges:
            passing = _drop(batch, ranges[name], losses[name])
            left = passing & ~out
            by_people[name] += int((passing & out).sum())
            kept[name][0] += int(left.sum())
            kept[name][1] += float(np.nansum(seconds[left]))
    return [
        TierRow(
            name,
            int(clips),
            seconds / 3600,
            clips / max(1, all_clips),
            seconds / all_seconds if all_seconds else 0.0,
            tuple(
                FilterLoss(column, bounds, loss.alone, loss.after, dict(loss.alone_null), dict(loss.after_null))
                for (column, bounds), loss in zip(ranges[name].items(), losses[name].values(), strict=True)
            ),
            by_people[name],
        )
        for name, (clips, seconds) in kept.items()
    ]


def _drop(batch: pa.RecordBatch, ranges: Mapping[str, Bound], losses: Mapping[str, _Loss]) -> np.ndarray:
    """Which rows pass all ranges, counting on the way which range drops which."""
    left = np.ones(batch.num_rows, bool)
    kind = _kinds(batch)
    images = kind == str(Kind.IMAGE)
    for column, bounds in ranges.items():
        if isinstance(bounds, Kind):
            inside, null = kind == str(bounds), np.zeros(batch.num_rows, bool)
        else:
            values = _numbers(batch, column)
            spared = images & (column in NOT_OF_IMAGES)
            inside, null = _inside(values, bounds, is_score(column)) | spared, np.isnan(values) & ~spared
        outside = ~inside & ~null
        loss = losses[column]
        loss.alone += int(outside.sum())
        loss.after += int((outside & left).sum())
        loss.alone_null.update(_reasons(batch, column, null))
        loss.after_null.update(_reasons(batch, column, null & left))
        left &= inside
    return left


def _dropped(batch: pa.RecordBatch) -> np.ndarray:
    """Which rows a person has dropped; none where they are older than the column."""
    if "decision" not in batch.schema.names:
        return np.zeros(batch.num_rows, bool)
    return batch["decision"].fill_null("").to_numpy(zero_copy_only=False) == str(Decision.DROP)


def _kinds(batch: pa.RecordBatch) -> np.ndarray:
    """The kind of each row, as text; all are videos where they are older than the column."""
    if kinds.COLUMN not in batch.schema.names:
        return np.full(batch.num_rows, str(Kind.VIDEO))
    return kinds.told(batch[kinds.COLUMN]).to_numpy(zero_copy_only=False)


def _numbers(batch: pa.RecordBatch, column: str) -> np.ndarray:
    """A column as floats, NaN for null."""
    if (derived := DERIVED.get(column)) is not None:
        return derived.numbers(*(_numbers(batch, part) for part in derived.parts))
    values = batch[column]
    if pa.types.is_integer(values.type):
        values = values.cast(pa.float64())
    return values.to_numpy(zero_copy_only=False)


def _inside(values: np.ndarray, bounds: Range, is_score: bool) -> np.ndarray:
    inside = ~np.isnan(values)
    for bound, compare in ((bounds.low, np.greater_equal), (bounds.high, np.less_equal)):
        if bound is not None:
            inside &= compare(values, np.float32(single(bound)) if is_score else bound)
    return inside


def _reasons(batch: pa.RecordBatch, column: str, null: np.ndarray) -> dict[str, int]:
    count = int(null.sum())
    if not count or not is_score(column):
        return {UNEXPLAINED: count} if count else {}
    reasons = batch[f"{column}_why"].filter(pa.array(null)).fill_null(UNEXPLAINED)
    return {row["values"]: row["counts"] for row in reasons.value_counts().to_pylist()}
