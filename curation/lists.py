"""Lists of inputs: the names in a .txt, .csv or .parquet file, as a stream, whatever the file's length.

`sources` calls it for an argument with such a suffix and decides what each name may refer to; this module
only reads. Text: one name a line, `#` starts a comment line. CSV and Parquet: the column `uri`, `path` or
`url`, or the only one.
"""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Iterator, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from curation.errors import UserError

SUFFIXES = (".txt", ".csv", ".parquet")
COLUMNS = ("uri", "path", "url")
_LINE = 1 << 16
_BATCH = 4096


def is_list(name: str) -> bool:
    return suffix(name) in SUFFIXES


def suffix(name: str) -> str:
    """The suffix in lower case, of a path or of a URI without its query."""
    return os.path.splitext(name.partition("?")[0])[1].lower()


def names(stream: Any, name: str) -> Iterator[str]:
    """The names in an open list (a seekable binary file) called `name`. An empty cell gives an empty name."""
    if suffix(name) == ".parquet":
        return _parquet(stream, name)
    # surrogateescape: a file name that is not UTF-8 still finds its file.
    text = io.TextIOWrapper(stream, encoding="utf-8-sig", errors="surrogateescape", newline="")
    return _csv(text, name) if suffix(name) == ".csv" else _text(text)


def _text(text: io.TextIOWrapper) -> Iterator[str]:
    while line := text.readline(_LINE):
        whole = line
        while whole and not whole.endswith("\n"):  # the rest of an overlong line is not kept
            whole = text.readline(_LINE)
        line = line.strip("\r\n").strip()
        if line and not line.startswith("#"):
            yield line


def _csv(text: io.TextIOWrapper, name: str) -> Iterator[str]:
    rows = csv.reader(text)
    try:
        header = next(rows, [])
        column = _column([cell.strip() for cell in header], name)
        if len(header) == 1 and header[0].strip().lower() not in COLUMNS and _names_a_file(header[0]):
            yield header[0].strip()  # one column and no header: the first row is an entry too
        for row in rows:
            if row:
                yield row[column].strip() if column < len(row) else ""
    except csv.Error as error:
        raise UserError(f"{name}, line {rows.line_num}: {error}", "write it as a plain CSV file") from error


def _names_a_file(cell: str) -> bool:
    return "/" in cell or bool(os.path.splitext(cell)[1])


def _parquet(stream: Any, name: str) -> Iterator[str]:
    try:
        file = pq.ParquetFile(stream)
    except pa.ArrowException as error:
        raise UserError(f"{name} is not a Parquet file: {error}", "write it as Parquet, CSV or text") from error
    schema = file.schema_arrow
    column = schema.names[_column(schema.names, name)]
    kind = schema.field(column).type
    kind = kind.value_type if pa.types.is_dictionary(kind) else kind
    if not (pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind)):
        raise UserError(f"column '{column}' of {name} holds {kind}", "it must hold strings: paths or URIs")
    for batch in file.iter_batches(batch_size=_BATCH, columns=[column]):
        for value in batch.column(0).to_pylist():
            yield value or ""


def _column(header: Sequence[str], name: str) -> int:
    lower = [cell.lower() for cell in header]
    for wanted in COLUMNS:
        if wanted in lower:
            return lower.index(wanted)
    if len(header) == 1:
        return 0
    found = ", ".join(header) if header else "nothing"
    raise UserError(
        f"{name} has no column of names: it has {found}",
        f"call the column {' or '.join(COLUMNS)}, or leave only one",
    )
