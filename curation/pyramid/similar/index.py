"""The index of the vectors of a space: when there is one, how it is made, and what it does not cover.

Below `EXACT_BELOW` vectors a search compares all of them, which takes a fraction of a second and is exact. Above, an
inverted file: vectors in some hundred cells, of which a search opens the nearest ones. `commits.indexes` makes it and
extends it to new rows as it does with scalar indexes, by committers and by `upkeep`; rows that it does not cover Lance
compares one by one, so none is missed. What `similar.nearest` gets from it is compared again by whole vectors.
"""

from __future__ import annotations

import math
import os
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import lance

COLUMN = "vector"
METRIC = "cosine"
EXACT_BELOW = 100_000
"""Vectors of a space up to which all are compared."""
KIND = "IVF_SQ"
"""Cells of vectors of a byte a number. Product quantisation takes an eighth of that, and wants a width that it can
divide, which that of a user's space need not be."""
_TRAINING: dict[str, Any] = {"sample_rate": 64, "max_iters": 10}
"""Vectors a cell that the centres are found by, and rounds. Lance computes slowly in float16: its own 256 and 50 take
several times as long, and no search finds more for it (docs/search.md)."""
_LEAST_OPENED, _SHARE_OPENED, _ROWS_A_CELL = 32, 16, 50
"""A search opens so many cells, or that part of all, and one more for each so many vectors that it asks for."""
OUTGROWN = 8
"""An index is made anew when there are this many times the rows that its cells were laid out for."""


def is_worth(dataset: lance.LanceDataset) -> bool:
    """Whether there are enough vectors for an index."""
    return dataset.count_rows() >= EXACT_BELOW


def cells(rows: int) -> int:
    """Into how many cells so many vectors are put."""
    return max(1, round(math.sqrt(rows) / 2))


def opened(rows: int, asked: int) -> int:
    """How many cells of an index of so many rows a search opens that asks for `asked` vectors."""
    return max(_LEAST_OPENED, cells(rows) // _SHARE_OPENED) + asked // _ROWS_A_CELL


def make(dataset: lance.LanceDataset) -> None:
    """Make the index of all rows, in the place of one that is there. Raises as Lance does."""
    many = cells(dataset.count_rows())
    dataset.create_index(
        COLUMN, KIND, name=f"{COLUMN}_idx", metric=METRIC, num_partitions=many, replace=True, **_TRAINING
    )


def there(dataset: lance.LanceDataset) -> Any | None:
    """Lance's description of the index of vectors; None where there is none."""
    return next((one for one in dataset.describe_indices() if one.field_names == [COLUMN]), None)


def is_outgrown(dataset: lance.LanceDataset) -> bool:
    """Whether there are by now too many rows for the cells of the index."""
    found = there(dataset)
    if found is None:
        return False
    # Lance's figures hold all centres otherwise, and a warning about them goes to standard error.
    os.environ.setdefault("LANCE_INCLUDE_VECTOR_CENTROIDS", "false")
    parts = dataset.stats.index_stats(found.name)["segments"]
    laid_out = max((int(part["num_partitions"]) for part in parts), default=1)
    return cells(dataset.count_rows()) ** 2 > OUTGROWN * max(laid_out, 1) ** 2


def behind(dataset: lance.LanceDataset) -> int:
    """How many vectors the index does not cover yet; 0 where there is no index."""
    found = there(dataset)
    if found is None:
        return 0
    covered = {number for part in found.segments for number in part.fragment_ids}
    return sum(one.count_rows() for one in dataset.get_fragments() if one.fragment_id not in covered)
