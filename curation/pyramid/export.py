"""Query results for other programs: JSON lines, CSV, Parquet, or a folder of .mp4 files. Streaming, memory
bounded.

File names come from clip ids alone, and only from ids that are hex digits, so nothing in the data can name a
path.
"""

from __future__ import annotations

import csv
import hashlib
import json
import os
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import IO, Any

import pyarrow as pa
import pyarrow.parquet as pq

from curation.errors import UserError
from curation.pyramid.query import Query

_ID = re.compile(r"[0-9a-f]{8,64}")
_CLIPS_AT_ONCE = 1000


@dataclass(frozen=True, slots=True)
class Extracted:
    """What `videos` did. `missing`: clips of the query that have not been cut, so there is no file."""

    files: int
    bytes: int
    missing: int


def table(query: Query, most: int = 10_000) -> pa.Table:
    """The first rows as a table, for a screen or an answer of the service."""
    rows = most if query.rows is None else min(most, query.rows)
    return query.limit(rows).to_table()


def json_lines(query: Query, out: IO[str]) -> int:
    """One object a line; the number of rows."""
    return _lines(query, lambda row: out.write(json.dumps(row, default=_plain, allow_nan=False) + "\n"))


def csv_file(query: Query, out: IO[str]) -> int:
    """A header and a line a row; lists as JSON, null as an empty field; the number of rows."""
    writer = csv.writer(out)
    writer.writerow(query.selected)

    def write(row: dict[str, Any]) -> object:
        return writer.writerow(json.dumps(value) if isinstance(value, list) else value for value in row.values())

    return _lines(query, write)


def parquet(query: Query, path: str | os.PathLike[str]) -> int:
    """One Parquet file, written beside its name first, so that no half file is ever left under it."""
    target = Path(path)
    partial = target.with_name(f".{target.name}.partial")
    rows = 0
    writer: pq.ParquetWriter | None = None
    try:
        for batch in _batches(query):
            writer = writer or pq.ParquetWriter(partial, batch.schema)
            writer.write_batch(batch)
            rows += batch.num_rows
        if writer is None:
            pq.write_table(query.limit(0).to_table(), partial)
        else:
            writer.close()
        partial.replace(target)
    except BaseException as error:
        partial.unlink(missing_ok=True)
        if isinstance(error, OSError):
            raise UserError(f"cannot write {target} ({error.strerror or error})", "choose another file") from error
        raise
    return rows


def videos(query: Query, folder: str | os.PathLike[str]) -> Extracted:
    """`<clip_id>.mp4` for every clip of the query that has been cut. The folder must be new or empty.

    Every file is compared with its SHA-256 before it gets its name; a difference is an error that names the
    clip.
    """
    target = Path(folder)
    try:
        target.mkdir(parents=True, exist_ok=True)
        occupied = any(target.iterdir())
    except OSError as error:
        raise UserError(f"cannot write to {target} ({error.strerror})", "choose another folder") from error
    if occupied:
        raise UserError(f"{target} is not empty", "choose a new folder")
    files = size = missing = 0
    for ids in _id_lists(query.pinned().columns("clip_id")):
        found = 0
        for clip_id, content, sha256 in query.pyramid.media(ids):
            _save(target, clip_id, content, sha256)
            found += 1
            size += len(content)
        files += found
        missing += len(ids) - found
    return Extracted(files, size, missing)


def _save(target: Path, clip_id: str, content: bytes, sha256: str) -> None:
    if hashlib.sha256(content).hexdigest() != sha256:
        raise UserError(f"the bytes of clip {clip_id!r} differ from their checksum", "the store is damaged: restore it")
    if not _ID.fullmatch(clip_id):
        raise UserError(f"clip id {clip_id!r} is not one of Ziggurat's", "it is not used as a file name; leave it out")
    partial = target / f".{clip_id}.partial"
    try:
        partial.write_bytes(content)
        partial.replace(target / f"{clip_id}.mp4")
    except OSError as error:
        partial.unlink(missing_ok=True)
        raise UserError(
            f"cannot write to {target} ({error.strerror})", "free space, or choose another folder"
        ) from error


def _id_lists(query: Query) -> Iterator[list[str]]:
    held: list[str] = []
    for batch in query.batches():
        held += batch["clip_id"].to_pylist()
        while len(held) >= _CLIPS_AT_ONCE:
            yield held[:_CLIPS_AT_ONCE]
            held = held[_CLIPS_AT_ONCE:]
    if held:
        yield held


def _batches(query: Query) -> Iterator[pa.RecordBatch]:
    """Batches with the query's columns and types, of one version throughout."""
    yield from query.pinned().batches()


def _lines(query: Query, write: Callable[[dict[str, Any]], object]) -> int:
    rows = 0
    for batch in _batches(query):
        for row in batch.to_pylist():
            write(row)
        rows += batch.num_rows
    return rows


def _plain(value: Any) -> Any:
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, bytes):
        return value.hex()
    raise TypeError(f"{type(value).__name__} has no JSON form")
