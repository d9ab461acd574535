"""The results of `bench.gpu` as JSON and as a page of Markdown tables, one an op."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import groupby

from bench.gpu.ops import OURS
from kernels.timing import Timing


@dataclass(frozen=True, slots=True)
class Row:
    """One implementation of one op at one shape in one direction; without a timing, `why` says what happened.

    `flops`, `traffic`: of the whole pass, operations and bytes that must be moved.
    """

    op: str
    shape: str
    direction: str
    implementation: str
    flops: float
    traffic: float
    timing: Timing | None = None
    why: str = ""

    @property
    def tflops(self) -> float | None:
        return self.flops / self.timing.median_ms / 1e9 if self.timing and self.flops else None

    @property
    def bandwidth(self) -> float | None:
        """Bytes a second."""
        return self.traffic / self.timing.median_ms * 1e3 if self.timing else None


@dataclass(frozen=True, slots=True)
class Run:
    """All of one run. `copy`: bytes a second of a plain copy, read and written; None where it failed."""

    date: str
    machine: dict[str, str]
    seconds: float
    copy: float | None
    rows: Sequence[Row]

    @property
    def failed(self) -> list[Row]:
        return [row for row in self.rows if row.why.startswith("failed")]


def to_json(run: Run) -> str:
    derived = [{**asdict(row), "tflops": row.tflops, "bandwidth": row.bandwidth} for row in run.rows]
    head = {"date": run.date, "machine": run.machine, "seconds": run.seconds, "copy_bytes_per_second": run.copy}
    return json.dumps({**head, "rows": derived}, indent=1) + "\n"


def to_markdown(run: Run) -> str:
    copied = f"{run.copy / 1e12:.2f} TB/s, read and written" if run.copy else "not measured"
    facts = [f"- {name}: {value}" for name, value in run.machine.items()]
    parts = [
        f"# Kernels on a GPU, {run.date}",
        "\n".join([*facts, f"- copy: {copied}", f"- the run took {run.seconds:.0f} s"]),
        'Medians, with the 10th and 90th percentile, of runs on a cold cache. "Against" is the time of an '
        "implementation over that of ours: above 1, ours is faster.",
        *(_section(op, list(rows), run.copy) for op, rows in groupby(run.rows, key=lambda row: row.op)),
    ]
    return "\n\n".join(parts) + "\n"


def _section(op: str, rows: list[Row], copy: float | None) -> str:
    unit = "TFLOP/s" if any(row.flops for row in rows) else "of copy"
    head = f"| shape | pass | implementation | ms | p10 to p90 | {unit} | against |"
    lines = [f"## {op}", "", head, "|---|---|---|---|---|---|---|"]
    for _, group in groupby(rows, key=lambda row: (row.shape, row.direction)):
        alike = list(group)
        ours = next((row.timing for row in alike if row.implementation == OURS), None)
        lines += [_line(row, ours, copy) for row in alike]
    return "\n".join(lines)


def _line(row: Row, ours: Timing | None, copy: float | None) -> str:
    place = f"| {row.shape} | {row.direction} | {row.implementation} |"
    if row.timing is None:
        return f"{place} {row.why.replace('|', '/')} | | | |"
    time = row.timing
    against = f"{time.median_ms / ours.median_ms:.2f}" if ours else ""
    return f"{place} {time.median_ms:.3f} | {time.p10_ms:.3f} to {time.p90_ms:.3f} | {_rate(row, copy)} | {against} |"


def _rate(row: Row, copy: float | None) -> str:
    if row.tflops is not None:
        return f"{row.tflops:.0f}"
    return f"{row.bandwidth / copy:.0%}" if copy and row.bandwidth else ""
