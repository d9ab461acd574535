"""Lists of what a pyramid keeps besides clips: `query --videos` and `runs`; tables, JSON lines, files."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

from rich.console import Console
from rich.table import Table

from curation import outputs
from curation.errors import UserError
from curation.pyramid import export, runs, videos
from curation.pyramid.export import Rows
from curation.pyramid.retier import opened
from curation.pyramid.runs import Run
from curation.pyramid.videos import Listing
from pipelines.commands.query import TABLE_ROWS, Request, selected

VIDEO_COLUMNS = ("video_id", "uris", "status", "reason", "measured", "detail", "duration_s", "fps", "width", "height")


def show_videos(request: Request, are_videos: bool, status: str | None, reason: str | None) -> None:
    """`ziggurat query --videos`."""
    if not are_videos:
        raise UserError("--status and --reason are of videos", "add --videos")
    of_clips = (request.wanted, request.tier, request.order, request.version, request.names, request.timeout)
    if any(argument for argument in of_clips):
        raise UserError("conditions on clips do not go with --videos", "use --status, --reason, --columns, --limit")
    if request.output is not None:
        if outputs.suffix(request.output) not in export.TABLES:
            raise UserError(f"cannot write {request.output} for videos", "name a .jsonl, .csv or .parquet file")
        outputs.check_file(request.output)
    _show(videos.listing(opened(request.pyramid), status, reason).limit(request.limit), request)


def _show(found: Listing, request: Request) -> None:
    names = selected(request.columns)
    found = found.columns(*names) if names else found
    if request.count:
        print(json.dumps({"videos": found.count()}) if request.as_json else found.count())
    elif request.output is not None:
        print(f"{request.output}: {export.save(Rows(found.schema, found.batches()), request.output)} videos")
    elif request.as_json:
        export.json_lines(Rows(found.schema, found.batches()), sys.stdout)
    else:
        _print_videos(found if names else found.columns(*VIDEO_COLUMNS))


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


def _rows(found: Listing) -> Iterator[dict[str, Any]]:
    for batch in found.batches():
        yield from batch.to_pylist()


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
