"""The clusters of a pyramid: the centroids that are in force, and which clip of the space is of which.

    vectors of a maker -> [fit] -> `clusters.arrow` -> [assigned] -> (clip, cluster)

Centroids are kept, so that a cluster has the same number when clips come and go; `pipelines.clusters` writes what comes
of it into `clips`. A centroid is the mean of `embed.clusters.LEAST` vectors or more and stays when a clip goes.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from functools import cached_property

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from curation.embed import clusters
from curation.errors import UserError
from curation.pyramid.similar import vectors
from curation.pyramid.store import Pyramid
from curation.retry import retrying
from curation.spaces import Space

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


def fit(pyramid: Pyramid, space: Space, asked: Asked) -> Fit:
    """Centroids of a uniform sample of the vectors. UserError where there are none."""
    there = vectors.makers(pyramid, space)[asked.by]
    if not there:
        raise nothing(pyramid, space)
    number = min(asked.number or clusters.usual(there), clusters.MOST)
    share, random = clusters.FITTED * number / there, np.random.default_rng(asked.seed)
    drawn = [rows[random.random(len(rows)) < share] for _, rows in _vectors(pyramid, space, asked.by)]
    return Fit(asked, there, clusters.fitted(np.concatenate(drawn), number, asked.seed))


def nothing(pyramid: Pyramid, space: Space) -> UserError:
    """That there is nothing to cluster."""
    return UserError(
        f"no clip of {pyramid.uri} has a vector in {space.name}", "name another space in [clusters] of its recipe"
    )


def assigned(pyramid: Pyramid, space: Space, found: Fit) -> pa.Table:
    """`clip_id`, `cluster` (-1: the vector has no length) and in a space of captions `of`, a row for each vector."""
    named = [name for name in vectors.columns(space) if name != "vector"]
    schema = pa.schema([*(pa.field(name, pa.string()) for name in named), pa.field("cluster", pa.int32())])
    parts = [schema.empty_table()]
    for batch, rows in _vectors(pyramid, space, found.asked.by):
        of_rows = pa.array(clusters.nearest(found.centroids, rows))
        parts.append(pa.table([*(batch[name] for name in named), of_rows], schema=schema))
    return pa.concat_tables(parts)


def _vectors(pyramid: Pyramid, space: Space, by: str) -> Iterator[tuple[pa.Table, np.ndarray]]:
    """The rows of a maker, some thousands at a time, and their vectors (n, width) float16."""
    scanner = vectors.opened(pyramid, space).scanner(
        columns=vectors.columns(space),
        filter=pc.field("by") == pc.scalar(by),
        use_scalar_index=False,
        batch_size=_BATCH_ROWS,
    )
    for batch in scanner.to_batches():
        flat = batch["vector"].flatten().to_numpy(zero_copy_only=False)  # pyright: ignore[reportAttributeAccessIssue]
        yield pa.Table.from_batches([batch]), flat.reshape(batch.num_rows, space.width)


def kept(pyramid: Pyramid, asked: Asked) -> Fit | None:
    """The centroids in force, if they are what is asked for; None also where the file is damaged."""
    content = retrying(f"cannot read {pyramid.uri}", lambda: pyramid.files.read(FILE))
    if content is None:
        return None
    try:
        with pa.ipc.open_file(pa.BufferReader(content)) as file:
            table = file.read_all()
        said = json.loads((table.schema.metadata or {})[b"fit"])
        rows = table["centroid"].combine_chunks()
        flat = rows.flatten().to_numpy(zero_copy_only=False)  # pyright: ignore[reportAttributeAccessIssue]
        found = Fit(Asked(**said["asked"]), said["clips"], flat.reshape(table.num_rows, -1))
    except (pa.ArrowException, KeyError, TypeError, ValueError):
        return None
    return found if found.asked == asked and found.centroids.size else None


def keep(pyramid: Pyramid, found: Fit) -> None:
    """Put these centroids in force."""
    said = json.dumps({"asked": asdict(found.asked), "clips": found.clips})
    rows = pa.FixedSizeListArray.from_arrays(pa.array(found.centroids.ravel()), found.centroids.shape[1])
    table = pa.table({"centroid": rows}).replace_schema_metadata({"fit": said})
    sink = pa.BufferOutputStream()
    with pa.ipc.new_file(sink, table.schema) as file:
        file.write_table(table)
    content = sink.getvalue().to_pybytes()
    retrying(f"cannot write to {pyramid.uri}", lambda: pyramid.files.write(FILE, content))
