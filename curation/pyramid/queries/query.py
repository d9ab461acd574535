"""Queries over `clips`: which clips a tier or some thresholds keep. What the CLI, the service and the shards
read by.

    Pyramid.open(uri).tier("256px").where(aesthetic=(5, None)).order("aesthetic",
    descending=True).limit(100).to_table()

A query is an immutable value; each method returns another one. Conditions are data (see `conditions`). It
reads the latest version when it runs, or for ever the same rows once pinned by `at`. Columns of the clips' videos
(`uri`, `source`, the user's own: see `lineage`) are those of the ledger when it is read.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, TypeVar

import pyarrow as pa

from curation.errors import UserError
from curation.pyramid.queries import access, conditions, kinds, lineage, makers
from curation.pyramid.queries.conditions import ALL, NUMBERS, Condition, Present
from curation.pyramid.queries.derived import DERIVED
from curation.pyramid.review.asking import UNDROPPED, WORDED

if TYPE_CHECKING:
    import lance
    import numpy as np

    from curation.pyramid.queries.extra import Own
    from curation.pyramid.store import Pyramid, Snapshot

_T = TypeVar("_T")
MAX_ORDERED = access.MAX_HELD
"""Rows of an ordered query that are held as one table at most; `batches` has no such limit."""
_ASKED_FOR = ("laplacian", "pixels", "short_side", "long_side")
"""Columns that come only where they are named: long ones, and what other columns say as well."""
DEFAULT_COLUMNS = tuple(name for name in ALL if name not in _ASKED_FOR)
SEARCHABLE = conditions.NUMBERS + conditions.TEXTS + WORDED
_BATCH_ROWS = 8192
_FEW_ROWS = 2000
"""Up to so many rows are first found by their ids and then read; more are read as they are found."""


def default_columns(pyramid: Pyramid) -> tuple[str, ...]:
    """The columns of a clip that come where none is named."""
    return (*DEFAULT_COLUMNS, *pyramid.own_score_columns)


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
    own: tuple[tuple[str, Own], ...] = ()
    makers: tuple[str, ...] = ()
    captions_version: int | None = None

    def tier(self, name: str) -> Query:
        """Only clips inside tier `name` as `pyramid.json` defines it, and none that a person has dropped, unless
        `where` says which decisions are wanted.
        """
        try:
            ranges = self.pyramid.tiers.effective(name)
        except ValueError as error:
            raise UserError(str(error), "name one of the pyramid's tiers") from None
        return self.ranges(ranges).undropped()

    def undropped(self) -> Query:
        """As a tier asks for it: no clip that a person has dropped. What `where` says of decisions goes before."""
        return self if self.asks_decision else replace(self, conditions=(*self.conditions, UNDROPPED))

    @property
    def asks_decision(self) -> bool:
        """Whether a condition says which decisions of people are wanted."""
        return any(one.column == "decision" for one in self.conditions)

    def ranges(self, ranges: Any) -> Query:
        """Only clips inside all of `ranges` (column -> Range or pair, or a kind)."""
        return self.where(**dict(ranges))

    def where(self, /, **values: Any) -> Query:
        """Conditions by column: `aesthetic=(5, None)`, `tier="256px"`, `tier=["a", "b"]`, `width=1280`,
        `caption=None`, `source="day1.mp4"`, `kind="image"`, `decision="keep"`, `tagged="sunset"`. A range over what an
        image does not have keeps images (`kinds`). Those on columns of videos are looked up in the ledger now.
        """
        added = tuple(self._condition(column, value) for column, value in values.items())
        before = tuple(one for one in self.conditions if one != UNDROPPED or "decision" not in values)
        return replace(self, conditions=(*before, *added))

    def having(self, *columns: str) -> Query:
        """Only clips whose `columns` are not null (as `having("media")`: those that have been cut)."""
        there = (*SEARCHABLE, *self.pyramid.own_score_columns)
        added = tuple(conditions.Present(conditions.known(column, there), True) for column in columns)
        return replace(self, conditions=(*self.conditions, *added))

    def order(self, column: str, descending: bool = False) -> Query:
        """Best first by a number column; clips without a value are left out. As one table it needs a `limit`."""
        numbers = (*NUMBERS, *self._own_scores)
        return replace(self, ordering=(conditions.known(column, numbers, "to order by"), bool(descending)))

    def limit(self, rows: int | None) -> Query:
        if rows is not None and (isinstance(rows, bool) or not isinstance(rows, int) or not 0 <= rows < 1 << 31):
            raise UserError(f"limit {rows!r:.40} is not a number of rows", "give an integer from 0 up")
        return replace(self, rows=rows)

    def columns(self, *names: str) -> Query:
        """Which columns, in this order: of clips, of their videos (`lineage.NAMES`), or the user's own."""
        if not names:
            raise UserError("no column is selected", f"there are {', '.join(self._all)}")
        chosen = tuple(dict.fromkeys(names))
        others = [(name, lineage.known(self.pyramid, name)) for name in chosen if name not in self._all]
        return replace(self, selected=chosen, own=tuple((name, own) for name, own in others if own is not None))

    def whole(self) -> Query:
        """With everything that is told of a clip and its video, as an export has it."""
        own = lineage.own(self.pyramid)
        names = (*default_columns(self.pyramid), *lineage.SEARCHED, *(own or ("extra",)))
        return replace(self, selected=names, own=tuple(own.items()))

    def captions_by(self, *order: str) -> Query:
        """In the place of the caption in force that of a maker: `NAME/MODEL/HASH`, the first parts of it or `given`; of
        several the first that has one for the clip. Where none has, it is null. Conditions stay on what is in force.
        UserError: a maker that has captioned no clip. Name the version first.
        """
        asked = replace(self, makers=order)
        captions = self.pyramid.dataset("captions", asked._captions_version())
        makers.check(self.pyramid.dataset("clips", self.version), captions, order)
        return asked

    def at(self, version: int | str | None) -> Query:
        """Pin to a version (or tag) of `clips`; the rows of a pinned query never change."""
        return replace(self, version=version, captions_version=None)

    def at_snapshot(self, snapshot: Snapshot) -> Query:
        """Pin to the versions of a snapshot."""
        return replace(self, version=snapshot["clips"], captions_version=snapshot["captions"])

    def pinned(self) -> Query:
        """Pin to the version that is the latest now."""
        version = self.pyramid.dataset("clips", self.version).version
        if not self.makers:
            return replace(self, version=version)
        captions = self.pyramid.dataset("captions", self._captions_version()).version
        return replace(self, version=version, captions_version=captions)

    def within(self, seconds: float | None) -> Query:
        """Give up with an error after `seconds`."""
        return replace(self, timeout_s=seconds)

    @property
    def _own_scores(self) -> tuple[str, ...]:
        return self.pyramid.about.scores

    @property
    def _all(self) -> tuple[str, ...]:
        """Every column of a clip."""
        return (*ALL, *self.pyramid.own_score_columns)

    def to_table(self) -> pa.Table:
        return _bounded(self._read, self.timeout_s)

    def count(self) -> int:
        """How many clips the query returns: those that the conditions keep and the order knows, up to `limit`."""
        found = _bounded(self._count, self.timeout_s)
        return found if self.rows is None else min(found, self.rows)

    def ids(self) -> list[str]:
        return self.columns("clip_id").to_table()["clip_id"].to_pylist()

    def schema(self) -> pa.Schema:
        """Names and types of the rows."""
        fields = {field.name: field for field in self.pyramid.schema("clips")}
        fields |= {field.name: field for field in self._scanner(self.dataset()).projected_schema}
        joined = self._joined()
        fields |= {} if joined is None else {field.name: field for field in joined.fields()}
        return pa.schema([fields[name] for name in self.selected])

    def batches(self, with_row_id: bool = False) -> Iterator[pa.RecordBatch]:
        """The rows in batches, so that memory stays bounded however many there are (see `access.best` for ordered
        ones).
        """
        end = None if self.timeout_s is None else time.monotonic() + self.timeout_s
        added = self._added()
        for batch in self._clip_batches(with_row_id):
            if end is not None and time.monotonic() > end:
                raise _too_slow(self.timeout_s)
            yield self._complete(batch, added, with_row_id)

    def _clip_batches(self, with_row_id: bool) -> Iterator[pa.RecordBatch]:
        dataset = self.dataset()
        if self.ordering is None:
            yield from self._scanner(dataset, with_row_id).to_batches()
            return
        column, descending = self.ordering
        ids = _bounded(
            lambda: access.best(dataset, self.conditions, column, descending, self.rows),
            self.timeout_s,
        )
        for start in range(0, ids.size, _BATCH_ROWS):
            some = ids[start : start + _BATCH_ROWS]
            yield from access.fetch(dataset, some, self._projection(dataset), with_row_id).combine_chunks().to_batches()

    def _complete(
        self, batch: pa.RecordBatch, added: Sequence[lineage.Joined | makers.Chosen], with_row_id: bool
    ) -> pa.RecordBatch:
        """The batch with all selected columns in their order; null are those that an old pyramid lacks. A clip without
        a kind is shown as the video that it is.
        """
        columns = self.pyramid.schema("clips")
        for name in self.selected:
            if name in columns.names and name not in batch.schema.names:
                batch = batch.append_column(columns.field(name), pa.nulls(batch.num_rows, columns.field(name).type))
        if kinds.COLUMN in self.selected:
            place = batch.schema.names.index(kinds.COLUMN)
            batch = batch.set_column(place, columns.field(kinds.COLUMN), kinds.told(batch[kinds.COLUMN]))
        for one in added:
            batch = one.add(batch)
        return batch.select([*self.selected, "_rowid"] if with_row_id else list(self.selected))

    def _condition(self, column: str, value: Any) -> Condition:
        if column in self._all:
            return conditions.condition(column, value, self._own_scores)
        return lineage.condition(self.pyramid, column, value)

    def _joined(self) -> lineage.Joined | None:
        """What adds the columns that are not the clips' own; None where there are none."""
        own = dict(self.own)
        others = {name: own.get(name) for name in self.selected if name not in self._all}
        return lineage.Joined(self.pyramid, others) if others else None

    def _added(self) -> list[lineage.Joined | makers.Chosen]:
        """What adds to batches of clips what their rows do not say."""
        joined = self._joined()
        chosen = makers.Chosen(self.pyramid, self.makers, self._captions_version()) if self._chooses else None
        return [one for one in (joined, chosen) if one is not None]

    @property
    def _chooses(self) -> bool:
        """Whether a column is asked for that follows from the makers."""
        return bool(self.makers) and not {*makers.COLUMNS}.isdisjoint(self.selected)

    def _captions_version(self) -> int | str | None:
        """The version of `captions` that belongs to that of `clips`."""
        if self.captions_version is not None or not isinstance(self.version, int):
            return self.captions_version if self.captions_version is not None else self.version
        told = f"the version {self.version} is one of clips, and says nothing of the captions of other makers"
        raise UserError(told, "name a tag, as manifest-NAME of a manifest, or ask the latest version")

    def dataset(self) -> lance.LanceDataset:
        """The dataset `clips` that it reads; UserError where that is older than a column that is asked for."""
        dataset = self.pyramid.dataset("clips", self.version)
        asked = {one.column for one in self.conditions} | ({self.ordering[0]} if self.ordering else set())
        for column in sorted(asked - {*DERIVED, *conditions.MAY_LACK} - {*dataset.schema.names}):
            if self.version is None:
                raise UserError(f"the pyramid is older than the column {column!r}", "the next run adds it")
            raise UserError(f"the version {self.version} is older than the column {column!r}", "ask the latest one")
        return dataset

    def _scanner(self, dataset: lance.LanceDataset, with_row_id: bool = False) -> lance.LanceScanner:
        return dataset.scanner(
            columns=self._projection(dataset),
            filter=conditions.expression(self.conditions, dataset.schema.names),
            limit=self.rows,
            batch_size=makers.AT_ONCE if self._chooses else None,
            with_row_id=with_row_id,
            use_scalar_index=False,
        )

    def _projection(self, dataset: lance.LanceDataset) -> list[str] | dict[str, str]:
        """The columns that are read of `clips`: those selected that it has, and what the others are joined by."""
        there = {*DERIVED, *dataset.schema.names}
        names = [name for name in self.selected if name in there]
        if not names or (not set(self.selected) <= set(self._all) and "video_id" not in names):
            names.append("video_id")
        if self._chooses:
            names += [name for name in ("clip_id", *makers.COLUMNS) if name in there and name not in names]
        if DERIVED.keys().isdisjoint(names):
            return names
        return {name: DERIVED[name].sql if name in DERIVED else name for name in names}

    def _count(self) -> int:
        dataset = self.dataset()
        ordered = (Present(self.ordering[0], True),) if self.ordering else ()
        wanted = (*self.conditions, *ordered)
        ids = access.candidates(dataset, wanted)
        if ids is not None:
            return ids.size
        test = conditions.expression(wanted, dataset.schema.names)
        if test is None:
            return dataset.count_rows()
        return dataset.scanner(
            columns=[], with_row_id=True, filter=test, use_scalar_index=False, batch_size=access.SCAN_ROWS
        ).count_rows()

    def _read(self) -> pa.Table:
        dataset = self.dataset()
        if self.ordering is not None:
            if self.rows is None or self.rows > MAX_ORDERED:
                raise UserError("an ordered query needs a limit", f"set a limit of up to {MAX_ORDERED} rows")
            ids = access.best(dataset, self.conditions, *self.ordering, self.rows)
        elif self.rows is not None and self.rows <= _FEW_ROWS:
            ids = access.first(dataset, self.conditions, self.rows)
        else:
            ids = access.candidates(dataset, self.conditions, self.rows)
        if ids is None or (self.ordering is None and ids.size > access.FETCHED):
            return self._completed(self._scanner(dataset).to_table())
        return self.rows_of(dataset, ids)

    def rows_of(self, dataset: lance.LanceDataset, ids: np.ndarray) -> pa.Table:
        """Rows of `dataset` by their ids, in this order, with all selected columns."""
        return self._completed(access.fetch(dataset, ids, self._projection(dataset)))

    def _completed(self, table: pa.Table) -> pa.Table:
        added = self._added()
        batches = table.combine_chunks().to_batches(_BATCH_ROWS)
        return pa.Table.from_batches([self._complete(batch, added, False) for batch in batches], self.schema())


def _bounded(action: Callable[[], _T], seconds: float | None) -> _T:
    """The result of `action`, which runs on in a thread of its own, "query", when it takes longer than `seconds`: who
    ends the process then must not wait for it (`pipelines.cli.run`)."""
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
