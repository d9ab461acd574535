"""Lists with columns: which one holds the names, and the rows of CSV with any usual delimiter and of JSON lines.

Called by `lists`. The header decides: the delimiter is the one under which a column of names appears in it, so a
European spreadsheet's `;` and a tab are read as well as a comma, whatever the file is called.
"""

from __future__ import annotations

import csv
import io
import itertools
import json
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from curation.errors import UserError
from curation.inputs import own_columns
from curation.inputs.kinds import VIDEO_EXTENSIONS

COLUMNS = ("uri", "path", "url", "file_name", "filename", "video", "video_path")
"""What a column of names may be called, in any case; the first of these that a list has is taken."""

_DELIMITERS = ",;\t|"
_HINT = re.compile(r"sep=(.)\r?\n", re.IGNORECASE)  # a spreadsheet writes it above the header
_HEAD = 1 << 16
_LONGEST_LINE = 16 << 20
_LOOKED_FOR = f"name the columns in the first line: the videos' is called {' or '.join(COLUMNS)}"


@dataclass(frozen=True, slots=True)
class Row:
    """A name, "" where the cell is empty, and the other columns as `Source.extra` holds them."""

    name: str
    extra: str = ""


def name_column(header: Sequence[str], name: str) -> int:
    """The place of the column of names in `header`; raises `UserError`, which tells what is looked for."""
    if (known := known_column(header)) is not None:
        return known
    if len(header) == 1:
        return 0
    found = ", ".join(header) if header else "nothing"
    raise UserError(
        f"{name} has no column of names: it has {found}",
        f"call the column {' or '.join(COLUMNS)}, or leave only one",
    )


def known_column(header: Sequence[str]) -> int | None:
    """The place of the first of `COLUMNS`, None where none is there."""
    lower = [cell.strip().lower() for cell in header]
    return next((lower.index(wanted) for wanted in COLUMNS if wanted in lower), None)


def has_header(head: str) -> bool:
    """Whether a text that begins with `head` begins with the header of a table, and not with a name."""
    head = head.lstrip("\r\n")
    if _HINT.match(head):
        return True
    for mark in _DELIMITERS:
        cells = _first_row(head, mark)
        if len(cells) > 1 and known_column(cells) is not None and not any(map(_names_a_file, cells)):
            return True
    return False


def row(name: str, others: Mapping[str, Any], place: str) -> Row:
    """A row with its extra columns; `place` says where it stands, for what they cannot hold."""
    try:
        return Row(name, own_columns.packed(others))
    except ValueError as error:
        raise UserError(f"{place}: {error}", "mend that cell or leave the column out") from error


def delimited(text: io.TextIOWrapper, name: str, usual: str) -> Iterator[Row]:
    """The rows of a CSV file; a single column needs no header. `usual`: the delimiter that its suffix stands for."""
    head = (text.read(_HEAD) + text.readline(_LONGEST_LINE)).lstrip("\r\n")
    if hint := _HINT.match(head):
        delimiter, head = hint[1], head[hint.end() :]
    else:
        delimiter = _delimiter(head, name, usual)
    # newline="": a line end inside quotes stays as it is.
    lines = _Lines(itertools.chain(io.StringIO(head, newline=""), text))
    reader = csv.reader(lines, delimiter=delimiter)
    try:
        header = [cell.strip() for cell in next(reader, [])]
        column = name_column(header, name)
        if len(header) == 1 and known_column(header) is None and _names_a_file(header[0]):
            yield Row(header[0])  # one column and no header: the first row is an entry too
        names = _unique(header)
        lines.taken()
        for cells in reader:
            first = reader.line_num
            some = lines.taken()
            first -= len(some) - 1
            if len(some) > 1 or (len(cells) < len(names) and '"' in some[0]):
                _check_quoted(some, cells, column, delimiter, f"{name}, line {first}")
            if cells:
                yield _cells(cells, names, column, f"{name}, line {first}")
    except csv.Error as error:
        raise UserError(f"{name}, line {reader.line_num}: {error}", "write it as a plain CSV file") from error


class _Lines:
    """Lines as they are read; `taken` gives those since it was last asked."""

    def __init__(self, lines: Iterator[str]) -> None:
        self._lines, self._some = lines, list[str]()

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        line = next(self._lines)
        self._some.append(line)
        return line

    def taken(self) -> list[str]:
        some, self._some = self._some, []
        return some


def _check_quoted(lines: Sequence[str], cells: Sequence[str], column: int, delimiter: str, place: str) -> None:
    """UserError where a row of several lines is none: a lone quotation mark swallows every row up to the next mark, or
    to the end, and nothing else tells. In such a row a mark stands where none may, or several lines are rows.
    """
    remedy = 'write a quotation mark in quotes as "", and such a cell in quotes'
    try:
        list(csv.reader(lines, delimiter=delimiter, strict=True))
    except csv.Error as error:
        raise UserError(f"{place}: a quotation mark opens a cell that does not end as one: {error}", remedy) from error
    own = cells[column].strip() if column < len(cells) else ""
    alike = sum(any(_like(cell.strip(' "\r\n'), own) for cell in line.split(delimiter)) for line in lines)
    if alike > 1:
        told = f"a quotation mark opens a cell of {len(lines)} lines, {alike} of which look like rows of their own"
        raise UserError(f"{place}: {told}", remedy)


def _like(cell: str, own: str) -> bool:
    """Whether a cell names a video as a row's own cell does."""
    if "://" in cell:
        return True
    suffix = os.path.splitext(cell)[1].lower()
    if suffix:
        return suffix == os.path.splitext(own)[1].lower() or suffix in VIDEO_EXTENSIONS
    folder, slash, _ = cell.rpartition("/")
    return bool(slash) and folder == own.rpartition("/")[0]


def _delimiter(head: str, name: str, usual: str) -> str:
    """The delimiter under which the first row names a column of videos; else the usual one."""
    found = {mark: _first_row(head, mark) for mark in _DELIMITERS}
    named = [mark for mark in _DELIMITERS if known_column(found[mark]) is not None]
    if named:
        return max(named, key=lambda mark: (len(found[mark]), mark == usual))
    widest = max(_DELIMITERS, key=lambda mark: (len(found[mark]), mark == usual))
    if len(found[usual]) == 1 and len(found[widest]) > 1:
        # One name a line, or columns without a name? A guess would make every row a name of no file.
        raise UserError(f"{name} has no column of names: it has {', '.join(found[widest])}", _LOOKED_FOR)
    return usual


def _first_row(head: str, mark: str) -> list[str]:
    try:
        return next(csv.reader(io.StringIO(head, newline=""), delimiter=mark), [])
    except csv.Error:
        return []  # reading it for good will say what is wrong


def _cells(cells: Sequence[str], names: Sequence[str], column: int, place: str) -> Row:
    if any(cell.strip() for cell in cells[len(names) :]):
        raise UserError(
            f"{place} has {len(cells)} cells, the header {len(names)}", "put what holds the delimiter in quotes"
        )
    others = {names[at]: cell for at, cell in enumerate(cells[: len(names)]) if at != column}
    return row(cells[column].strip() if column < len(cells) else "", others, place)


def _unique(header: Sequence[str]) -> list[str]:
    """The columns' names, none empty and none twice."""
    names: list[str] = []
    for at, cell in enumerate(header, 1):
        name = cell or f"column_{at}"
        names.append(name if name not in names else f"{name}_{at}")
    return names


def _names_a_file(cell: str) -> bool:
    return "/" in cell or bool(os.path.splitext(cell)[1])


def json_lines(text: io.TextIOWrapper, name: str) -> Iterator[Row]:
    """The rows of a JSON lines file: an object a line with a name among its keys, or only a string."""
    number = 0
    while line := text.readline(_LONGEST_LINE):
        number += 1
        place = f"{name}, line {number}"
        if len(line) == _LONGEST_LINE and not line.endswith("\n"):
            raise UserError(f"{place} is longer than {_LONGEST_LINE >> 20} MB", "write one JSON object a line")
        if line.strip():
            yield _json_row(line, place)


def _no_number(word: str) -> None:
    raise ValueError(f"{word} is no number of JSON")


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [key for key, _ in pairs]
        raise ValueError(f"the key {next(key for key in names if names.count(key) > 1)!r} is there twice")
    return found


def _json_row(line: str, place: str) -> Row:
    try:
        found: Any = json.loads(line, parse_constant=_no_number, object_pairs_hook=_once)
    except (ValueError, RecursionError) as error:
        raise UserError(f"{place} is not JSON: {error}", "write one JSON object a line") from error
    if isinstance(found, str):
        return Row(found)
    if not isinstance(found, dict):
        raise UserError(f"{place} holds no object", "write one JSON object a line")
    keys = list(found)
    key = keys[name_column(keys, place)]
    value = found.pop(key)
    if value is not None and not isinstance(value, str):
        raise UserError(f"{place}: '{key}' is no string", "it must hold a path or a URI")
    return row(value or "", found, place)
