"""The videos of a pyramid by what became of them: done, rejected or quarantined, and why (`query --videos`)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, TypeVar

import pyarrow as pa
import pyarrow.compute as pc

from curation.contract import VIDEOS, Reason, Status
from curation.errors import UserError
from curation.pyramid.queries import access
from curation.pyramid.queries.paging import Place, rows_after
from curation.pyramid.store import Pyramid

if TYPE_CHECKING:
    import lance


@dataclass(frozen=True, slots=True)
class Listing:
    """Rows of `videos`, an immutable value; it reads the latest version whenever it is asked, unless `pinned`."""

    pyramid: Pyramid
    status: Status | None = None
    reason: Reason | None = None
    selected: tuple[str, ...] = tuple(VIDEOS.names)
    rows: int | None = None
    version: int | None = None

    def pinned(self) -> Listing:
        """Of the version that is the latest now, or of the one it is pinned to."""
        return replace(self, version=self.pyramid.dataset("videos", self.version).version)

    def schema(self) -> pa.Schema:
        """Of `batches`."""
        return pa.schema([VIDEOS.field(name) for name in self.selected])

    def columns(self, *names: str) -> Listing:
        for name in names:
            if name not in VIDEOS.names:
                raise UserError(f"no column {name[:80]!r} of videos", f"there are {', '.join(VIDEOS.names)}")
        return replace(self, selected=tuple(dict.fromkeys(names)))

    def limit(self, rows: int | None) -> Listing:
        if rows is not None and not 0 <= rows < 1 << 31:
            raise UserError(f"limit {rows!r:.40} is not a number of rows", "give an integer from 0 up")
        return replace(self, rows=rows)

    def count(self) -> int:
        dataset = self.pyramid.dataset("videos", self.version)
        found = dataset.count_rows(self._test()) if self._test() is not None else dataset.count_rows()
        return found if self.rows is None else min(found, self.rows)

    def page(self, most: int, after: Place | None = None) -> tuple[pa.Table, Place | None]:
        """The `most` rows after a place, or the first ones, and where the next page begins; see `paging`."""
        dataset = self.pyramid.dataset("videos", self.version if after is None else after.version)
        ids = rows_after(dataset, self._test(), most + 1, after)
        rows = access.fetch(dataset, ids[:most], self._there(dataset))
        end = Place(dataset.version, int(ids[most - 1])) if ids.size > most else None
        return self._whole(rows), end

    def batches(self) -> Iterator[pa.RecordBatch]:
        """The rows in batches of `schema`; a column that an old pyramid lacks is null."""
        if self.rows == 0:
            return
        dataset = self.pyramid.dataset("videos", self.version)
        for batch in self._scanned(dataset):
            yield from self._whole(pa.Table.from_batches([batch])).to_batches()

    def names(self) -> Iterator[tuple[list[str], str]]:
        """Of each video the whole names by which it may be found again, none where it has only been called by its place
        in a list; and its further columns, as JSON.
        """
        for batch in self.columns("uris", "extra").batches():
            for row in batch.to_pylist():
                names = [uri for uri in row["uris"] or () if uri.startswith("/") or "://" in uri]
                yield names, row["extra"] or ""

    def _scanned(self, dataset: lance.LanceDataset) -> Iterator[pa.RecordBatch]:
        yield from dataset.scanner(columns=self._there(dataset), filter=self._test(), limit=self.rows).to_batches()

    def _there(self, dataset: lance.LanceDataset) -> list[str]:
        return [name for name in self.selected if name in dataset.schema.names] or ["video_id"]

    def _whole(self, table: pa.Table) -> pa.Table:
        """With all selected columns in their order."""
        schema = self.schema()
        for field in schema:
            if field.name not in table.column_names:
                table = table.append_column(field, pa.nulls(len(table), field.type))
        return table.select(schema.names).cast(schema)

    def _test(self) -> pc.Expression | None:
        test = None if self.status is None else pc.field("status") == pc.scalar(str(self.status))
        if self.reason is None:
            return test
        of_reason = pc.field("reason") == pc.scalar(str(self.reason))
        return of_reason if test is None else test & of_reason


def listing(pyramid: Pyramid, status: str | None = None, reason: str | None = None) -> Listing:
    """The videos with a status and a reason; UserError where there is no such status or reason."""
    return Listing(pyramid, _of(Status, status, "status"), _of(Reason, reason, "reason"))


_Kind = TypeVar("_Kind", Status, Reason)


def _of(kind: type[_Kind], text: str | None, what: str) -> _Kind | None:
    if text is None:
        return None
    try:
        return kind(text)
    except ValueError:
        raise UserError(f"no {what} {text[:80]!r}", f"there are {', '.join(kind)}") from None
