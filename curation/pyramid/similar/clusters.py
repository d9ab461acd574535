"""The clusters of a pyramid: the centroids that are in force, and which clip of the space is of which.

    vectors of a maker -> [fit] -> `clusters/centroids` -> [assigned] -> (vector's key, cluster)

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

FOLDER = "clusters"
FILE = f"{FOLDER}/centroids"
"""A line of SHA-256 of what follows, a line of JSON, and the numbers."""
NOT_IN_TIER = "not in tier "
"""How `crowding_why` begins for a clip outside the tier that shares are of."""
_FORMAT = 1
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


def key_columns(space: Space) -> list[str]:
    """The columns of `clips` that `keys_of` needs."""
    return ["clip_id", "caption"] if space.of_caption else ["clip_id"]


def keys_of(clips: pa.RecordBatch, space: Space) -> pa.Array:
    """What the vectors of clips are known by (see `_key`); null where a space is of captions and a clip has none."""
    if not space.of_caption:
        return clips["clip_id"]
    pairs = zip(clips["clip_id"].to_pylist(), clips["caption"].to_pylist(), strict=True)
    return pa.array([None if caption is None else f"{name} {mark(caption)}" for name, caption in pairs], pa.string())


def fit(pyramid: Pyramid, space: Space, asked: Asked) -> Fit:
    """Centroids of a uniform sample of the vectors of the clips that are there, the same whatever order they came in.
    UserError where there are none.
    """
    clips = pyramid.dataset("clips").scanner(columns=key_columns(space)).to_batches()
    keys = pa.chunked_array([keys_of(batch, space) for batch in clips], pa.string())
    dataset = vectors.opened(pyramid, space)
    places = _places(dataset, space, asked.by, keys)
    if not places.size:
        raise nothing(pyramid, space)
    number = min(asked.number or clusters.usual(places.size), clusters.MOST)
    random, most = np.random.default_rng(asked.seed), clusters.FITTED * number
    drawn = places[np.sort(random.choice(places.size, most, replace=False))] if most < places.size else places
    order = np.argsort(drawn)
    inward, start = drawn[order], 0
    sample = np.empty((drawn.size, space.width), np.float16)
    for _, rows in _vectors(dataset, space, asked.by):
        first, last = np.searchsorted(inward, (start, start + len(rows)))
        sample[order[first:last]] = rows[inward[first:last] - start]
        start += len(rows)
    return Fit(asked, places.size, clusters.fitted(sample, number, asked.seed))


def _places(dataset: lance.LanceDataset, space: Space, by: str, keys: pa.ChunkedArray) -> np.ndarray:
    """Where the vectors of some keys stand, in an order that follows from the keys; of one key the first."""
    import xxhash  # not in the environments of stages, which import a recipe and so this module

    hashes, alive = [np.empty(0, np.uint64)], [np.empty(0, bool)]
    for some in _keys(dataset, space, by):
        hashes.append(np.array([xxhash.xxh3_64_intdigest(name.encode()) for name in some.to_pylist()], np.uint64))
        alive.append(pc.is_in(some, keys).to_numpy(zero_copy_only=False))  # pyright: ignore[reportAttributeAccessIssue]
    there = np.flatnonzero(np.concatenate(alive))
    return there[np.unique(np.concatenate(hashes)[there], return_index=True)[1]]


def nothing(pyramid: Pyramid, space: Space) -> UserError:
    """That there is nothing to cluster."""
    return UserError(
        f"no clip of {pyramid.uri} has a vector in {space.name}", "name another space in [clusters] of its recipe"
    )


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
    """What vectors are known by: their clip and, in a space of captions, the caption that they were made of."""
    if not space.of_caption:
        return batch["clip_id"]
    return pc.binary_join_element_wise(batch["clip_id"], batch["of"], " ")  # pyright: ignore[reportAttributeAccessIssue]


def kept(pyramid: Pyramid, space: Space, asked: Asked) -> Fit | None:
    """The centroids in force, if they are what is asked for."""
    found = in_force(pyramid)
    return found if found and found.asked == asked and found.centroids.shape[1] == space.width else None


def in_force(pyramid: Pyramid) -> Fit | None:
    """The centroids in force; None also where the file is damaged, or of another version."""
    content = retrying(f"cannot read {pyramid.uri}", lambda: pyramid.files.read(FILE))
    digest, _, rest = (content or b"").partition(b"\n")
    if digest != _digest(rest):  # what is damaged may be anything, and is not read
        return None
    said, _, numbers = rest.partition(b"\n")
    told = json.loads(said)
    if told["format"] != _FORMAT:
        return None
    rows = np.frombuffer(numbers, np.float32).reshape(told["shape"])
    return Fit(Asked(**told["asked"]), told["clips"], rows)


def keep(pyramid: Pyramid, found: Fit, dead: frozenset[str]) -> bool:
    """Put these centroids in force; False where there are other tombstones by now than `dead`, so that they may be of
    vectors that go.
    """
    told = {"format": _FORMAT, "asked": asdict(found.asked), "clips": found.clips, "shape": found.centroids.shape}
    rest = json.dumps(told).encode() + b"\n" + np.ascontiguousarray(found.centroids, np.float32).tobytes()
    content = _digest(rest) + b"\n" + rest
    with writing(pyramid.uri):
        if tombstones.read(pyramid.files) != dead:
            return False
        retrying(f"cannot write to {pyramid.uri}", lambda: pyramid.files.write(FILE, content))
        return True


def drop(pyramid: Pyramid) -> bool:
    """Remove the centroids, so that the next run makes others; whether there were any."""
    there = retrying(f"cannot read {pyramid.uri}", lambda: pyramid.files.read(FILE)) is not None
    retrying(f"cannot write to {pyramid.uri}", lambda: pyramid.files.remove(FILE))
    return there


def _digest(content: bytes) -> bytes:
    return hashlib.sha256(content).hexdigest().encode()
