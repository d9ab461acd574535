"""What the commands `query` and `why` do: arguments in, one call of the pyramid, a table out."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from curation.contract import REASONS, Reason
from curation.errors import UserError
from curation.pyramid import export
from curation.pyramid.conditions import ALL, TEXTS
from curation.pyramid.query import Query
from curation.pyramid.retier import opened

SHOWN = ("clip_id", "duration_s", "width", "height", "motion", "sharpness", "jitter", "text_area", "aesthetic", "tier")
TABLE_ROWS = 100
_NUMBER = r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?"
_RANGE = re.compile(rf"({_NUMBER})?\.\.({_NUMBER})?")


def conditions(arguments: Sequence[str]) -> dict[str, Any]:
    """`--motion 1..8 --width 1280..` as conditions of a query: ranges, numbers or texts by column."""
    found: dict[str, Any] = {}
    rest = [part for argument in arguments for part in _split(argument)]
    while rest:
        flag = rest.pop(0)
        column = flag.removeprefix("--").replace("-", "_")
        if not flag.startswith("--"):
            raise UserError(f"{flag!r} is not an option", "write conditions as --column low..high")
        if column not in ALL:
            raise UserError(f"no option {flag} and no column {column!r}", f"there are {', '.join(ALL)}")
        if not rest or rest[0].startswith("--"):
            raise UserError(f"{flag} has no value", f"write {flag} low..high")
        if column in found:
            raise UserError(f"{flag} is given twice", "give one range a column")
        found[column] = _value(column, rest.pop(0))
    return found


def _split(argument: str) -> list[str]:
    name, equals, value = argument.partition("=")
    return [name, value] if equals and name.startswith("--") else [argument]


def _value(column: str, text: str) -> Any:
    if column in TEXTS:
        return None if text == "null" else text
    if match := _RANGE.fullmatch(text):
        low, high = (float(bound) if bound else None for bound in match.groups())
        return (low, high)
    if re.fullmatch(_NUMBER, text):
        return float(text)
    raise UserError(f"--{column} {text!r} is not a range", "write low..high, low.., ..high or a number")


def answer(
    uri: str,
    tier: str | None,
    wanted: Mapping[str, Any],
    order: str | None,
    limit: int | None,
    columns: str | None,
    version: str | None,
    output: str | None,
    count: bool,
    timeout: float | None,
    as_json: bool,
) -> None:
    """`ziggurat query`."""
    query = opened(uri).query().where(**wanted).within(timeout)
    query = query.tier(tier) if tier else query
    query = query.at(int(version) if version and version.isdigit() else version)
    if count:
        found = query.limit(limit).count()
        print(json.dumps({"clips": found}) if as_json else found)
        return
    if order:
        query = query.order(order.lstrip("-"), descending=order.startswith("-"))
        limit = limit or TABLE_ROWS
    names = tuple(name.strip() for name in columns.split(",")) if columns else None
    if output:
        _write(query.limit(limit).columns(*names) if names else query.limit(limit), output)
    elif as_json:
        export.json_lines(query.limit(limit).columns(*(names or query.selected)), sys.stdout)
    else:
        _print_rows(query, limit or TABLE_ROWS, names or SHOWN)


def _write(query: Query, output: str) -> None:
    suffix = Path(output).suffix
    if suffix == ".parquet":
        print(f"{output}: {export.parquet(query, output)} clips")
    elif suffix in (".jsonl", ".csv"):
        try:
            with open(output, "w", newline="") as file:
                rows = export.json_lines(query, file) if suffix == ".jsonl" else export.csv_file(query, file)
        except OSError as error:
            raise UserError(f"cannot write {output} ({error.strerror})", "choose another file") from error
        print(f"{output}: {rows} clips")
    elif not suffix:
        done = export.videos(query, output)
        print(f"{output}: {done.files} clips, {done.bytes / 1e6:.1f} MB")
        if done.missing:
            print(f"note: {done.missing} clips of the query are not cut; see `ziggurat cut`", file=sys.stderr)
    else:
        raise UserError(
            f"cannot write {suffix} files", "name a .jsonl, .csv or .parquet file, or a folder for mp4 files"
        )


def _print_rows(query: Query, limit: int, columns: Sequence[str]) -> None:
    rows = query.limit(limit).columns(*columns).to_table().to_pylist()
    table = Table(box=None, pad_edge=False)
    for name in columns:
        table.add_column(name, justify="left" if name in TEXTS else "right", overflow="fold", no_wrap=name == "clip_id")
    for row in rows:
        table.add_row(*(_cell(row[name]) for name in columns))
    console = Console(width=max(Console().width, 120))
    console.print(table)
    total = query.count()
    if total > len(rows):
        print(f"{len(rows)} of {total} clips; more with --limit or --output", file=sys.stderr)


def _cell(value: Any) -> str:
    if value is None:
        return "-"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def tell_why(uri: str, name: str, as_json: bool) -> None:
    """`ziggurat why`."""
    from curation.pyramid.ledger import Ledger

    found = Ledger(opened(uri)).history(name)
    if not found.videos and not found.clips:
        raise UserError(f"nothing is known of {name!r}", "give an id, the beginning of one, a URI or a file name")
    if as_json:
        for kind, rows in (("video", found.videos), ("clip", found.clips)):
            for row in rows:
                print(json.dumps({"kind": kind, **row}, default=str))
        return
    console = Console(highlight=False, soft_wrap=True)
    for row in found.videos:
        _tell_video(console, row)
    for row in found.clips:
        _tell_clip(console, row)
    if found.cut:
        console.print("more match; give a longer name")


def _tell_video(console: Console, row: Mapping[str, Any]) -> None:
    console.print(f"[bold]video {row['video_id']}[/]  {row['status']}")
    if row["reason"]:
        measured = "" if row["measured"] is None else f", measured {row['measured']:.6g}"
        console.print(f"  {row['reason']}: {REASONS[Reason(row['reason'])]}{measured}")
    if row["detail"]:
        console.print(f"  detail: {row['detail']}", markup=False)
    for uri in row["uris"] or ():
        console.print(f"  {uri}", markup=False)
    facts = ("duration_s", "fps", "width", "height", "codec", "profile", "bpp", "bytes", "clips")
    console.print("  " + ", ".join(f"{name} {_cell(row[name])}" for name in facts if row[name] is not None))
    console.print(
        f"  settled {row['finished_at']} by job {row['job']}, attempt {row['attempts']}, {row['fingerprint']}"
    )


def _tell_clip(console: Console, row: Mapping[str, Any]) -> None:
    console.print(
        f"[bold]clip {row['clip_id']}[/]  {row['start_s']:.3f} to {row['end_s']:.3f} s (shot {row['shot']}, "
        f"frames {row['start_frame']} to {row['end_frame']}), {row['width']}x{row['height']}, {row['fps']:.5g} fps"
    )
    for score in ("motion", "sharpness", "jitter", "text_area", "aesthetic"):
        value, why, by = row[score], row[f"{score}_why"], row[f"{score}_by"]
        console.print(f"  {score:10} {_cell(value):>10}  {by or ''}{f'({why})' if value is None and why else ''}")
    media = f"cut, sha256 {row['media']}" if row["media"] else f"not cut {row['media_why'] or ''}".strip()
    console.print(f"  tier {row['tier'] or 'none'}; {media}")
