"""Vectors as they lie in the dataset of a space: by which makers, of which clips, or all of them against one.

What `nearest` puts its answers together from. Similarity is the cosine, computed in float32 from the stored float16:
a vector that is compared with itself has 1, and what has no length is like nothing (0).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from curation.pyramid.queries import access
from curation.pyramid.storage.datasets import of_space
from curation.pyramid.storage.lookup import chunks, select
from curation.pyramid.store import Pyramid
from curation.spaces import Space

if TYPE_CHECKING:
    import lance

_LOOKED_UP = 20_000
_BATCH_ROWS = 8192


def opened(pyramid: Pyramid, space: Space) -> lance.LanceDataset:
    """The dataset of a space at its latest version."""
    return pyramid.dataset(of_space(space.name))


def makers(pyramid: Pyramid, space: Space) -> Counter[str]:
    """How many vectors of a space each maker has made."""
    found: Counter[str] = Counter()
    for batch in opened(pyramid, space).scanner(columns=["by"], batch_size=1 << 17).to_batches():
        for pair in batch["by"].value_counts().to_pylist():
            found[pair["values"]] += pair["counts"]
    return found


def columns(space: Space) -> list[str]:
    """What is read of a row to compare it."""
    return ["clip_id", *(["of"] if space.of_caption else []), "vector"]


def of_clips(dataset: lance.LanceDataset, space: Space, clip_ids: Collection[str], by: str) -> Iterator[pa.Table]:
    """The vectors of some clips by one maker (`columns`), some thousands at a time; of one clip there may be several
    rows.
    """
    for some in chunks(sorted(clip_ids), _LOOKED_UP):
        rows = select(dataset, "clip_id", some, ["by", *columns(space)])
        yield rows.filter(pc.field("by") == pc.scalar(by))


def similarities(table: pa.Table, vector: np.ndarray) -> np.ndarray:
    """The cosines (n,) float32 of the column `vector` of n rows and `vector` (width,)."""
    if not table.num_rows:
        return np.empty(0, np.float32)
    column = table["vector"].combine_chunks()
    flat = column.flatten() if isinstance(column, pa.Array) else pa.concat_arrays([c.flatten() for c in column.chunks])
    rows = flat.to_numpy(zero_copy_only=False).reshape(table.num_rows, -1).astype(np.float32)
    lengths = np.linalg.norm(rows, axis=1) * np.linalg.norm(vector)
    return (rows @ vector.astype(np.float32)) / np.where(lengths > 0, lengths, np.inf)


def compared(dataset: lance.LanceDataset, by: str, vector: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """All vectors of one maker against `vector`: (cosines, row ids), the most alike first. One pass, which holds 12
    bytes a row.
    """
    scanner = dataset.scanner(
        columns=["vector"],
        filter=pc.field("by") == pc.scalar(by),
        with_row_id=True,
        use_scalar_index=False,
        batch_size=_BATCH_ROWS,
    )
    parts = [
        (similarities(pa.Table.from_batches([batch]), vector), batch["_rowid"].to_numpy())
        for batch in scanner.to_batches()
    ]
    if not parts:
        return np.empty(0, np.float32), np.empty(0, np.uint64)
    cosines, ids = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
    order = np.lexsort((ids, -cosines))
    return cosines[order], ids[order]


def rows(dataset: lance.LanceDataset, space: Space, ids: np.ndarray) -> pa.Table:
    """Rows by id in the order of `ids`, without their vectors."""
    return access.fetch(dataset, ids, [name for name in columns(space) if name != "vector"])
