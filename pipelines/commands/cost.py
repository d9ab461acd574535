"""`ziggurat cost`: the report's tables computed, or the cost of any shape on any GPU. Needs no torch."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import asdict, fields, is_dataclass
from typing import Any

from rich.console import Console
from rich.table import Table

from curation.errors import UserError
from training.cost import tables
from training.cost.formulas import gpu_named

TITLES = {
    "autoencoders": "Autoencoders (Table 1)",
    "stages": "Stages of training (Table 3)",
    "buckets_256": "256px buckets on 8 H200 (Table 4)",
    "buckets_768": "768px buckets on 8 H200 (Table 5)",
    "flops": "FLOPs of the transformer",
    "runs": "768px, the longest clip (figure 8)",
    "gpus": "GPUs, dense bf16",
}


def check_gpu(name: str) -> None:
    """UserError, listing those known, for another GPU."""
    gpu_named(name)


def cost(
    frames: int,
    size: str,
    autoencoder: str,
    gpu: str,
    gpus: int,
    samples: int,
    step_seconds: float | None,
    dit_seconds: float | None,
) -> tables.ShapeReport:
    """What one shape costs; the report's tables are `tables.report()`."""
    found = re.fullmatch(r"(\d+)x(\d+)", size)
    if not found:
        raise UserError(f"size {size!r}", "write WIDTHxHEIGHT, as in 336x192")
    width, height = int(found[1]), int(found[2])
    return tables.shape(
        autoencoder,
        frames,
        height,
        width,
        gpu=gpu,
        gpus=gpus,
        samples=samples,
        step_seconds=step_seconds,
        dit_seconds=dit_seconds,
    )


def show(shape: tables.ShapeReport, title: str, as_json: bool) -> None:
    """One shape, as a table or as a JSON object."""
    if as_json:
        print(json.dumps(asdict(shape)))
        return
    table = Table("", "", title=f"{title} {shape.gpu.name}", show_header=False)
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
    Console().print(table)


def show_tables(report: tables.Report, as_json: bool) -> None:
    """The report's tables, or a JSON object for each of their rows."""
    for name, title in TITLES.items():
        rows = getattr(report, name)
        if as_json:
            for row in rows:
                print(json.dumps({"table": name, **asdict(row)}))
        else:
            Console(width=140).print(_table(title, rows))


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
