"""Records of runs as text or JSON lines: what `ziggurat runs` shows."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table

from curation.printable import printable
from curation.pyramid.history.runs import Run
from pipelines.commands.pyramid.runs import Seen


def runs(found: Sequence[Seen], one: bool, as_json: bool) -> None:
    """Of `runs.seen`; `one`: all that the record of the only one says."""
    if as_json:
        for seen in found:
            print(json.dumps(dataclasses.asdict(seen.run) | {"state": seen.state}))
    elif one:
        _run(found[0])
    else:
        _runs(found)


def _runs(found: Sequence[Seen]) -> None:
    table = Table(box=None, pad_edge=False)
    training = any("restarts" in seen.run.account for seen in found)
    keys = _OF_TRAINING if training else _OF_A_PYRAMID
    for column in ("run", "started", "state", "preset" if training else "recipe", *keys, "command"):
        table.add_column(column, no_wrap=column == "run", overflow="fold")
    for seen in found:
        run = seen.run
        counts = (_counted(run.account.get(key)) for key in keys)
        table.add_row(run.run, run.started, seen.state, _recipe(run), *counts, printable(" ".join(run.command[1:])))
    Console(width=max(Console().width, 160), highlight=False, markup=False).print(table)


_OF_A_PYRAMID = ("done", "rejected", "quarantined", "clips", "cut")
_OF_TRAINING = ("step", "steps", "skipped", "restarts")


def _counted(value: Any) -> str:
    """A number of an account, of a list how long it is."""
    return str(len(value) if isinstance(value, list) else value or 0)


def _run(seen: Seen) -> None:
    run = seen.run
    console = Console(highlight=False, markup=False, soft_wrap=True)
    console.print(f"run {run.run}  {seen.state}")
    if run.stopped_by:
        console.print(f"  stopped by: {printable(run.stopped_by)}")
    console.print(f"  {printable(' '.join(run.command))}")
    console.print(f"  {'preset' if 'restarts' in run.account else 'recipe'} {_recipe(run)}")
    console.print(f"  started {run.started}, last beat {run.beat}, ended {run.ended or 'not'}")
    stage = f"; at stage {run.stage}" if run.stage else ""
    console.print(f"  process {run.process.pid} on {run.process.host}{stage}")
    console.print(f"  nodes {', '.join(run.nodes) or 'none'}: {run.cpus or 0:g} processors, {run.gpus or 0:g} GPUs")
    console.print("  " + ", ".join(f"{package} {version}" for package, version in run.versions.items()))
    for key, value in run.account.items():
        if isinstance(value, list):
            for line in value:
                console.print(f"  {key}: {printable(str(line))}")
        elif value:
            console.print(f"  {key}: {_figure(value)}")
    for notice in run.notices:
        console.print(f"  note: {printable(notice)}")


def _figure(value: Any) -> str:
    """A number of an account, or some by name, as a person reads it."""
    if isinstance(value, Mapping):
        return printable(", ".join(f"{name} {_figure(one)}" for name, one in value.items()))
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def _recipe(run: Run) -> str:
    return run.recipe if run.recipe_version is None else f"{run.recipe} (version {run.recipe_version})"
