"""Writing media and samples: the half of a commit that runs in actors, anywhere, next to the bytes.

An actor writes fragment files under the dataset and sends the driver a short JSON ticket; nobody sees the
rows before `commit.Committer` commits the ticket, and files whose ticket is lost are removed by `upkeep`.
Bytes never travel.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, TypeVar

import pyarrow as pa

from curation.contract import SAMPLES
from curation.pyramid.storage.datasets import STORAGE_VERSION, media_schema
from curation.pyramid.storage.files import options
from curation.pyramid.storage.locks import writing

_BATCH_BYTES = 32 << 20
_Row = TypeVar("_Row")


def write_media_fragments(
    uri: str, rows: Iterable[tuple[str, bytes, *tuple[str, ...]]], storage_options: Mapping[str, str] | None = None
) -> str:
    """Write (clip_id, clip file) rows for the pyramid at `uri`; a ticket for `Batch.media`. A third value is the sha256
    that the row is to have: of a clip that is copied, and whose bytes may be damaged.
    """
    import lance

    schema = media_schema()

    def batch(some: list[tuple[str, bytes, *tuple[str, ...]]]) -> pa.RecordBatch:
        data = [row[1] for row in some]
        columns = [
            pa.array([row[0] for row in some]),
            lance.blob_array(data),
            pa.array([len(content) for content in data], pa.int64()),
            pa.array([row[2] if len(row) > 2 else hashlib.sha256(row[1]).hexdigest() for row in some]),
        ]
        return pa.RecordBatch.from_arrays(columns, schema=schema)

    return _write(uri, "media", schema, rows, batch, lambda row: len(row[1]), storage_options)


def write_samples_fragments(
    uri: str, rows: Iterable[tuple[str, Iterable[bytes]]], storage_options: Mapping[str, str] | None = None
) -> str:
    """Write (clip_id, JPEG frames) rows for the pyramid at `uri`; a ticket for `Batch.samples`."""

    def batch(some: list[tuple[str, list[bytes]]]) -> pa.RecordBatch:
        columns = [
            pa.array([clip_id for clip_id, _ in some]),
            pa.array([f for _, f in some], pa.list_(pa.binary())),
        ]
        return pa.RecordBatch.from_arrays(columns, schema=SAMPLES)

    listed = ((clip_id, list(frames)) for clip_id, frames in rows)
    return _write(uri, "samples", SAMPLES, listed, batch, lambda row: sum(map(len, row[1])), storage_options)


def _write(
    place: str,
    name: str,
    schema: pa.Schema,
    rows: Iterable[_Row],
    batch: Callable[[list[_Row]], pa.RecordBatch],
    size: Callable[[_Row], int],
    storage_options: Mapping[str, str] | None,
) -> str:
    from lance.fragment import write_fragments

    clip_ids: list[str] = []

    def batches() -> Iterator[pa.RecordBatch]:
        some: list[_Row] = []
        held = 0
        for row in rows:
            some.append(row)
            held += size(row)
            if held >= _BATCH_BYTES:
                full = batch(some)
                clip_ids.extend(full["clip_id"].to_pylist())
                yield full
                some, held = [], 0
        if some:
            full = batch(some)
            clip_ids.extend(full["clip_id"].to_pylist())
            yield full

    uri = f"{place}/{name}.lance"
    with writing(place):
        fragments = write_fragments(
            pa.RecordBatchReader.from_batches(schema, batches()),
            uri,
            schema=schema,
            data_storage_version=STORAGE_VERSION,
            storage_options=options(uri, storage_options),
        )
    return json.dumps({"clip_ids": clip_ids, "fragments": [fragment.to_json() for fragment in fragments]})


def read_ticket(ticket: str) -> tuple[list[str], list[Any]]:
    """(clip ids, Lance fragments) of a ticket."""
    from lance import FragmentMetadata

    data = json.loads(ticket)
    return data["clip_ids"], [FragmentMetadata.from_json(json.dumps(fragment)) for fragment in data["fragments"]]
