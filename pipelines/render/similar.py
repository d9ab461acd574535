"""How the answers about clips that are alike are shown: a table, or JSON lines."""

from __future__ import annotations

import json
import sys
from typing import Any

from rich.console import Console
from rich.table import Table

from curation.printable import printable
from curation.pyramid.queries import export
from curation.pyramid.queries.export import Rows
from pipelines.commands.similar.search import SIMILARITY, Answer
from pipelines.render.lines import note

SHOWN = ("clip_id", SIMILARITY, "duration_s", "width", "height", "tier", "caption")
_CAPTION = 60


def search(answer: Answer, as_json: bool, chosen: bool = False) -> None:
    """Of `search.search`. `chosen`: whether columns were named."""
    if answer.saved is not None:
        _saved(answer, as_json)
    elif as_json:
        export.json_lines(Rows(answer.rows.schema, answer.rows.to_batches()), sys.stdout)
    elif answer.rows.num_rows:
        _table(answer, chosen)
    else:
        print("no clip is found", file=sys.stderr)
    how = "all vectors compared" if answer.exact else "by the index"
    print(printable(f"space {answer.space.name}, {how}: {answer.space.what}"), file=sys.stderr)
    for one in answer.notes:
        note(one)


def _saved(answer: Answer, as_json: bool) -> None:
    assert answer.saved is not None
    saved = answer.saved
    told: dict[str, Any] = {"output": saved.output, "clips": saved.clips}
    if saved.bytes is not None:
        told["bytes"] = saved.bytes
    print(json.dumps(told) if as_json else f"{saved.output}: {saved.clips} clips")
    if saved.missing:
        note(f"{saved.missing} of the clips are not cut; see `ziggurat cut`")


def _table(answer: Answer, chosen: bool) -> None:
    there = answer.rows.column_names
    names = there if chosen else [name for name in SHOWN if name in there]
    table = Table(box=None, pad_edge=False)
    for name in names:
        table.add_column(name, justify="left" if name in ("clip_id", "tier", "caption") else "right", overflow="fold")
    for row in answer.rows.select(names).to_pylist():
        table.add_row(*(_cell(row[name]) for name in names))
    Console(width=max(Console().width, 120), markup=False, highlight=False).print(table)


def _cell(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, float):
        return f"{value:.4g}"
    text = printable(str(value))
    return text if len(text) <= _CAPTION else text[: _CAPTION - 3] + "..."
