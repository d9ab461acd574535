"""Lists of inputs: the rows of a text, CSV, JSON lines or Parquet file, as a stream, whatever the file's length.

`sources` calls it for an argument with such a suffix and decides what each name may refer to; this module only reads.
Text: one name a line, `#` starts a comment line. The others: the first of `tables.COLUMNS` that is there, or the only
one; all further columns are the user's own and go along as one JSON object (`curation.inputs.own_columns`).
"""

from __future__ import annotations

import codecs
import io
from collections.abc import Iterator
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from curation.errors import UserError
from curation.inputs.kinds import suffix
from curation.inputs.tables import Row, delimited, has_header, json_lines, name_column, row

__all__ = ["SUFFIXES", "Row", "is_list", "rows"]

SUFFIXES = (".txt", ".csv", ".tsv", ".jsonl", ".ndjson", ".parquet")
_LINE = 1 << 16
_BATCH = 4096


def is_list(name: str) -> bool:
    return suffix(name) in SUFFIXES


def rows(stream: Any, name: str) -> Iterator[Row]:
    """The rows of an open list (a seekable binary file) called `name`; raises `UserError` at what is no row."""
    if suffix(name) == ".parquet":
        yield from _parquet(stream, name)
        return
    # surrogateescape: a file name that is not UTF-8 still finds its file.
    text = io.TextIOWrapper(stream, encoding=_encoding(stream, name), errors="surrogateescape", newline="")
    try:
        yield from _of_text(text, name)
    except UnicodeError as error:  # only UTF-16 can be broken
        raise UserError(f"{name} cannot be read as text: {error}", "save it as UTF-8") from error


def _of_text(text: io.TextIOWrapper, name: str) -> Iterator[Row]:
    kind = suffix(name)
    if kind in (".jsonl", ".ndjson"):
        return json_lines(text, name)
    if kind == ".txt":
        head = text.read(_LINE)
        text.seek(0)
        if not has_header(head):
            return _plain(text)
    return delimited(text, name, usual="\t" if kind == ".tsv" else ",")


def _encoding(stream: Any, name: str) -> str:
    head = stream.read(4)
    stream.seek(0)
    if head.startswith((codecs.BOM_UTF32_LE, codecs.BOM_UTF32_BE)):
        raise UserError(f"{name} is UTF-32", "save it as UTF-8")
    if head.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return "utf-16"
    if b"\0" in head:
        raise UserError(f"{name} is no text: it begins with zero bytes", "save it as UTF-8")
    return "utf-8-sig"


def _plain(text: io.TextIOWrapper) -> Iterator[Row]:
    while line := text.readline(_LINE):
        whole = line
        while whole and not whole.endswith(("\n", "\r")):  # the rest of an overlong line is not kept
            whole = text.readline(_LINE)
        line = line.strip("\r\n").strip()
        if line and not line.startswith("#"):
            yield Row(line)


def _parquet(stream: Any, name: str) -> Iterator[Row]:
    try:
        file = pq.ParquetFile(stream)
    except pa.ArrowException as error:
        raise UserError(f"{name} is not a Parquet file: {error}", "write it as Parquet, CSV or text") from error
    schema = file.schema_arrow
    column = schema.names[name_column(schema.names, name)]
    kind = schema.field(column).type
    kind = kind.value_type if pa.types.is_dictionary(kind) else kind
    if not (pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind)):
        raise UserError(f"column '{column}' of {name} holds {kind}", "it must hold strings: paths or URIs")
    number = 0
    for batch in file.iter_batches(batch_size=_BATCH):
        for found in batch.to_pylist():
            number += 1
            yield row(found.pop(column) or "", found, f"{name}, row {number}")
