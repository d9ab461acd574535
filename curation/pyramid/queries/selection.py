"""What is common to rows that are read when they are asked for: those of a `Query`, of a `Listing` of videos, and of
other places than a pyramid. What shows or saves rows asks for no more than this.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol, Self

import pyarrow as pa


class Selection(Protocol):
    """An immutable value; each method that gives another one leaves it as it is."""

    @property
    def rows(self) -> int | None:
        """How many rows there are at most; None: all."""
        ...

    @property
    def selected(self) -> tuple[str, ...]:
        """The columns that were asked for."""
        ...

    def columns(self, *names: str) -> Self: ...

    def limit(self, rows: int | None) -> Self: ...

    def pinned(self) -> Self:
        """The same rows for ever, whatever is written meanwhile."""
        ...

    def count(self) -> int: ...

    def schema(self) -> pa.Schema:
        """Names and types of `batches`."""
        ...

    def batches(self) -> Iterator[pa.RecordBatch]: ...
