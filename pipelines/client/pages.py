"""Rows of a query at a service, fetched page by page when they are read, with the types that they have in the pyramid.

A `Selection`: what shows and saves the rows of a pyramid takes these as well.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import pyarrow as pa

from curation.errors import UserError
from pipelines.client.errors import ServiceError
from pipelines.client.transport import Asked, Transport
from pipelines.client.wire import ARROW, MOST_ROWS, PAGE

_AS_NEW = "see that it is a `ziggurat serve` as new as this client"


@dataclass(frozen=True, slots=True)
class Page:
    """Some rows, and `beside` them what the route says in its JSON."""

    rows: pa.Table
    beside: dict[str, Any]


def page(content: bytes) -> Page:
    """Of an Arrow stream as the service sends it."""
    try:
        with pa.ipc.open_stream(content) as stream:
            table = stream.read_all()
        table.validate(full=True)
        metadata = dict(table.schema.metadata or {})
        beside = json.loads(metadata.pop(PAGE))
    except (pa.ArrowException, KeyError, ValueError):
        raise ServiceError("the rows of the service cannot be read", _AS_NEW, 200) from None
    return Page(table.replace_schema_metadata(metadata or None), beside)


@dataclass(frozen=True, slots=True)
class Pages:
    """Rows of the route `path` with the parameters `asked`; an immutable value. Iterated, it gives a dict a row.

    All pages are of the version that the first one is of. `rows`: how many there are at most; `selected`: the columns
    that were asked for; none: all. `first`: the page that it begins with, where it has been read.
    """

    transport: Transport
    path: str
    asked: Asked
    rows: int | None = None
    selected: tuple[str, ...] = ()
    first: Page | None = None

    def columns(self, *names: str) -> Pages:
        """Which columns, in this order."""
        return replace(self, selected=tuple(dict.fromkeys(names)), first=None)

    def limit(self, rows: int | None) -> Pages:
        if rows is not None and not 0 <= rows < 1 << 31:
            raise UserError(f"limit {rows!r:.40} is not a number of rows", "give an integer from 0 up")
        return replace(self, rows=rows, first=None)

    def pinned(self) -> Pages:
        """The same rows for as long as their version is there; their first page is read now."""
        return self if self.first is not None else replace(self, first=self._page(self._size(self.rows), None))

    def count(self) -> int:
        """How many rows there are, up to the limit."""
        found = self.transport.json(self.path, [*self.asked, ("limit", "1"), ("total", "true")]).get("total")
        if not isinstance(found, int):
            raise ServiceError("the service counts no rows", _AS_NEW, 200)
        return found if self.rows is None else min(found, self.rows)

    def schema(self) -> pa.Schema:
        """Names and types of the rows."""
        return (self.first or self._page(1, None)).rows.schema

    def batches(self) -> Iterator[pa.RecordBatch]:
        left, found = self.rows, self.first or self._page(self._size(self.rows), None)
        while True:
            some = found.rows if left is None else found.rows.slice(0, left)
            yield from some.to_batches()
            left = None if left is None else left - some.num_rows
            after = found.beside.get("next")
            if after is None or left == 0:
                return
            found = self._page(self._size(left), after)

    def to_table(self) -> pa.Table:
        """All rows, in memory."""
        pinned = self.pinned()
        return pa.Table.from_batches(pinned.batches(), pinned.schema())

    def __iter__(self) -> Iterator[dict[str, Any]]:
        for batch in self.batches():
            yield from batch.to_pylist()

    def _size(self, left: int | None) -> int:
        """How many rows the next page is to have; a page of none there is not."""
        return MOST_ROWS if left is None else max(1, min(left, MOST_ROWS))

    def _page(self, rows: int, after: str | None) -> Page:
        asked = [*self.asked, ("limit", str(rows))]
        asked += [("columns", ",".join(self.selected))] if self.selected else []
        asked += [("after", after)] if after is not None else []
        return page(self.transport.read(self.path, asked, ARROW))
