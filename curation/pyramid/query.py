"""Queries over `clips`: which clips a tier or some thresholds keep. What the CLI, the service and the shards
read by.

    Pyramid.open(uri).tier("256px").where(aesthetic=(5, None)).order("aesthetic",
    descending=True).limit(100).to_table()

A query is an immutable value; each method returns another one. Conditions are data (see `conditions`). It
reads the latest version when it runs, or for ever the same rows once pinned by `at`.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, TypeVar

import pyarrow as pa

from curation.contract import CLIPS
from curation.errors import UserError
from curation.pyramid import access, conditions
from curation.pyramid.conditions import ALL, DURATION, NUMBERS, Condition

if TYPE_CHECKING:
    import lance

    from curation.pyramid.store import Pyramid

_T = TypeVar("_T")
MAX_ORDERED = 100_000
"""Rows that an ordered query returns at most: it holds that many while it looks for the best."""
DEFAULT_COLUMNS = tuple(name for name in ALL if name not in ("embedding", "laplacian"))
SEARCHABLE = conditions.NUMBERS + conditions.TEXTS
_BATCH_ROWS = 8192
_FEW_ROWS = 2000
"""Up to so many rows are first found by their ids and then read; more are read as they are found."""


@dataclass(frozen=True, slots=True)
class Query:
    """See the module. Fields are read by `retention`, `export` and `shards`; build with the methods."""

    pyramid: Pyramid
    conditions: tuple[Condition, ...] = ()
    ordering: tuple[str, bool] | None = None
    rows: int | None = None
    selected: tuple[str, ...] = DEFAULT_COLUMNS
    version: int | str | None = None
    timeout_s: float | None = None

    def tier(self, name: str) -> Query:
        """Only clips inside tier `name` as `pyramid.json` defines it."""
        try:
            ranges = self.pyramid.tiers.effective(name)
        except ValueError as error:
            raise UserError(str(error), "name one of the pyramid's tiers") from None
        return self.ranges(ranges)

    def ranges(self, ranges: Any) -> Query:
        """Only clips inside all of `ranges` (column -> Range or pair)."""
        return self.where(**dict(ranges))

    def where(self, **values: Any) -> Query:
        """Conditions by column: `aesthetic=(5, None)`, `tier="256px"`, `tier=["a", "b"]`, `width=1280`,
        `caption=None`.
        """
        added = tuple(conditions.condition(column, value) for column, value in values.items())
        return replace(self, conditions=(*self.conditions, *added))

    def having(self, *columns: str) -> Query:
        """Only clips whose `columns` are not null (as `having("media")`: those that have been cut)."""
        added = tuple(conditions.Present(conditions.known(column, SEARCHABLE), True) for column in columns)
        return replace(self, conditions=(*self.conditions, *added))

    def order(self, column: str, descending: bool = False) -> Query:
        """Best first by a number column; clips without a value are left out. Needs a `limit`."""
        return replace(self, ordering=(conditions.known(column, NUMBERS, "to order by"), bool(descending)))

    def limit(self, rows: int | None) -> Query:
        if rows is not None and (isinstance(rows, bool) or not isinstance(rows, int) or not 0 <= rows < 1 << 31):
            raise UserError(f"limit {rows!r:.40} is not a number of rows", "give an integer from 0 up")
        return replace(self, rows=rows)

    def columns(self, *names: str) -> Query:
        if not names:
            raise UserError("no column is selected", f"there are {', '.join(ALL)}")
        return replace(self, selected=tuple(dict.fromkeys(conditions.known(name) for name in names)))

    def at(self, version: int | str | None) -> Query:
        """Pin to a version (or tag) of `clips`; the rows of a pinned query never change."""
        return replace(self, version=version)

    def pinned(self) -> Query:
        """Pin to the version that is the latest now."""
        return replace(self, version=self.pyramid.dataset("clips", self.version).version)

    def within(self, seconds: float | None) -> Query:
        """Give up with an error after `seconds`."""
        return replace(self, timeout_s=seconds)

    def to_table(self) -> pa.Table:
        return _bounded(self._read, self.timeout_s)

    def count(self) -> int:
        """How many clips the conditions keep, up to `limit` if one is set."""
        found = _bounded(self._count, self.timeout_s)
        return found if self.rows is None else min(found, self.rows)

    def ids(self) -> list[str]:
        return self.columns("clip_id").to_table()["clip_id"].to_pylist()

    def batches(self, with_row_id: bool = False) -> Iterator[pa.RecordBatch]:
        """The rows in batches, so that memory stays bounded however many there are."""
        if self.ordering:
            yield from self.to_table().to_batches(_BATCH_ROWS)
            return
        end = None if self.timeout_s is None else time.monotonic() + self.timeout_s
        for batch in self._scanner(with_row_id=with_row_id).to_batches():
            if end is not None and time.monotonic() > end:
                raise _too_slow(self.timeout_s)
            yield from self._whole(pa.Table.from_batches([batch]), with_row_id).to_batches()

    def _dataset(self) -> lance.LanceDataset:
        dataset = self.pyramid.dataset("clips", self.version)
        for one in self.conditions:
            if one.column != DURATION and one.column not in dataset.schema.names:
                raise UserError(f"the pyramid is older than the column {one.column!r}", "the next run adds it")
        return dataset

    def _scanner(self, with_row_id: bool = False) -> lance.LanceScanner:
        dataset = self._dataset()
        return dataset.scanner(
            columns=_projection(self.selected, dataset),
            filter=conditions.expression(self.conditions),
            limit=self.rows,
            with_row_id=with_row_id,
            use_scalar_index=False,
        )

    def _count(self) -> int:
        dataset = self._dataset()
        ids = access.candidates(dataset, self.conditions)
        if ids is not None:
            return ids.size
        test = conditions.expression(self.conditions)
        if test is None:
            return dataset.count_rows()
        return dataset.scanner(
            columns=[], with_row_id=True, filter=test, use_scalar_index=False, batch_size=access.SCAN_ROWS
        ).count_rows()

    def _read(self) -> pa.Table:
        dataset = self._dataset()
        if self.ordering is not None:
            if self.rows is None or self.rows > MAX_ORDERED:
                raise UserError("an ordered query needs a limit", f"set a limit of up to {MAX_ORDERED} rows")
            ids = access.best(dataset, self.conditions, *self.ordering, self.rows)
        elif self.rows is not None and self.rows <= _FEW_ROWS:
            ids = access.first(dataset, self.conditions, self.rows)
        else:
            ids = access.candidates(dataset, self.conditions, self.rows)
        if ids is None or (self.ordering is None and ids.size > access.FETCHED):
            return self._whole(self._scanner().to_table())
        return self._whole(access.fetch(dataset, ids, _projection(self.selected, dataset)))

    def _whole(self, table: pa.Table, with_row_id: bool = False) -> pa.Table:
        """The rows with all selected columns in their order: null are those that an old pyramid lacks."""
        for name in self.selected:
            if name not in table.column_names:
                field = CLIPS.field(name)
                table = table.append_column(field, pa.nulls(len(table), field.type))
        return table.select([*self.selected, *(["_rowid"] if with_row_id else [])])


def _projection(columns: tuple[str, ...], dataset: lance.LanceDataset) -> list[str] | dict[str, str]:
    """What to read; a column that the dataset is too old to have is read by nobody and null (`Query._whole`)."""
    there = [name for name in columns if name == DURATION or name in dataset.schema.names] or ["clip_id"]
    if DURATION not in there:
        return there
    return {name: "end_s - start_s" if name == DURATION else name for name in there}


def _bounded(action: Callable[[], _T], seconds: float | None) -> _T:
    """The result of `action`, which runs on in a thread of its own when it takes longer than `seconds`."""
    if seconds is None:
        return action()
    outcome: list[_T] = []
    failure: list[BaseException] = []

    def run() -> None:
        try:
            outcome.append(action())
        except BaseException as error:  # raised again below, in the caller's thread
            failure.append(error)

    thread = threading.Thread(target=run, daemon=True, name="query")
    thread.start()
    thread.join(seconds)
    if failure:
        raise failure[0]
    if not outcome:
        raise _too_slow(seconds)
    return outcome[0]


def _too_slow(seconds: float | None) -> UserError:
    return UserError(f"the query took longer than {seconds:g} s", "narrow it, or allow more time")
