"""How the values of one column lie among the clips that a query keeps: what is drawn above a bound that is moved.

One pass over the column and those of the conditions, batch by batch. The edges come from the whole pyramid's quantiles,
so that they stay where they are while conditions move.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from curation.pyramid.queries import conditions
from curation.pyramid.queries.access import PROBABILITIES, SCAN_ROWS, Statistics
from curation.pyramid.queries.conditions import NUMBERS
from curation.pyramid.queries.derived import DERIVED, stored
from curation.pyramid.queries.query import Query

if TYPE_CHECKING:
    import lance

MOST_BINS = 500
_SPREAD = (0.001, 0.999)
"""Quantiles between which values are drawn one by one; those outside are counted as a whole."""


@dataclass(frozen=True, slots=True)
class Histogram:
    """`counts` between each two of `edges`, both ends of the last one included; how many values lie `below` and
    `above` all edges, and how many clips have none (`null`).
    """

    column: str
    edges: tuple[float, ...]
    counts: tuple[int, ...]
    below: int
    above: int
    null: int


def histogram(query: Query, column: str, bins: int = 60) -> Histogram:
    """Count. UserError: `column` is no column of numbers."""
    assert 1 <= bins <= MOST_BINS
    conditions.known(column, (*NUMBERS, *query.pyramid.about.scores), "to count by")
    dataset = query.dataset()
    edges = np.linspace(*_ends(dataset, column), bins + 1)
    counts, below, above, null = np.zeros(bins, np.int64), 0, 0, 0
    scanner = dataset.scanner(
        columns=stored([column]),
        filter=conditions.expression(query.conditions, dataset.schema.names),
        use_scalar_index=False,
        batch_size=SCAN_ROWS,
    )
    for batch in scanner.to_batches():
        values = _values(batch, column)
        known = values[~np.isnan(values)]
        null += values.size - known.size
        below += int((known < edges[0]).sum())
        above += int((known > edges[-1]).sum())
        counts += np.histogram(known, edges)[0]
    return Histogram(column, tuple(edges.tolist()), tuple(counts.tolist()), below, above, null)


def _ends(dataset: lance.LanceDataset, column: str) -> tuple[float, float]:
    """Between which two values a column is drawn: nearly all of its own, or 0 and 1 where it has none."""
    points = Statistics.of(dataset).points.get(column)
    if points is None:
        low, high = _measured(dataset, column)
    else:
        low, high = np.interp(_SPREAD, PROBABILITIES, points)
    if not low < high:
        return (low - 0.5, high + 0.5) if low == high else (0.0, 1.0)
    return float(low), float(high)


def _measured(dataset: lance.LanceDataset, column: str) -> tuple[float, float]:
    """Of a column without statistics, as a small pyramid's: all values are held for a moment."""
    parts = [
        _values(batch, column) for batch in dataset.scanner(columns=stored([column]), batch_size=SCAN_ROWS).to_batches()
    ]
    values = np.concatenate(parts) if parts else np.empty(0)
    values = values[~np.isnan(values)]
    if not values.size:
        return float("nan"), float("nan")
    low, high = np.quantile(values, _SPREAD)
    return float(low), float(high)


def _values(batch: pa.RecordBatch, column: str) -> np.ndarray:
    """(n,) float64, NaN for null."""
    parts = [batch[name].cast(pa.float64()).to_numpy(zero_copy_only=False) for name in stored([column])]
    return DERIVED[column].numbers(*parts) if column in DERIVED else parts[0]
