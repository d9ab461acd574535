"""One transaction of Lance by hand: files that belong to no version yet, the operation that names them, its commit.

What `upsert`, `commit`, `tail` and `compaction` publish with, and the words by which they and `upkeep` delete rows.
Everything raises as Lance does where another writer came first; `retry` knows such an error from others.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import TYPE_CHECKING, Any

import pyarrow as pa

if TYPE_CHECKING:
    import lance

_ROWS = 4096
"""Rows that are held at a time while they are copied, where a row is small."""


def write(dataset: lance.LanceDataset, rows: pa.Table | pa.RecordBatchReader) -> list[Any]:
    """Rows as files of the dataset that belong to no version yet."""
    from lance.fragment import write_fragments

    return write_fragments(
        rows,
        dataset,  # pyright: ignore[reportArgumentType]
        schema=dataset.schema,
        mode="append",
        storage_options=dataset.latest_storage_options(),
    )


def written_again(dataset: lance.LanceDataset, numbers: Collection[int], batch_rows: int = _ROWS) -> int:
    """Put one new fragment of the rows of some in their place, without rows that are deleted and columns that the
    schema has no more; how many rows. `batch_rows` are held at a time. Raises as Lance does where one of them was
    written meanwhile.
    """
    import lance

    there = [one for one in dataset.get_fragments() if one.fragment_id in numbers]
    rows = sum(one.count_rows() for one in there)
    if there:
        written = write(dataset, dataset.scanner(fragments=there, batch_size=batch_rows).to_reader()) if rows else []
        gone = [one.fragment_id for one in there]
        committed(dataset, lance.LanceOperation.Update(removed_fragment_ids=gone, new_fragments=written))
    return rows


def committed(dataset: lance.LanceDataset, operation: Any) -> Any:
    """The version that `operation`, made from the version `dataset`, brings about."""
    import lance

    return lance.LanceDataset.commit(
        dataset, operation, read_version=dataset.version, storage_options=dataset.latest_storage_options()
    )


def rows_at(addresses: Iterable[int]) -> str:
    """The condition that rows lie at some addresses, for a deletion; they are integers of Lance's own. A compaction
    moves rows, but no other row ever gets an old address: a late deletion finds nothing.
    """
    return f"_rowaddr IN ({', '.join(str(int(address)) for address in addresses)})"
