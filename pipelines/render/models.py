"""How the answers of the commands about models are shown: `sample`, `cost`, `buckets`.

It imports nothing that needs torch: `cost` runs without.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, fields, is_dataclass
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table

from pipelines.commands.training.cost import ShapeCost
from pipelines.render.lines import line, note
from training.cost import tables

if TYPE_CHECKING:  # for their types alone: `cost` needs nothing of what they import
    from pipelines.commands.training.buckets import Searched
    from pipelines.sampling.command import Made, Samples

TITLES = {
    "autoencoders": "Autoencoders (Table 1)",
    "stages": "Stages of training (Table 3)",
    "buckets_256": "256px buckets on 8 H200 (Table 4)",
    "buckets_768": "768px buckets on 8 H200 (Table 5)",
    "flops": "FLOPs of the transformer",
    "runs": "768px, the longest clip (figure 8)",
    "gpus": "GPUs, dense bf16",
}


class SampleWatch:
    """Shows what `sample` makes as it comes: places for a person, lines of `samples.jsonl` for a program. Notes go to
    standard error. A `pipelines.sampling.command.Watch`.
    """

    def __init__(self, as_json: bool) -> None:
        self._as_json = as_json

    def note(self, text: str) -> None:
        """Of a network, a reference, or a file that came out otherwise."""
        note(text)

    def made(self, made: Made) -> None:
        """At once, even into a pipe: the next one may take long."""
        if self._as_json:
            print(made.line.model_dump_json(), flush=True)
        else:
            line(made.place, flush=True)


def samples(done: Samples, as_json: bool) -> None:
    """Of `command.run` and `command.again`, whose videos a `SampleWatch` has shown: where all of them are."""
    if not as_json:
        line(f"{len(done.made)} in {done.folder}, all on {done.sheet}")


def buckets(found: Searched, as_json: bool) -> None:
    """Of `buckets.search`: a line a bucket, with the times of its step."""
    from training.tuning.search import report as told

    if as_json:
        for one in found.result.found:
            print(json.dumps(asdict(one)))
        return
    print(told(found.result))
    line(f"written to {found.output}")


def cost(found: ShapeCost, as_json: bool) -> None:
    """Of `cost.cost`: a table, or a JSON object."""
    shape = found.found
    if as_json:
        print(json.dumps(asdict(shape)))
        return
    title = f"{found.frames} x {found.size}, {found.autoencoder}, {found.gpus} {shape.gpu.name}"
    table = Table("", "", title=title, show_header=False)
    rows: dict[str, Any] = {
        "video tokens": shape.sample.video_tokens,
        "tokens with text": shape.sample.length,
        "forward, FLOPs a sample": shape.forward,
        "training, FLOPs a sample": shape.train,
        "attention's share": shape.sample.attention_share,
        "seconds a sample at the GPU's peak": shape.peak_seconds,
    }
    if shape.used is not None:
        rows |= {field.name: getattr(shape.used, field.name) for field in fields(shape.used)}
    for name, value in rows.items():
        if value is not None:
            table.add_row(name, _text(value))
    Console(markup=False).print(table)


def report(found: tables.Report, as_json: bool) -> None:
    """Of `cost.report`: its tables, or a JSON object for each of their rows."""
    for name, title in TITLES.items():
        rows = getattr(found, name)
        if as_json:
            for row in rows:
                print(json.dumps({"table": name, **asdict(row)}))
        else:
            Console(width=140, markup=False).print(_table(title, rows))


def _table(title: str, rows: Sequence[Any]) -> Table:
    assert rows and is_dataclass(rows[0])
    names = [field.name for field in fields(rows[0])]
    table = Table(title=title, title_justify="left")
    for name in names:
        table.add_column(
            name.replace("_", " "), justify="left" if name in ("name", "case", "down", "source") else "right"
        )
    for row in rows:
        table.add_row(*(_text(getattr(row, name)) for name in names))
    return table


def _text(value: Any) -> str:
    """A number as a person reads it: four digits, FLOPs with their prefix."""
    if value is None:
        return "-"
    if not isinstance(value, float):
        return f"{value:,}" if isinstance(value, int) else str(value)
    for limit, unit in ((1e15, "P"), (1e12, "T"), (1e9, "G")):
        if abs(value) >= limit:
            return f"{value / limit:,.1f} {unit}"
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"
