"""What goes with a clip and does not stand in its row: vectors (`embeddings/NAME`) and why it has none (`unembedded`),
and what models said of it, with captions that have given way to others (`captions`). Part of a commit.

All are appended to, and several rows may be of one clip: a vector for each maker (and each caption, where it is made of
that), a row for each text of a maker and for each reason why it gave none.
What is there is looked up first, so a batch that is committed again adds nothing. Two committers that write the same at
the same moment may both add it: `Pyramid.vectors` takes the first, and `upkeep` removes the other.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from curation.contract import CAPTIONS
from curation.pyramid.commits import tail
from curation.pyramid.queries.makers import UNKNOWN
from curation.pyramid.storage.datasets import NO_VECTOR, of_space
from curation.pyramid.storage.lookup import chunks, select
from curation.pyramid.storage.transaction import committed, write
from curation.pyramid.store import Pyramid
from curation.retry import retrying

if TYPE_CHECKING:
    import lance

_KEY = ("clip_id", "by", "of", "caption", "why")
"""By what a row is one and the same, as far as its dataset has these columns."""

_AT_ONCE = 1000


def row_key(pyramid: Pyramid, name: str) -> tuple[str, ...]:
    """The columns by which a row of one of `Pyramid.beside` is one and the same."""
    key = tuple(column for column in _KEY if column in pyramid.schema(name).names)
    return (*key, "space") if name == NO_VECTOR else key


def add_embeddings(pyramid: Pyramid, tables: Iterable[pa.Table]) -> int:
    """Append vectors, each table of one space; how many were new."""
    by_space: dict[str, list[pa.Table]] = {}
    for table in tables:
        if table.num_rows:
            by_space.setdefault(table["space"][0].as_py(), []).append(table)
    return sum(add(pyramid, of_space(space), pa.concat_tables(some)) for space, some in by_space.items())


def add_unembedded(pyramid: Pyramid, tables: Sequence[pa.Table]) -> int:
    """Append why clips have no vector (`spaces.UNEMBEDDED`); how many rows were new."""
    rows = [table for table in tables if table.num_rows]
    return add(pyramid, NO_VECTOR, pa.concat_tables(rows)) if rows else 0


def add_captions(pyramid: Pyramid, tables: Sequence[pa.Table]) -> int:
    """Append what models said (`contract.CAPTIONS`); how many rows were new."""
    rows = [table for table in tables if table.num_rows]
    return add(pyramid, "captions", pa.concat_tables(rows)) if rows else 0


def keep_captions(pyramid: Pyramid, rows: Sequence[Mapping[str, Any]]) -> int:
    """Keep the captions of rows of `clips` that are not in force, or soon will not be; how many were not kept yet."""
    kept = [
        {"clip_id": row["clip_id"], "by": row.get("caption_by") or UNKNOWN, "caption": row["caption"]} for row in rows
    ]
    return add(pyramid, "captions", pa.Table.from_pylist(kept, schema=CAPTIONS)) if kept else 0


def add(pyramid: Pyramid, name: str, rows: pa.Table) -> int:
    """Append those of `rows` that are not there; how many."""

    def once() -> tuple[int, int, int]:
        dataset = pyramid.dataset(name)
        new = _new(dataset, rows, row_key(pyramid, name))
        if not new.num_rows:
            return 0, 0, 0
        import lance

        after = committed(dataset, lance.LanceOperation.Append(write(dataset, new)))
        return new.num_rows, dataset.version, after.version

    added, before, after = retrying(f"commit to {pyramid.dataset_uri(name)}", once)
    if tail.due(before, after):
        tail.tend(pyramid, name)
    return added


def _new(dataset: lance.LanceDataset, rows: pa.Table, columns: Sequence[str]) -> pa.Table:
    """Those of `rows` that neither the dataset has nor an earlier one of them is."""
    keys = list(zip(*(rows[column].to_pylist() for column in columns), strict=True))
    seen: set[tuple[Any, ...]] = set()
    for some in chunks(sorted({key[0] for key in keys}), _AT_ONCE):
        there = select(dataset, "clip_id", some, list(columns))
        seen |= set(zip(*(there[column].to_pylist() for column in columns), strict=True))
    fresh: list[bool] = []
    for key in keys:
        fresh.append(key not in seen)
        seen.add(key)
    return rows.filter(pa.array(fresh, pa.bool_()))
