"""Lists of what a pyramid keeps besides clips: `query --videos` and `runs`; tables, JSON lines, files."""

from __future__ import annotations

import csv
import json
import os
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import Any, TextIO

import pyarrow.parquet as pq
from rich.console import Console
from rich.table import Table

from curation.errors import UserError
from curation.pyramid import runs, videos
from curation.pyramid.retier import opened
from curation.pyramid.runs import Run
from curation.pyramid.videos import Listing

VIDEO_COLUMNS = ("video_id", "uris", "status", "reason", "measured", "detail", "duration_s", "fps", "width", "height")
TABLE_ROWS = 100


def show_videos(
    uri: str,
    are_videos: bool,
    status: str | None,
    reason: str | None,
    limit: int | None,
    columns: str | None,
    output: str | None,
    count: bool,
    as_json: bool,
) -> None:
    """`ziggurat query --videos`."""
    if not are_videos:
        raise UserError("--status and --reason are of videos", "add --videos")
    found = videos.listing(opened(uri), status, reason).limit(limit)
    if columns:
        found = found.columns(*(name.strip() for name in columns.split(",")))
    if count:
        print(json.dumps({"videos": found.count()}) if as_json else found.count())
    elif output:
        print(f"{output}: {_written(found, output)} videos")
    elif as_json:
        _json_lines(found, sys.stdout)
    else:
        _print_videos(found if columns else found.columns(*VIDEO_COLUMNS))


def _print_videos(found: Listing) -> None:
    shown = found if found.rows is not None else found.limit(TABLE_ROWS)
    table = Table(box=None, pad_edge=False)
    for name in shown.selected:
        table.add_column(name, overflow="fold")
    rows = 0
    for row in _rows(shown):
        rows += 1
        table.add_row(*(_cell(row[name]) for name in shown.selected))
    Console(width=max(Console().width, 160), highlight=False, markup=False).print(table)
    if (total := found.limit(None).count()) > rows:
        print(f"{rows} of {total} videos; more with --limit or --output", file=sys.stderr)


def _written(found: Listing, output: str) -> int:
    """Write a file, which appears under its name when it is whole; how many rows."""
    writers: Mapping[str, Callable[[Listing, TextIO], int]] = {".jsonl": _json_lines, ".csv": _csv}
    suffix = Path(output).suffix
    if suffix != ".parquet" and suffix not in writers:
        raise UserError(f"cannot write {suffix or output!r} for videos", "name a .jsonl, .csv or .parquet file")
    with _replacing(Path(output)) as part:
        if suffix == ".parquet":
            return _parquet(found, part)
        with part.open("w", newline="") as file:
            return writers[suffix](found, file)


@contextmanager
def _replacing(path: Path) -> Iterator[Path]:
    try:
        with tempfile.TemporaryDirectory(prefix=f".{path.name}.", dir=path.parent) as folder:
            yield Path(folder, path.name)
            os.replace(Path(folder, path.name), path)
    except OSError as error:
        raise UserError(f"cannot write {path} ({error.strerror})", "choose another file") from error


def _json_lines(found: Listing, file: TextIO) -> int:
    rows = 0
    for row in _rows(found):
        print(json.dumps(row, default=_text), file=file)
        rows += 1
    return rows


def _csv(found: Listing, file: TextIO) -> int:
    writer = csv.writer(file)
    writer.writerow(found.selected)
    rows = 0
    for row in _rows(found):
        writer.writerow([json.dumps(value) if isinstance(value, list) else _text(value) for value in row.values()])
        rows += 1
    return rows


def _parquet(found: Listing, path: Path) -> int:
    rows = 0
    with pq.ParquetWriter(path, found.schema) as writer:
        for batch in found.batches():
            writer.write_batch(batch)
            rows += batch.num_rows
    return rows


def _rows(found: Listing) -> Iterator[dict[str, Any]]:
    for batch in found.batches():
        yield from batch.to_pylist()


def _text(value: Any) -> Any:
    return value.isoformat() if isinstance(value, datetime) else "" if value is None else value


def _cell(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, list):
        return "\n".join(map(str, value))
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def show_runs(uri: str, name: str | None, as_json: bool) -> None:
    """`ziggurat runs`: all runs, or one with everything that its record says."""
    files = opened(uri).files
    found = [runs.find(files, name)] if name is not None else runs.listed(files)
    if as_json:
        for run in found:
            print(json.dumps(asdict(run) | {"state": runs.state(run)}))
    elif name is not None:
        _print_run(found[0])
    else:
        _print_runs(found)


def _print_runs(found: list[Run]) -> None:
    table = Table(box=None, pad_edge=False)
    for column in ("run", "started", "state", "recipe", "done", "rejected", "quarantined", "clips", "cut", "command"):
        table.add_column(column, no_wrap=column == "run", overflow="fold")
    for run in found:
        counts = (str(run.account.get(key, 0)) for key in ("done", "rejected", "quarantined", "clips", "cut"))
        table.add_row(run.run, run.started, runs.state(run), _recipe(run), *counts, " ".join(run.command[1:]))
    Console(width=max(Console().width, 160), highlight=False, markup=False).print(table)


def _print_run(run: Run) -> None:
    console = Console(highlight=False, markup=False, soft_wrap=True)
    console.print(f"run {run.run}  {runs.state(run)}")
    if run.stopped_by:
        console.print(f"  stopped by: {run.stopped_by}")
    console.print(f"  {' '.join(run.command)}")
    console.print(f"  recipe {_recipe(run)}")
    console.print(f"  started {run.started}, last beat {run.beat}, ended {run.ended or 'not'}")
    stage = f"; at stage {run.stage}" if run.stage else ""
    console.print(f"  process {run.process.pid} on {run.process.host}{stage}")
    console.print(f"  nodes {', '.join(run.nodes) or 'none'}: {run.cpus or 0:g} processors, {run.gpus or 0:g} GPUs")
    console.print("  " + ", ".join(f"{package} {version}" for package, version in run.versions.items()))
    for key, value in run.account.items():
        if value:
            console.print(f"  {key}: {value}")
    for notice in run.notices:
        console.print(f"  note: {notice}")


def _recipe(run: Run) -> str:
    return run.recipe if run.recipe_version is None else f"{run.recipe} (version {run.recipe_version})"
