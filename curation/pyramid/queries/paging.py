"""Pages of a query: the rows that follow a place, however deep, at about the price of the first ones.

A place is what was reached, not how many rows were passed: in an order the value of the last row, else its address. So
page 10,000 costs what the first one does, but for rows that are equal in what they are ordered by, which are passed
again. A place holds in the version of `clips` that it was taken in, which a cursor (`encoded`) names: rows that others
write meanwhile make none come twice and none be left out.
"""

from __future__ import annotations

import base64
import binascii
import json
import math
from collections.abc import Sequence
from dataclasses import astuple, dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from curation.errors import UserError
from curation.pyramid.queries import access, conditions
from curation.pyramid.queries.conditions import Between, Condition
from curation.pyramid.queries.derived import DERIVED, stored
from curation.pyramid.tiering.tiers import Range

if TYPE_CHECKING:
    import lance

    from curation.pyramid.queries.query import Query

_LOST = "ask for the first page again"


@dataclass(frozen=True, slots=True)
class Place:
    """Where a page has ended, in a version of `clips`: the row id of its last row; in an order that row's value, and
    how many rows with this value have been given so far.
    """

    version: int
    row_id: int
    value: float | None = None
    same: int = 0

    def encoded(self) -> str:
        """As a text for a URL, which only `Place.of` reads."""
        return base64.urlsafe_b64encode(json.dumps(astuple(self)).encode()).decode().rstrip("=")

    @classmethod
    def of(cls, cursor: str) -> Place:
        """UserError: the text is none of `encoded`."""
        try:
            padded = cursor.encode("ascii") + b"=" * (-len(cursor) % 4)
            given = json.loads(base64.b64decode(padded, altchars=b"-_", validate=True))
            version, row_id, value, same = given
        except (ValueError, TypeError, binascii.Error, RecursionError):
            raise UserError("this is no place to go on from", _LOST) from None
        whole = (isinstance(one, int) and not isinstance(one, bool) for one in (version, row_id, same))
        is_value = value is None or (isinstance(value, int | float) and math.isfinite(value))
        if not all(whole) or not is_value or version < 1 or not 0 <= row_id < 1 << 64 or not 0 <= same < 1 << 40:
            raise UserError("this is no place to go on from", _LOST)
        return cls(version, row_id, None if value is None else float(value), same)


@dataclass(frozen=True, slots=True)
class Page:
    """Rows of one version of the clips; `following`: where the next page begins, None after the last row."""

    rows: pa.Table
    version: int
    following: Place | None


def page(query: Query, most: int, after: Place | None = None) -> Page:
    """The `most` rows after a place, or the first ones. UserError: the place is of another order than the query's, or
    its version is gone.
    """
    assert query.rows is None, "a limit beside pages"
    if after is not None and (after.value is None) != (query.ordering is None):
        raise UserError("this place is one of another order", _LOST)
    pinned = query.pinned()
    if after is not None:  # captions of makers stay those of now: a place says nothing of them
        pinned = replace(pinned, version=after.version)
    dataset = pinned.dataset()
    if pinned.ordering is None:
        ids = _following(dataset, pinned.conditions, most + 1, after)
        end = Place(dataset.version, int(ids[most - 1])) if ids.size > most else None
    else:
        ids = _best_following(dataset, pinned.conditions, *pinned.ordering, most + 1, after)
        end = _end(dataset, ids[:most], pinned.ordering[0], after) if ids.size > most else None
    return Page(pinned.rows_of(dataset, ids[:most]), dataset.version, end)


def _following(dataset: lance.LanceDataset, wanted: Sequence[Condition], most: int, after: Place | None) -> np.ndarray:
    """Row ids after a place in the order of their addresses."""
    if after is None:
        return access.first(dataset, wanted, most)
    ids = access.candidates(dataset, wanted)
    if ids is not None:
        return ids[ids > after.row_id][:most]
    return rows_after(dataset, conditions.expression(wanted, dataset.schema.names), most, after)


def rows_after(
    dataset: lance.LanceDataset, test: pc.Expression | None, most: int, after: Place | None = None
) -> np.ndarray:
    """Row ids (n,) uint64 of rows of any dataset that satisfy `test`, after a place in the order of their addresses.
    Fragments are read from that of the place on, one at a time.
    """
    least = 0 if after is None else after.row_id + 1
    found, many = [np.empty(0, np.uint64)], 0
    for fragment in dataset.get_fragments():
        if fragment.fragment_id < least >> 32:
            continue
        rows = dataset.scanner(
            columns=[], with_row_id=True, filter=test, fragments=[fragment], use_scalar_index=False
        ).to_table()
        ids = np.sort(rows["_rowid"].to_numpy())
        found.append(ids[ids >= least])
        many += found[-1].size
        if many >= most:
            break
    return np.concatenate(found)[:most]


def _best_following(
    dataset: lance.LanceDataset,
    wanted: Sequence[Condition],
    column: str,
    descending: bool,
    most: int,
    after: Place | None,
) -> np.ndarray:
    """Row ids after a place in the order of a column."""
    if after is None or after.value is None:
        return access.best(dataset, wanted, column, descending, most)
    bounds = Range(None, after.value) if descending else Range(after.value, None)
    wanted = [*wanted, Between(column, bounds, measured=True)]
    return access.best(dataset, wanted, column, descending, after.same + most)[after.same :]


def _end(dataset: lance.LanceDataset, ids: np.ndarray, column: str, after: Place | None) -> Place:
    """The place after rows that are in the order of a column."""
    table = access.fetch(dataset, ids, stored([column]))
    keys = [table[name].to_numpy() for name in stored([column])]
    values = DERIVED[column].numbers(*keys) if column in DERIVED else keys[0]
    value, same = float(values[-1]), int((values == values[-1]).sum())
    before = after.same if after is not None and after.value == value else 0
    return Place(dataset.version, int(ids[-1]), value, same + before)
