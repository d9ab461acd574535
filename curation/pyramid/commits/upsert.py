"""One row per key and no lost update, at a cost that does not grow with the dataset: the transaction behind `commit`.

An upsert reads the rows that exist at one version, unites them with what arrives, writes one new file that holds the
new rows and the new forms of old ones, marks the old forms deleted, and publishes all of it as one `Update`. If any row
is new, the transaction also names the oldest fragment, unchanged. Lance refuses an `Update` that names a fragment which
another transaction has named since the version read; the loser reads again (`retry`). Hence:

* unique: new rows come only by transactions that name the oldest fragment, so of two that insert one reads again. Ids
  of fragments only grow: another fragment becomes the oldest only by a transaction that removes the oldest, which
  conflicts too. Into an empty dataset the first rows go by `Merge`, which conflicts with every other transaction.
* no lost update: the old form of a row is deleted in the fragment where it was read, and a later deletion or update
  there refuses ours.
* nothing that was taken down: each attempt leaves out rows of such videos, by the tombstones that there are by then.
  `forget` touches the oldest fragment once its tombstones are there: an attempt that had not seen them is refused.
* whole: one manifest decides. A killed writer's files belong to no version; a commit repeated finds its own rows.

These are rules of Lance's conflict resolver, not of its documentation: `test_upsert.py` holds each of them, pair by
pair. They hold among writers that all follow them. A `merge_insert` that inserts, as format 1 had it, does not: such a
pyramid is refused until `migrate` has brought it here, and a program of that format refuses it afterwards.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from curation.pyramid.commits.gate import without
from curation.pyramid.queries import access
from curation.pyramid.storage.columns import writable
from curation.pyramid.storage.datasets import schema
from curation.pyramid.storage.lookup import select
from curation.pyramid.storage.transaction import committed, rows_at, write
from curation.pyramid.store import Pyramid
from curation.pyramid.takedown import tombstones
from curation.retry import retrying

if TYPE_CHECKING:
    import lance

Unite = Callable[[pa.Table], pa.Table]
"""From the rows that exist under the keys to the rows to write: some or all keys, each once."""


class Upsert:
    """Writes rows of `name` ("clips" or "videos") under `keys`; of no use after `run`."""

    def __init__(self, pyramid: Pyramid, name: str, keys: Collection[str], unite: Unite) -> None:
        self._pyramid, self._name, self._keys, self._unite = pyramid, name, sorted(set(keys)), unite
        self._key = schema(name).names[0]
        self._offer: Offer | None = None
        self._dead: frozenset[str] = frozenset()
        self.versions: tuple[int, int] | None = None
        """What was read and what was published, once `run` has published anything."""

    def run(self) -> int:
        """Publish; the number of rows written."""
        return retrying(f"commit to {self._pyramid.dataset_uri(self._name)}", self._attempt) if self._keys else 0

    def _attempt(self) -> int:
        dataset = writable(self._pyramid, self._name)
        dead = tombstones.read(self._pyramid.files)
        if self._offer is None or dead != self._dead or not self._still_new(self._offer, dataset):
            self._dead = dead
            self._offer = self.offer(dataset)
        if self._offer.rows:
            new = publish(dataset, self._offer.replaced, self._offer.written, self._offer.inserts)
            self.versions = dataset.version, new.version
        return self._offer.rows

    def offer(self, dataset: lance.LanceDataset) -> Offer:
        """Unite with what is there at this version, and write the file."""
        # First the keys alone: to look for rows by all their columns costs twice as much, whether there are any or not.
        columns = [self._key, "video_id"] if self._dead and self._key != "video_id" else [self._key]
        found = without(select(dataset, self._key, self._keys, columns, with_row_address=True), self._dead)
        there = found["_rowaddr"].to_numpy()
        old = access.fetch(dataset, np.sort(there), dataset.schema.names)
        rows = without(_widened(self._unite(old), old, self._key, dataset.schema), self._dead)
        return Offer(
            schema=dataset.schema,
            seen=frozenset(fragment.fragment_id for fragment in dataset.get_fragments()),
            replaced=tuple(there.tolist()),
            written=tuple(write(dataset, rows) if rows.num_rows else ()),
            rows=rows.num_rows,
        )

    def _still_new(self, offer: Offer, dataset: lance.LanceDataset) -> bool:
        """Whether all rows of a refused offer were new and nobody has inserted their keys since: the same file may be
        offered again, and only what came since was read.
        """
        if offer.replaced or offer.schema != dataset.schema:
            return False
        since = [one for one in dataset.get_fragments() if one.fragment_id not in offer.seen]
        return not since or not select(dataset, self._key, self._keys, [self._key], fragments=since).num_rows


@dataclass(frozen=True, slots=True)
class Offer:
    """What an attempt wants to publish: a written file of `rows` rows, the addresses of those it replaces, and the
    schema and the fragments of the version that it looked at.
    """

    schema: pa.Schema
    seen: frozenset[int]
    replaced: tuple[int, ...]
    written: tuple[Any, ...]
    rows: int

    @property
    def inserts(self) -> bool:
        return self.rows > len(self.replaced)


def publish(dataset: lance.LanceDataset, replaced: Collection[int], written: Sequence[Any], inserts: bool) -> Any:
    """Commit written rows in the place of those at the addresses `replaced`, on the version `dataset`; the new version.

    Raises what Lance does when another commit came first.
    """
    import lance

    there = {fragment.fragment_id: fragment for fragment in dataset.get_fragments()}
    if not there:
        operation: Any = lance.LanceOperation.Merge(list(written), dataset.lance_schema)
    else:
        left = {number: there[number].delete(rows_at(some)) for number, some in _by_fragment(replaced).items()}
        named = [metadata for metadata in left.values() if metadata is not None]
        if inserts and min(there) not in left:
            named.append(there[min(there)].metadata)
        removed = [number for number, metadata in left.items() if metadata is None]
        operation = lance.LanceOperation.Update(
            removed_fragment_ids=removed, updated_fragments=named, new_fragments=list(written)
        )
    return committed(dataset, operation)


def _by_fragment(addresses: Collection[int]) -> dict[int, list[int]]:
    found: dict[int, list[int]] = {}
    for address in addresses:
        found.setdefault(address >> 32, []).append(address)
    return found


def _widened(rows: pa.Table, old: pa.Table, key: str, columns: pa.Schema) -> pa.Table:
    """`rows` with all columns of the dataset: one that the contract does not know keeps its values."""
    if rows.schema.names == columns.names:
        return rows
    place = {value: index for index, value in enumerate(old[key].to_pylist())}
    taken = pa.array([place.get(value) for value in rows[key].to_pylist()], pa.int64())
    for field in columns:
        if field.name not in rows.column_names:
            rows = rows.append_column(field, old[field.name].combine_chunks().take(taken))
    return rows.select(columns.names)
