"""How a query finds its rows: by indexes where few rows satisfy a condition, else by one pass over score
columns.

Measured on 10 M rows: an index gives the row ids of a condition that 2 % satisfy in 15 ms, but reading three
columns of 3,000 scattered rows takes 70 ms, and a pass over three whole columns 130 ms (an index on a wide
range: seconds). So indexes are asked for row ids only, for narrow conditions only; the other conditions are
then checked on a few candidates, and when that is not enough a pass decides. Which conditions are narrow,
`Statistics` estimates: quantiles that `upkeep` keeps in the metadata of `clips`. Rows come in the order of
their addresses whichever way was taken.

Images pass a range over what they do not have. The index of such a column is asked for nulls as well, and the kind is
then checked.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import reduce
from operator import and_
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from curation.pyramid.queries import conditions
from curation.pyramid.queries.conditions import Between, Condition, OneOf, Present
from curation.pyramid.queries.derived import DERIVED, stored
from curation.pyramid.review.asking import UNDROPPED
from curation.pyramid.tiering.tiers import Range

if TYPE_CHECKING:
    import lance

METADATA_KEY = "ziggurat.statistics"
KEYS = ("clip_id", "video_id")
"""Text columns with an index; a few values of them are narrow whatever the statistics."""
_TAIL = (1e-5, 3e-5, 1e-4, 3e-4, 1e-3, 3e-3, 0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.4)
PROBABILITIES = (0.0, *_TAIL, 0.5, *(1 - p for p in reversed(_TAIL)), 1.0)
_NARROW_ROWS = 200_000
_NARROW_SHARE = 0.03
"""An index is asked for a condition that about so many rows, and such a share of them, satisfy at most."""
FETCHED = 5000
"""Scattered rows that are read rather than found by a pass, at most, where a caller wants all of them."""
_WALK = 1500
"""Scattered rows that are read to check the conditions that no index answers, at most: about 30 ms."""
SCAN_ROWS = 65_536
_GLANCE = 8192


@dataclass(frozen=True, slots=True)
class Statistics:
    """Number of rows, and of each indexed number column the values at PROBABILITIES (nulls left out) and the share of
    rows that are null.
    """

    rows: int
    points: Mapping[str, tuple[float, ...]]
    nulls: Mapping[str, float] = field(default_factory=dict)

    def to_json(self) -> str:
        points = {name: list(values) for name, values in self.points.items()}
        return json.dumps({"rows": self.rows, "points": points, "nulls": dict(self.nulls)})

    @classmethod
    def of(cls, dataset: lance.LanceDataset) -> Statistics:
        """What the dataset's metadata holds; no column is known before the first `upkeep`."""
        text = dataset.metadata.get(METADATA_KEY)
        if text is None:
            return cls(0, {})
        data = json.loads(text)
        points = {name: tuple(values) for name, values in data["points"].items()}
        return cls(
            data["rows"],
            {name: values for name, values in points.items() if len(values) == len(PROBABILITIES)},
            data.get("nulls", {}),
        )

    def share(self, column: str, bounds: Range) -> float:
        """At most which share of the rows is inside `bounds`, 1 where nothing is known."""
        points = self.points.get(column)
        if not points:
            return 1.0
        least, most = 0.0, 1.0
        if bounds.low is not None:
            least = max((p for p, value in zip(PROBABILITIES, points, strict=True) if value < bounds.low), default=0.0)
        if bounds.high is not None:
            most = min(
                (p for p, value in zip(PROBABILITIES, points, strict=True) if value > bounds.high),
                default=1.0,
            )
        return max(0.0, most - least)

    def passing(self, one: Between, there: Collection[str]) -> float:
        """At most which share of the rows satisfies a condition, 1 where nothing is known."""
        images = self.nulls.get(one.column, 1.0) if conditions.spares(one, there) else 0.0
        return min(1.0, self.share(one.column, one.range) + images)

    def end(self, column: str, share: float, descending: bool) -> Range | None:
        """A range at the high (`descending`) or low end of a column, with `share` of the rows or more."""
        points = self.points.get(column)
        if not points or share > 0.05:
            return None
        if descending:
            return Range(max(v for p, v in zip(PROBABILITIES, points, strict=True) if 1 - p >= share), None)
        return Range(None, min(v for p, v in zip(PROBABILITIES, points, strict=True) if p >= share))


def measured(dataset: lance.LanceDataset, columns: Sequence[str], most: int = 4_000_000) -> Statistics:
    """Statistics of `dataset`, one column at a time, from every n-th row where there are more than `most`."""
    rows = dataset.count_rows()
    stride = max(1, rows // most)
    points: dict[str, tuple[float, ...]] = {}
    nulls: dict[str, float] = {}
    for column in columns:
        parts: list[np.ndarray] = []
        empty = 0
        for batch in dataset.scanner(columns=[column], batch_size=SCAN_ROWS).to_batches():
            empty += batch[column].null_count
            parts.append(np.asarray(batch[column].drop_null().to_numpy(zero_copy_only=False), np.float64)[::stride])
        values = np.concatenate(parts) if parts else np.empty(0)
        nulls[column] = empty / max(1, rows)
        if values.size:
            points[column] = tuple(float(value) for value in np.quantile(values, PROBABILITIES))
    return Statistics(rows, points, nulls)


def candidates(dataset: lance.LanceDataset, wanted: Sequence[Condition], limit: int | None = None) -> np.ndarray | None:
    """Row ids of (the first `limit` of) the rows that satisfy `wanted`, found by indexes; None where a pass
    is better.
    """
    statistics, there = Statistics.of(dataset), dataset.schema.names
    narrow = [one for one in wanted if _is_narrow(one, statistics, there)]
    if not narrow:
        return None
    rest = [one for one in wanted if one not in narrow or conditions.spares(one, there)]
    asked = reduce(and_, (_by_index(one, there) for one in narrow))
    found = dataset.scanner(columns=[], with_row_id=True, filter=asked).to_table()
    ids = np.sort(found["_rowid"].to_numpy())
    if not rest:
        return ids[:limit]
    checked = fetch(dataset, ids[:_WALK], _needed(rest, there), with_row_id=True)
    kept = np.sort(checked.filter(conditions.expression(rest, there))["_rowid"].to_numpy())
    if ids.size <= _WALK or (limit is not None and kept.size >= limit):
        return kept[:limit]
    return None


def first(dataset: lance.LanceDataset, wanted: Sequence[Condition], limit: int) -> np.ndarray:
    """Row ids of the first `limit` rows that satisfy `wanted`."""
    ids = candidates(dataset, wanted, limit)
    if ids is not None:
        return ids
    fragments = dataset.get_fragments()
    ids = _glance(dataset, fragments[:1], wanted)
    if ids.size < limit:
        # Again from the beginning. The first fragment mostly holds enough, and a scan of all begins by opening many.
        ids = _first_of(dataset, fragments[:1], wanted, limit)
    if ids.size < limit and len(fragments) > 1:
        ids = np.concatenate([ids, _first_of(dataset, fragments[1:], wanted, limit - ids.size)])
    return np.sort(ids[:limit])


def _glance(dataset: lance.LanceDataset, fragments: list[Any], wanted: Sequence[Condition]) -> np.ndarray:
    """Row ids of those of the first rows that satisfy `wanted`. A scan with a filter reads whole pages, of up to a
    million rows, before it tests the first; one with a limit alone does not.
    """
    there = dataset.schema.names
    test = conditions.expression(wanted, there)
    if not fragments or test is None:
        return np.empty(0, np.uint64)
    rows = dataset.scanner(
        columns=_needed(wanted, there), with_row_id=True, limit=_GLANCE, fragments=fragments, use_scalar_index=False
    ).to_table()
    return rows.filter(test)["_rowid"].to_numpy()


def _first_of(dataset: lance.LanceDataset, fragments: list[Any], wanted: Sequence[Condition], limit: int) -> np.ndarray:
    if not fragments:
        return np.empty(0, np.uint64)
    found = dataset.scanner(
        columns=[],
        with_row_id=True,
        filter=conditions.expression(wanted, dataset.schema.names),
        limit=limit,
        fragments=fragments,
        use_scalar_index=False,
        # Read ahead as little as may be.
        fragment_readahead=1,
        batch_readahead=1,
    ).to_table()
    return found["_rowid"].to_numpy()


MAX_HELD = 100_000
"""Rows that `best` finds by holding only the best so far; for more of them it sorts all keys."""


def best(
    dataset: lance.LanceDataset, wanted: Sequence[Condition], column: str, descending: bool, limit: int | None
) -> np.ndarray:
    """Row ids of the `limit` rows (None: all) with the highest or lowest `column`, best first; of equals the first.

    Rows without a value are left out. All rows take 16 bytes each while they are sorted, and 8 afterwards.
    """
    if limit == 0:
        return np.empty(0, np.uint64)
    if limit is None or limit > MAX_HELD:
        return _sorted(dataset, wanted, column, descending)[:limit]
    for some in (wanted, _narrowed(dataset, wanted, column, descending, limit)):
        ids = candidates(dataset, some)
        if ids is not None and ids.size <= FETCHED and (some is wanted or ids.size >= limit):
            rest, there = [*some, Present(column, True)], dataset.schema.names
            table = fetch(dataset, ids, _needed(rest, there), with_row_id=True)
            table = table.filter(conditions.expression(rest, there))
            return _top(*_values(table, column), descending, limit)[1]
    return _scan_best(dataset, wanted, column, descending, limit)


def _narrowed(
    dataset: lance.LanceDataset, wanted: Sequence[Condition], column: str, descending: bool, limit: int
) -> Sequence[Condition]:
    """`wanted` and a bound on `column` beyond which twice `limit` rows are expected to pass the other
    conditions.
    """
    statistics, there = Statistics.of(dataset), dataset.schema.names
    passing = 1.0
    for one in wanted:
        if one.column != column:
            passing *= _passing(one, statistics, there)
    end = statistics.end(column, 2 * limit / max(passing * statistics.rows, 1e-9), descending)
    return wanted if end is None else [*wanted, Between(column, end, measured=True)]


def _passing(one: Condition, statistics: Statistics, there: Collection[str]) -> float:
    """About which share of the rows satisfies a condition."""
    if isinstance(one, Between):
        return statistics.passing(one, there)
    return 1.0 if one == UNDROPPED else 0.1  # people drop few of all clips


def _keys(
    dataset: lance.LanceDataset, wanted: Sequence[Condition], column: str
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """(values of `column`, row ids) of the rows that satisfy `wanted` and have a value, in one pass."""
    scanner = dataset.scanner(
        columns=stored([column]),
        with_row_id=True,
        filter=conditions.expression([*wanted, Present(column, True)], dataset.schema.names),
        use_scalar_index=False,
        batch_size=SCAN_ROWS,
    )
    for batch in scanner.to_batches():
        yield _values(pa.Table.from_batches([batch]), column)


def _sorted(dataset: lance.LanceDataset, wanted: Sequence[Condition], column: str, descending: bool) -> np.ndarray:
    parts = list(_keys(dataset, wanted, column))
    if not parts:
        return np.empty(0, np.uint64)
    keys, ids = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
    return _top(keys, ids, descending, ids.size)[1]


def _scan_best(
    dataset: lance.LanceDataset, wanted: Sequence[Condition], column: str, descending: bool, limit: int
) -> np.ndarray:
    keys, ids = np.empty(0), np.empty(0, np.uint64)
    for more_keys, more_ids in _keys(dataset, wanted, column):
        if keys.size >= limit:
            better = more_keys >= keys[-1] if descending else more_keys <= keys[-1]
            more_keys, more_ids = more_keys[better], more_ids[better]
        if more_keys.size:
            keys, ids = _top(np.concatenate([keys, more_keys]), np.concatenate([ids, more_ids]), descending, limit)
    return ids


def fetch(
    dataset: lance.LanceDataset,
    ids: np.ndarray,
    columns: list[str] | dict[str, str],
    with_row_id: bool = False,
) -> pa.Table:
    """Rows by id, in the order of `ids`."""
    # A scanner's own idea of its schema: a projection may hold expressions.
    parts = [dataset.scanner(columns=columns, with_row_id=True).projected_schema.empty_table()]
    for start in range(0, ids.size, FETCHED):
        some = ", ".join(str(int(row_id)) for row_id in ids[start : start + FETCHED])  # integers of Lance's own
        parts.append(dataset.scanner(columns=columns, with_row_id=True, filter=f"_rowid IN ({some})").to_table())
    table = pa.concat_tables(parts)
    order = np.argsort(np.argsort(ids, kind="stable"), kind="stable")
    table = table.take(np.argsort(table["_rowid"].to_numpy(), kind="stable")[order])
    return table if with_row_id else table.drop_columns(["_rowid"])


def _is_narrow(one: Condition, statistics: Statistics, there: Collection[str]) -> bool:
    if isinstance(one, OneOf):
        return one.column in KEYS and len(one.values) <= 100
    if not isinstance(one, Between) or one.column not in statistics.points:
        return False
    share = statistics.passing(one, there)
    return share <= _NARROW_SHARE and share * statistics.rows <= _NARROW_ROWS


def _by_index(one: Condition, there: Collection[str]) -> pc.Expression:
    """A test that the index of one column answers. Images that pass have no value there: nulls are taken along."""
    if not isinstance(one, Between) or not conditions.spares(one, there):
        return _expression([one], there)
    return _expression([replace(one, measured=True)], there) | pc.field(one.column).is_null()


def _expression(wanted: Sequence[Condition], there: Collection[str]) -> pc.Expression:
    whole = conditions.expression(wanted, there)
    assert whole is not None
    return whole


def _needed(wanted: Iterable[Condition], there: Collection[str]) -> list[str]:
    """The columns that conditions read, each once."""
    return sorted(conditions.columns(wanted, there))


def _values(table: pa.Table, column: str) -> tuple[np.ndarray, np.ndarray]:
    keys = [table[name].to_numpy() for name in stored([column])]
    return DERIVED[column].numbers(*keys) if column in DERIVED else keys[0], table["_rowid"].to_numpy()


def _top(keys: np.ndarray, ids: np.ndarray, descending: bool, limit: int) -> tuple[np.ndarray, np.ndarray]:
    turned = ~keys if keys.dtype.kind == "i" else -keys  # of integers the lowest has no negative
    order = np.lexsort((ids, turned if descending else keys))[:limit]
    return keys[order], ids[order]
