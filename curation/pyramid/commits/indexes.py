"""The indexes of the datasets: which columns have one, how they are made and kept up with new rows. That of vectors
is `similar.index`'s to make; here it is one among the others.

An index is a list of segments, and a lookup asks each. `extend` adds rows written since as one more segment and merges
it with the newest ones that are not much larger, so that there are a handful of them, and the large first one is not
rewritten for a few new rows. `upkeep` makes one of all. Committers call `extend` from time to time (`tail`), for a
lookup opens every fragment that no index covers.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from curation.pyramid.queries import access
from curation.pyramid.similar import index as of_vectors
from curation.pyramid.store import Pyramid
from curation.retry import retrying

if TYPE_CHECKING:
    import lance

PAGE_ROWS = 1024
"""Rows of a page of an index, which a lookup reads whole: of 10 M rows, 50 scattered keys take half of what they take
with Lance's own 4,096."""
GROWTH = 8
"""A segment is merged with new rows that are an eighth of it or more: there are about log8(rows) segments, and a row is
written about 8 log8(rows) times at most."""
ASKED = {("clips", "video_id"): 4096}
"""Columns that no commit looks up have larger pages: a session reads the list of pages before its first lookup."""
WORTH = 8192
"""A dataset with fewer rows is looked through sooner than an index of it is made."""


def of_committers(pyramid: Pyramid, name: str) -> tuple[str, ...]:
    """Columns by which rows are found, by commits and by workers, and vectors: committers make these indexes once they
    are `worth` it, `upkeep` the others.
    """
    looked_up = {"videos": ("video_id",), "clips": access.KEYS}.get(name, ("clip_id",))
    return (*looked_up, *([of_vectors.COLUMN] if of_vectors.COLUMN in pyramid.schema(name).names else []))


def worth(column: str) -> int:
    """Rows from which on an index of a column is worth having."""
    return of_vectors.EXACT_BELOW if column == of_vectors.COLUMN else WORTH


def wanted(pyramid: Pyramid, name: str) -> list[str]:
    """Columns with an index after `upkeep`. Not width and such: they have few values, so no range is narrow."""
    kept = [one for one in of_committers(pyramid, name) if one != of_vectors.COLUMN]
    vectors = of_vectors.COLUMN in pyramid.schema(name).names and of_vectors.is_worth(pyramid.dataset(name))
    return [*kept, *([of_vectors.COLUMN] if vectors else []), *(pyramid.scores if name == "clips" else ())]


def create(pyramid: Pyramid, name: str, columns: Iterable[str]) -> None:
    """Make the indexes on `columns` that are missing."""
    for column in missing(pyramid, name, columns):
        retrying(f"index on {name}.{column}", lambda column=column: make(pyramid, name, column))


def missing(pyramid: Pyramid, name: str, columns: Iterable[str]) -> list[str]:
    """Those of `columns` that have no index."""
    present = {column for index in pyramid.dataset(name).describe_indices() for column in index.field_names}
    return [column for column in columns if column not in present]


def renew(pyramid: Pyramid, name: str) -> None:
    """Make the indexes again whose pages are larger than they should be, as those of older pyramids are, and one of
    vectors that has outgrown its cells.
    """
    dataset = pyramid.dataset(name)
    for index in dataset.describe_indices():
        column = index.field_names[0]
        if column == of_vectors.COLUMN:
            if of_vectors.is_outgrown(dataset):
                retrying(f"index on {name}.{column}", lambda column=column: make(pyramid, name, column))
            continue
        parts = dataset.stats.index_stats(index.name)["segments"]
        pages = sum(int(part.get("num_pages", 0)) for part in parts)
        if pages and index.num_rows_indexed > 2 * _page_rows(name, column) * pages:
            retrying(f"index on {name}.{column}", lambda column=column: make(pyramid, name, column))


def make(pyramid: Pyramid, name: str, column: str) -> None:
    """Make one index of all rows, in the place of one that is there. Raises as Lance does."""
    from lance.indices import IndexConfig

    if column == of_vectors.COLUMN:
        of_vectors.make(pyramid.dataset(name))
        return
    config = IndexConfig("btree", {"zone_size": _page_rows(name, column)})
    pyramid.dataset(name).create_scalar_index(column, config, replace=True)


def _page_rows(name: str, column: str) -> int:
    return ASKED.get((name, column), PAGE_ROWS)


def extend(pyramid: Pyramid, name: str) -> None:
    """Bring the indexes up to the rows there are."""
    dataset = pyramid.dataset(name)
    rows = {fragment.fragment_id: fragment.metadata.num_rows for fragment in dataset.get_fragments()}
    by_merged: dict[int, list[str]] = {}
    for index in dataset.describe_indices():
        count = merged_segments(rows, [list(part.fragment_ids) for part in index.segments])
        if count is not None:
            by_merged.setdefault(count, []).append(index.name)
    for count, names in by_merged.items():
        _optimize(pyramid.dataset(name), names, count)


def merged_segments(rows: Mapping[int, int], segments: Sequence[Iterable[int]]) -> int | None:
    """How many of the newest segments, each given by its fragments, are merged with what none of them covers; None
    where they cover all. `rows`: of each fragment there is.
    """
    covered = [sum(rows.get(number, 0) for number in set(segment)) for segment in segments]
    if rows.keys() <= {number for segment in segments for number in segment}:
        return None
    merged, total = 0, sum(rows.values()) - sum(covered)
    for size in reversed(covered):
        if size > GROWTH * total:
            break
        merged, total = merged + 1, total + size
    return merged


def unite(pyramid: Pyramid, name: str) -> None:
    """Make one segment of each index, up to the rows there are."""
    for index in pyramid.dataset(name).describe_indices():
        dataset = pyramid.dataset(name)
        retrying(
            f"index {index.name} of {name}",
            lambda dataset=dataset, index=index: _optimize(dataset, [index.name], len(index.segments)),
        )


def _optimize(dataset: lance.LanceDataset, names: list[str], merged: int) -> Any:
    return dataset.optimize.optimize_indices(index_names=names, num_indices_to_merge=merged)
