"""The clusters of a pyramid: the centroids that are in force, and which clip of the space is of which.

    vectors of a maker -> [fit] -> `clusters.arrow` -> [assigned] -> (vector's key, cluster)

Centroids are kept, so that a cluster has the same number when clips come; `pipelines.clusters` writes what comes of it
into `clips`. They are made of vectors of clips, so a takedown removes them (`takedown.forget`), and none are kept that
were made while one began.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from curation.embed import clusters
from curation.errors import UserError
from curation.pyramid.similar import vectors
from curation.pyramid.storage.locks import writing
from curation.pyramid.store import Pyramid
from curation.pyramid.takedown import tombstones
from curation.retry import retrying
from curation.spaces import Space, mark

if TYPE_CHECKING:
    import lance

FILE = "clusters.arrow"
_BATCH_ROWS = 8192


@dataclass(frozen=True, slots=True)
class Asked:
    """What was asked of a fit: the space, whose vectors, how many clusters (None: by the number of clips), the seed."""

    space: str
    by: str
    number: int | None
    seed: int
    version: int = clusters.VERSION


@dataclass(frozen=True)
class Fit:
    """Centroids (k, width) float32, and of how many `clips` the space was then."""

    asked: Asked
    clips: int
    centroids: np.ndarray

    @cached_property
    def name(self) -> str:
        """Of these centroids and no others."""
        return hashlib.sha256(self.centroids.tobytes()).hexdigest()[:16]


def fit(pyramid: Pyramid, space: Space, asked: Asked, keys: pa.ChunkedArray) -> Fit:
    """Centroids of a uniform sample of the vectors that have one of `keys` (`key`). UserError where there are none."""
    dataset = vectors.opened(pyramid, space)
    alive = [
        pc.is_in(some, keys).to_numpy(zero_copy_only=False)  # pyright: ignore[reportAttributeAccessIssue]
        for some in _keys(dataset, space, asked.by)
    ]
    places = np.flatnonzero(np.concatenate([np.empty(0, bool), *alive]))
    if not places.size:
        raise nothing(pyramid, space)
    number = min(asked.number or clusters.usual(places.size), clusters.MOST)
    random, most = np.random.default_rng(asked.seed), clusters.FITTED * number
    drawn = np.sort(random.choice(places, most, replace=False)) if most < places.size else places
    parts, start = list[np.ndarray](), 0
    for _, rows in _vectors(dataset, space, asked.by):
        first, last = np.searchsorted(drawn, (start, start + len(rows)))
        parts.append(rows[drawn[first:last] - start])
        start += len(rows)
    return Fit(asked, places.size, clusters.fitted(np.concatenate(parts), number, asked.seed))


def nothing(pyramid: Pyramid, space: Space) -> UserError:
    """That there is nothing to cluster."""
    return UserError(
        f"no clip of {pyramid.uri} has a vector in {space.name}", "name another space in [clusters] of its recipe"
    )


def key(clip_id: str, caption: str) -> str:
    """What a vector of a clip's caption is known by. Elsewhere it is the clip's id."""
    return f"{clip_id} {mark(caption)}"


def assigned(pyramid: Pyramid, space: Space, found: Fit) -> pa.Table:
    """`key` and `cluster` (-1: the vector has no length), a row for each vector."""
    schema = pa.schema([pa.field("key", pa.string()), pa.field("cluster", pa.int32())])
    parts = [schema.empty_table()]
    for keys, rows in _vectors(vectors.opened(pyramid, space), space, found.asked.by):
        parts.append(pa.table([keys, pa.array(clusters.nearest(found.centroids, rows))], schema=schema))
    return pa.concat_tables(parts)


def _vectors(dataset: lance.LanceDataset, space: Space, by: str) -> Iterator[tuple[pa.Array, np.ndarray]]:
    """The keys of a maker's vectors in their order, some thousands at a time, and the vectors (n, width) float16."""
    for batch in _batches(dataset, vectors.columns(space), by):
        flat = batch["vector"].flatten().to_numpy(zero_copy_only=False)  # pyright: ignore[reportAttributeAccessIssue]
        yield _key(batch, space), flat.reshape(batch.num_rows, space.width)


def _keys(dataset: lance.LanceDataset, space: Space, by: str) -> Iterator[pa.Array]:
    """The keys alone, in the same order."""
    for batch in _batches(dataset, [name for name in vectors.columns(space) if name != "vector"], by):
        yield _key(batch, space)


def _batches(dataset: lance.LanceDataset, columns: list[str], by: str) -> Iterator[pa.RecordBatch]:
    test = pc.field("by") == pc.scalar(by)
    scanner = dataset.scanner(columns=columns, filter=test, use_scalar_index=False, batch_size=_BATCH_ROWS)
    yield from scanner.to_batches()


def _key(batch: pa.RecordBatch, space: Space) -> pa.Array:
    if not space.of_caption:
        return batch["clip_id"]
    return pc.binary_join_element_wise(batch["clip_id"], batch["of"], " ")  # pyright: ignore[reportAttributeAccessIssue]


def kept(pyramid: Pyramid, space: Space, asked: Asked) -> Fit | None:
    """The centroids in force, if they are what is asked for."""
    found = in_force(pyramid)
    return found if found and found.asked == asked and found.centroids.shape[1] == space.width else None


def in_force(pyramid: Pyramid) -> Fit | None:
    """The centroids in force; None also where the file is damaged."""
    content = retrying(f"cannot read {pyramid.uri}", lambda: pyramid.files.read(FILE))
    if content is None:
        return None
    try:
        with pa.ipc.open_file(pa.BufferReader(content)) as file:
            table = file.read_all()
        said = json.loads((table.schema.metadata or {})[b"fit"])
        rows = np.array(table["centroid"].to_pylist(), np.float32)
        found = Fit(Asked(**said["asked"]), said["clips"], rows)
    except (pa.ArrowException, KeyError, TypeError, ValueError):
        return None
    is_whole = rows.ndim == 2 and rows.size > 0 and isinstance(found.clips, int) and np.isfinite(rows).all()
    return found if is_whole else None


def keep(pyramid: Pyramid, found: Fit, dead: frozenset[str]) -> bool:
    """Put these centroids in force; False where there are other tombstones by now than `dead`, so that they may be of
    vectors that go.
    """
    said = json.dumps({"asked": asdict(found.asked), "clips": found.clips})
    rows = pa.FixedSizeListArray.from_arrays(pa.array(found.centroids.ravel()), found.centroids.shape[1])
    table = pa.table({"centroid": rows}).replace_schema_metadata({"fit": said})
    sink = pa.BufferOutputStream()
    with pa.ipc.new_file(sink, table.schema) as file:
        file.write_table(table)
    content = sink.getvalue().to_pybytes()
    with writing(pyramid.uri):
        if tombstones.read(pyramid.files) != dead:
            return False
        retrying(f"cannot write to {pyramid.uri}", lambda: pyramid.files.write(FILE, content))
        return True


def drop(pyramid: Pyramid) -> None:
    """Remove the centroids: the next run makes others."""
    retrying(f"cannot write to {pyramid.uri}", lambda: pyramid.files.remove(FILE))
