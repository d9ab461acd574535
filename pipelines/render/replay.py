"""How `replay` is shown: each value that came out, beside the one that the pyramid holds."""

from __future__ import annotations

import json
from typing import Any

from rich.console import Console
from rich.table import Table

from curation.printable import printable
from pipelines.commands.pyramid.replay import Replayed
from pipelines.render.lines import line


def replay(found: Replayed, as_json: bool) -> None:
    """Of `replay.replay`."""
    if as_json:
        head = {"stage": found.stage, "of": found.of, "recipe": found.recipe, "seconds": found.seconds}
        head |= {"fault": found.fault, "detail": found.detail}
        print(json.dumps({"kind": "replay", **head}))
        for value in found.values:
            data = {"of": value.of, "column": value.column, "stored": value.stored, "now": value.now}
            print(json.dumps({"kind": "value", **data}, default=str))
        return
    line(f"{found.stage} of {found.of} by the recipe {found.recipe}: {found.seconds:.1f} s")
    table = Table("of", "column", "stored", "now", "", box=None, pad_edge=False)
    for value in found.values:
        differs = "" if value.stored == value.now else "differs"
        table.add_row(value.of[:16], value.column, _shown(value.stored), _shown(value.now), differs)
    Console(highlight=False, markup=False, soft_wrap=True).print(table)
    if found.detail:
        line(found.detail)


def _shown(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, list):
        return " ".join(map(_shown, value))
    return f"{value:.6g}" if isinstance(value, float) else printable(str(value))
