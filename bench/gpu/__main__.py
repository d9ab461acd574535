"""`make bench-gpu`: every kernel on this GPU beside torch, within a time budget.

    python -m bench.gpu [--seconds 450] [--op OP ...]

Measures the bandwidth of a copy, then each op at the shapes of training, forward and backward, beside plain and
compiled torch, attention beside each of torch's backends by name. What fails, is wrong or no longer fits into the
budget stays in the table and says so. Writes `bench/results/<date>-gpu.json` and `.md`, and does so after every shape:
a kernel that hangs or breaks the process, most likely one of those that are not shipped and come last, takes nothing
that was measured along. Needs a GPU: exit code 2 without one; 1 where a kernel of ours failed.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import itertools
import logging
import platform
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from bench.gpu import ops as gpu_ops
from bench.gpu.ops import Implementation, NotRun
from bench.gpu.report import Row, Run, to_json, to_markdown
from kernels import timing, workloads
from kernels.timing import Timing
from kernels.workloads import Workload

log = logging.getLogger(__name__)

RESULTS = Path(__file__).parents[1] / "results"
SECONDS = 450.0
TOLERANCE = 2e-2
"""How far ours may be from the first other implementation, relative L2, both in bf16."""


@dataclass(slots=True)
class Budget:
    """Time that a run may take. It is spent once a thing that takes as long as the longest so far would not fit."""

    seconds: float
    clock: Callable[[], float] = time.monotonic
    longest: float = 0.0
    started: float = field(init=False)

    def __post_init__(self) -> None:
        self.started = self.clock()

    @property
    def used(self) -> float:
        return self.clock() - self.started

    @property
    def spent(self) -> bool:
        return self.used + self.longest > self.seconds

    def took(self, seconds: float) -> None:
        self.longest = max(self.longest, seconds)


Measure = Callable[[Callable[[], object]], Timing]


def bench(
    todo: Sequence[Workload],
    budget: Budget,
    device: str = "cuda",
    measure: Measure = timing.measure,
    others: Callable[[str], Sequence[Implementation]] = gpu_ops.implementations,
    save: Callable[[Sequence[Row]], object] = lambda rows: None,
) -> list[Row]:
    """Every implementation of every workload; the first shape of each op before the second of any.

    `save` gets all rows so far, after each workload.
    """
    rows = list[Row]()
    place = {(work.op, work.name): index for index, work in enumerate(todo)}
    for late, work in itertools.product((False, True), _in_turns(todo)):
        rows += _workload(work, budget, device, measure, others(work.op), late)
        rows.sort(key=lambda row: (place[row.op, row.shape], workloads.DIRECTIONS.index(row.direction)))
        save(rows)
    return rows


def _in_turns(todo: Sequence[Workload]) -> list[Workload]:
    """So that a budget that runs out leaves every op with its most telling shapes."""
    seen: dict[str, int] = {}
    turns = list[int]()
    for work in todo:
        turns.append(seen.get(work.op, 0))
        seen[work.op] = turns[-1] + 1
    return [work for _, work in sorted(zip(turns, todo, strict=True), key=lambda pair: pair[0])]


def _workload(
    work: Workload, budget: Budget, device: str, measure: Measure, others: Sequence[Implementation], late: bool
) -> Iterator[Row]:
    parts = [(direction, one) for direction in work.directions for one in others if one.late == late]
    if not parts:
        return
    if budget.spent:
        yield from (_row(work, direction, one, why="skipped: time budget") for direction, one in parts)
        return
    try:
        inputs = work.inputs(device)
    except Exception as error:
        yield from (_row(work, direction, one, why=_failed(error)) for direction, one in parts)
        return
    for direction, one in parts:
        if budget.spent:
            yield _row(work, direction, one, why="skipped: time budget")
            continue
        began = budget.used
        yield _measured(work, direction, one, inputs, measure, others)
        budget.took(budget.used - began)
        if torch.cuda.is_available():
            torch.cuda.empty_cache()


def _measured(
    work: Workload,
    direction: str,
    one: Implementation,
    inputs: Sequence[Any],
    measure: Measure,
    others: Sequence[Implementation],
) -> Row:
    try:
        run = timing.pass_of(one.make(work), inputs, direction)
        if gpu_ops.is_ours(one.name) and (wrong := _wrong(work, direction, one, others, inputs)):
            return _row(work, direction, one, why=wrong)
        return _row(work, direction, one, measure(run))
    except NotRun as reason:
        return _row(work, direction, one, why=f"not run: {reason}")
    except Exception as error:
        return _row(work, direction, one, why=_failed(error))


def _wrong(
    work: Workload, direction: str, ours: Implementation, others: Sequence[Implementation], inputs: Sequence[Any]
) -> str:
    """What is wrong with one of ours, by what the first of the others finds that runs at all."""

    def results(one: Implementation) -> Sequence[Tensor]:
        return timing.pass_of(one.make(work), timing.copies(inputs), direction)()

    got = results(ours)
    for other in (other for other in others if not gpu_ops.is_ours(other.name)):
        try:
            apart = timing.distance(got, results(other))
        except Exception as error:
            log.info("%s, %s: %s cannot check: %s", work.op, work.name, other.name, error)
            continue
        return "" if apart <= TOLERANCE else f"failed: wrong by {apart:.1e} against {other.name}"
    return "failed: nothing to check it against runs"


def _row(work: Workload, direction: str, one: Implementation, time: Timing | None = None, why: str = "") -> Row:
    at = work.directions.index(direction)
    return Row(work.op, work.name, direction, one.name, work.flops[at], work.traffic[at], time, why)


def _failed(error: Exception) -> str:
    text = str(error).strip().splitlines()
    return f"failed: {type(error).__name__}{': ' + text[0][:120] if text else ''}"


def machine() -> dict[str, str]:
    """What the figures hold for."""
    command = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    try:
        driver = subprocess.run(command, capture_output=True, text=True, timeout=30, check=True).stdout.split()[0]
    except (OSError, subprocess.SubprocessError, IndexError):
        driver = "unknown"
    versions = {name: importlib.metadata.version(name) for name in ("torch", "triton")}
    cuda = {"CUDA": str(torch.version.cuda), "cuDNN": str(torch.backends.cudnn.version())}
    return {
        "GPU": torch.cuda.get_device_name(),
        "driver": driver,
        **cuda,
        **versions,
        "Python": platform.python_version(),
    }


def copy_bandwidth(measure: Measure = timing.measure, device: str = "cuda") -> float:
    """Bytes a second of a copy within the device, read and written."""
    target, source = gpu_ops.copy_inputs(device)
    return 2e3 * source.nbytes / measure(lambda: target.copy_(source)).median_ms


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.gpu", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seconds", type=float, default=SECONDS, help="time budget (default: %(default)s)")
    everything = workloads.all_workloads()
    parser.add_argument("--op", nargs="+", choices=sorted({work.op for work in everything}), help="only these")
    options = parser.parse_args(arguments)
    if not torch.cuda.is_available():
        print("bench.gpu needs a GPU, and PyTorch sees none", file=sys.stderr)
        return 2
    budget = Budget(options.seconds)
    todo = [work for work in everything if not options.op or work.op in options.op]
    date, about, copy = datetime.now(UTC).date().isoformat(), machine(), copy_bandwidth()

    def save(rows: Sequence[Row]) -> Run:
        run = Run(date, about, budget.used, copy, rows)
        for suffix, text in (("json", to_json(run)), ("md", to_markdown(run))):
            (RESULTS / f"{date}-gpu.{suffix}").write_text(text)
        return run

    run = save(bench(todo, budget, save=save))
    print(to_markdown(run))
    return int(any(gpu_ops.is_ours(row.implementation) for row in run.failed))


if __name__ == "__main__":
    sys.exit(main())
