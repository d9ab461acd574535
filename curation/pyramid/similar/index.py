"""The index of the vectors of a space: when there is one, how it is made, and what it does not cover.

Below `EXACT_BELOW` vectors a search compares all of them, which takes a fraction of a second and is exact. Above, an
inverted file: vectors in about sqrt(rows) cells, of which a search opens the nearest ones. `commits.indexes` makes it
and extends it to new rows as it does with scalar indexes, by committers and by `upkeep`; rows that it does not cover
Lance compares one by one, so none is missed. What `similar.nearest` gets from it is compared again by whole vectors.
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
"""Cells of vectors of a byte a number: a fourth of product quantisation's loss for eight times its size, and vectors of
any width (docs/search.md has both measured)."""
OUTGROWN = 8
"""An index is made anew when there are this many times the rows that its cells were laid out for."""


def is_worth(dataset: lance.LanceDataset) -> bool:
    """Whether there are enough vectors for an index."""
    return dataset.count_rows() >= EXACT_BELOW


def cells(rows: int) -> int:
    """Into how many cells so many vectors are put."""
    return max(1, round(math.sqrt(rows)))


def make(dataset: lance.LanceDataset) -> None:
    """Make the index of all rows, in the place of one that is there. Raises as Lance does."""
    dataset.create_index(
        COLUMN, KIND, name=f"{COLUMN}_idx", metric=METRIC, num_partitions=cells(dataset.count_rows()), replace=True
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
    return dataset.count_rows() > OUTGROWN * max(laid_out, 1) ** 2


def behind(dataset: lance.LanceDataset) -> int:
    """How many vectors the index does not cover yet; 0 where there is no index."""
    found = there(dataset)
    if found is None:
        return 0
    covered = {number for part in found.segments for number in part.fragment_ids}
    return sum(one.count_rows() for one in dataset.get_fragments() if one.fragment_id not in covered)
