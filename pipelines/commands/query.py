"""What the command `query` does: arguments in, one query, and its rows to a screen, to standard output or to a place.

A screen shows at most `TABLE_ROWS` rows and says how many there are; a file, a folder or `--json` gets all of them
unless `--limit` is given, and then it is told how many were left out. Notes go to standard error.
"""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
from rich.console import Console
from rich.table import Table

from curation import outputs
from curation.contract import SCORES
from curation.errors import UserError
from curation.pyramid import export, extra, lineage
from curation.pyramid.conditions import TEXTS
from curation.pyramid.extra import Own
from curation.pyramid.naming import Pattern
from curation.pyramid.query import Query
from curation.pyramid.retier import opened
from curation.pyramid.store import Pyramid
from pipelines.commands.conditions import cell, conditions, number_or_range

SHOWN = ("clip_id", "duration_s", "width", "height", "motion", "sharpness", "jitter", "text_area", "aesthetic", "tier")
TABLE_ROWS = 100


@dataclass(frozen=True, slots=True)
class Request:
    """The arguments of `ziggurat query`; `wanted` are the conditions as they were typed."""

    pyramid: str
    wanted: Sequence[str] = ()
    tier: str | None = None
    order: str | None = None
    limit: int | None = None
    columns: str | None = None
    version: str | None = None
    output: str | None = None
    names: str | None = None
    count: bool = False
    timeout: float | None = None
    as_json: bool = False


def answer(request: Request) -> None:
    """`ziggurat query`."""
    if request.output is not None:
        _check_output(request.output, request.names)
    elif request.names is not None:
        raise UserError("--names is for a folder of mp4 files", "name one with --output")
    query = _query(request)
    if request.count:
        found = query.count()
        print(json.dumps({"clips": found}) if request.as_json else found)
    elif request.output is not None:
        _write(query, request.output, request.names or "{clip_id}", request.as_json)
    elif request.as_json:
        export.json_lines(export.Rows.of(query), sys.stdout)
    else:
        _print_rows(query, selected(request.columns) or SHOWN)
    for note in _notes(query, request.limit):
        print(f"note: {note}", file=sys.stderr)


def _query(request: Request) -> Query:
    pyramid = opened(request.pyramid)
    query = pyramid.query().where(**_conditions(pyramid, request.wanted)).within(request.timeout).limit(request.limit)
    query = query.tier(request.tier) if request.tier else query
    version = request.version
    query = query.at(int(version) if version and version.isdigit() else version)
    if request.order:
        query = query.order(request.order.lstrip("-"), descending=request.order.startswith("-"))
    names = selected(request.columns)
    return query.columns(*names) if names else query.whole()


def _conditions(pyramid: Pyramid, arguments: Sequence[str]) -> dict[str, Any]:
    """Conditions on any column that a query has; those of the user's own columns by these columns' types."""
    owns: dict[str, Own] = {}

    def other(name: str) -> str | None:
        if name in lineage.SEARCHED:
            return name
        if not owns:
            owns.update(lineage.own(pyramid))
        found = extra.named(owns, name)
        return found.name if found else None

    found = conditions(arguments, other)
    return {column: _typed(owns[column], text) if column in owns else text for column, text in found.items()}


def _typed(own: Own, text: str) -> Any:
    if text == "null":
        return None
    if pa.types.is_string(own.type) or pa.types.is_boolean(own.type):
        return text
    number = number_or_range(text)
    if number is None:
        raise UserError(f"--{own.name} {text!r} is not a range", "write low..high, low.., ..high or a number")
    return number


def selected(columns: str | None) -> tuple[str, ...]:
    """The names in `--columns`."""
    return tuple(name.strip() for name in columns.split(",")) if columns else ()


def _check_output(output: str, names: str | None) -> None:
    """Before anything is read: a wrong place, kind or pattern is told at once."""
    suffix = outputs.suffix(output)
    if suffix and suffix not in export.TABLES:
        raise UserError(
            f"cannot write {suffix} files",
            "name a .jsonl, .csv or .parquet file, or a folder for mp4 files (one with a dot in its name: end it in /)",
        )
    if suffix and names is not None:
        raise UserError("--names is for a folder of mp4 files", f"{output} is one file: leave it out")
    if suffix:
        outputs.check_file(output)
    else:
        Pattern.of(names or "{clip_id}")
        outputs.check(output)


def _write(query: Query, output: str, names: str, as_json: bool) -> None:
    if outputs.suffix(output):
        rows = export.save(export.Rows.of(query), output)
        print(json.dumps({"output": output, "clips": rows}) if as_json else f"{output}: {rows} clips")
        return
    done = export.videos(query, output, names)
    told = {"output": output, "clips": done.files, "bytes": done.bytes}
    print(json.dumps(told) if as_json else f"{output}: {done.files} clips, {done.bytes / 1e6:.1f} MB")
    if done.missing:
        print(f"note: {done.missing} clips of the query are not cut; see `ziggurat cut`", file=sys.stderr)


def _print_rows(query: Query, columns: Sequence[str]) -> None:
    """A table; nothing but a line on standard error where no clip is found."""
    shown = query.columns(*columns)
    most = TABLE_ROWS if query.rows is None else query.rows
    table = Table(box=None, pad_edge=False)
    for name in columns:
        text = name in TEXTS or name in lineage.NAMES
        table.add_column(name, justify="left" if text else "right", overflow="fold", no_wrap=name == "clip_id")
    rows = 0
    for batch in shown.limit(most).batches():
        for row in batch.to_pylist():
            table.add_row(*(cell(row[name]) for name in columns))
        rows += batch.num_rows
    if rows:
        Console(width=max(Console().width, 120)).print(table)
    total = query.limit(None).count()
    if not total and not any(absent(query, score) for score in _asked(query)):
        print("no clip is found", file=sys.stderr)
    if query.rows is None and total > rows:
        print(f"{rows} of {total} clips shown; more with --limit, all with --output", file=sys.stderr)


def _notes(query: Query, limit: int | None) -> list[str]:
    """What a person would otherwise take for all there is."""
    nowhere = {score: told for score in _asked(query) if (told := absent(query, score)) is not None}
    notes = list(nowhere.values())
    whole = query.limit(None)
    if limit is not None and (total := whole.count()) > limit:
        notes.append(f"--limit {limit}: {limit} of {total} clips")
    column = query.ordering[0] if query.ordering else None
    if column is not None and column not in nowhere:
        left_out = Query(query.pyramid, query.conditions, version=query.version).count() - whole.count()
        if left_out:
            notes.append(f"{left_out} clips without {column} have no place in the order and are left out")
    return notes


def _asked(query: Query) -> list[str]:
    """Scores that the conditions or the order ask for."""
    asked = {one.column for one in query.conditions} | ({query.ordering[0]} if query.ordering else set())
    return [score for score in SCORES if score in asked]


def absent(query: Query, score: str) -> str | None:
    """That no clip of the pyramid has `score`, and why; None where one has it, or where there are no clips."""
    everything = Query(query.pyramid).at(query.version)
    if everything.having(score).limit(1).ids():
        return None
    reasons: Counter[str] = Counter()
    for batch in everything.columns(f"{score}_why").batches():
        for pair in batch.column(0).value_counts().to_pylist():
            reasons[pair["values"] or "not computed yet"] += pair["counts"]
    if not reasons:
        return None
    told = ", ".join(f"{why}: {count}" for why, count in reasons.most_common())
    return f"no clip of this pyramid has the score {score} ({told} clips)"
