"""Query results for other programs: JSON lines, CSV or Parquet, or a folder of .mp4 files and images with
`metadata.jsonl`.

Everything goes out through `curation.outputs`: to a path or an object store, whole or not at all. Memory is bounded by
a batch of rows and one clip. The first three take any stream of rows (`Rows`), not of clips alone.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from types import MappingProxyType
from typing import IO, Any

import pyarrow as pa
import pyarrow.parquet as pq

from curation import outputs
from curation.errors import UserError
from curation.outputs import Folder
from curation.pyramid.queries.naming import FIELDS, Pattern, suffix
from curation.pyramid.queries.query import Query
from curation.pyramid.queries.selection import Selection

METADATA = "metadata.jsonl"
"""Written last into a folder of clips: one object a clip, whose `file_name` is where data sets on hubs look for it."""

TABLES = (".jsonl", ".csv", ".parquet")
_CLIPS_AT_ONCE = 1000


@dataclass(frozen=True, slots=True)
class Rows:
    """Rows to write: their columns, and batches that have them. Read once."""

    schema: pa.Schema
    batches: Iterable[pa.RecordBatch]

    @classmethod
    def of(cls, selection: Selection) -> Rows:
        """The rows of a query, say, of one version throughout."""
        pinned = selection.pinned()
        return cls(pinned.schema(), pinned.batches())


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


def save(rows: Rows, output: str) -> int:
    """Write a file of the kind that the suffix of `output` says, one of `TABLES`; the number of rows."""
    suffix = outputs.suffix(output)
    assert suffix in TABLES, output
    with outputs.replacing(output) as file:
        if suffix == ".parquet":
            return parquet(rows, file)
        text = io.TextIOWrapper(file, encoding="utf-8", newline="", write_through=True)
        try:
            return json_lines(rows, text) if suffix == ".jsonl" else csv_file(rows, text)
        finally:
            text.flush()
            text.detach()


def json_lines(rows: Rows, out: IO[str]) -> int:
    """One object a line; the number of rows."""
    count = 0
    for row in _each(rows):
        out.write(_json(row))
        count += 1
    return count


def csv_file(rows: Rows, out: IO[str]) -> int:
    """A header and a line a row; lists as JSON, null as an empty field; the number of rows."""
    writer = csv.writer(out)
    writer.writerow(rows.schema.names)
    count = 0
    for row in _each(rows):
        writer.writerow(json.dumps(value) if isinstance(value, list) else value for value in row.values())
        count += 1
    return count


def parquet(rows: Rows, out: IO[bytes]) -> int:
    """One Parquet file; the number of rows."""
    count = 0
    with pq.ParquetWriter(out, rows.schema) as writer:
        for batch in rows.batches:
            writer.write_batch(batch)
            count += batch.num_rows
    return count


def is_table(output: str) -> bool:
    """Whether `output` names a file of rows, and not a folder."""
    return outputs.suffix(output) in TABLES


def videos(
    query: Query, output: str, names: str = "{clip_id}", more: Mapping[str, Mapping[str, Any]] = MappingProxyType({})
) -> Extracted:
    """One .mp4 for every clip of the query that has been cut (of an image .jpg or .png), called by the pattern `names`,
    and `METADATA`.

    The folder must be new or empty, and is so again where this fails. Every file is compared with its SHA-256 before it
    gets its name; a difference is an error that names the clip. `METADATA` has the columns of the query, and those that
    say where a clip comes from. `more`: what else it says of each clip.
    """
    pattern = Pattern.of(names)
    wanted = dict.fromkeys((*query.selected, *FIELDS, "uris", "media"))
    columns = query.columns(*wanted)
    files = size = missing = 0
    with outputs.new_folder(output, METADATA) as (folder, metadata):
        for rows in _lists(columns.pinned()):
            called = {row["clip_id"]: (pattern.name(row), row["kind"]) for row in rows}
            written = _save(folder, query, called)
            for row in rows:
                if row["clip_id"] in written:
                    metadata.write(
                        _json({"file_name": written[row["clip_id"]][0], **row, **more.get(row["clip_id"], {})}).encode()
                    )
            files += len(written)
            size += sum(length for _, length in written.values())
            missing += len(rows) - len(written)
    return Extracted(files, size, missing)


def _save(folder: Folder, query: Query, names: dict[str, tuple[str, str]]) -> dict[str, tuple[str, int]]:
    """Write the clips of `names` (name without suffix and kind, by clip id) that have been cut; the file name and the
    bytes of each.
    """
    written: dict[str, tuple[str, int]] = {}
    for clip_id, content, sha256 in query.pyramid.media(names):
        if hashlib.sha256(content).hexdigest() != sha256:
            cause = f"the bytes of clip {clip_id!r} differ from their checksum"
            raise UserError(cause, "the store is damaged: restore it")
        name, kind = names[clip_id]
        file_name = name + suffix(clip_id, kind, content)
        folder.add(file_name, content)
        written[clip_id] = file_name, len(content)
    return written


def _lists(query: Query) -> Iterator[list[dict[str, Any]]]:
    held: list[dict[str, Any]] = []
    for batch in query.batches():
        held += batch.to_pylist()
        while len(held) >= _CLIPS_AT_ONCE:
            yield held[:_CLIPS_AT_ONCE]
            held = held[_CLIPS_AT_ONCE:]
    if held:
        yield held


def _each(rows: Rows) -> Iterator[dict[str, Any]]:
    for batch in rows.batches:
        yield from batch.to_pylist()


def _json(row: dict[str, Any]) -> str:
    return json.dumps(row, default=plain, allow_nan=False) + "\n"


def plain(value: Any) -> Any:
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, bytes):
        return value.hex()
    raise TypeError(f"{type(value).__name__} has no JSON form")
