"""What the models cost: training steps of the transformer's blocks, the autoencoders, and sampling.

    python -m bench.models [--json FILE] [--device auto] [--patience 1]

Measures on the CPU at small sizes and, where a GPU is at hand, at real widths and lengths (`bench/models/plan.py`).
Each network runs in a process of its own (`bench/models/work.py`). On a CPU the processes of one comparison take turns,
run by run, so that a noisy neighbour meets them all; on a GPU they come one after the other, each with all the memory.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import threading
import time
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from bench import meter
from bench.models import plan
from bench.models.report import markdown

ROUNDS = 3
SLICE_S = 8.0
"""Of a GPU for one work: no new round is begun after it, and a first run longer than this is the only one."""
GRACE_S = 20.0
"""How long after the limit what has begun may still run."""


@dataclass(slots=True)
class Run:
    """All runs of one network on one work. Bytes: `added` at the peak of a run to those `before`.
    `first_s`: wall-clock seconds of the first run, compiling included."""

    device: str
    what: str
    variant: str
    work: str
    first_s: float | None = None
    seconds: list[float] = field(default_factory=list)
    before: int | None = None
    added: int | None = None
    failed: str | None = None


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--json", type=Path, help="write the raw numbers here")
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto", help="auto: CPU, and GPU if any")
    parser.add_argument("--patience", type=float, default=1.0, help="times the limits, for a busy machine")
    options = parser.parse_args()
    report = measure(("cpu", "cuda") if options.device == "auto" else (options.device,), options.patience)
    print(markdown(report))
    if options.json:
        options.json.write_text(json.dumps(report, indent=1) + "\n")


def measure(devices: tuple[str, ...], patience: float = 1.0) -> dict[str, Any]:
    """All runs; a plain object for JSON and for `markdown`. `patience` times the plan's limits."""
    load = os.getloadavg()[0]
    about = {device: _about(device) if device in devices else {"missing": "not asked for"} for device in plan.NETWORK}
    runs = [run for name, found in about.items() if "missing" not in found for run in _device(name, patience)]
    return {
        "made": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": {"cpu": meter.cpu_model(), "cores": os.cpu_count(), "load": [load, os.getloadavg()[0]]},
        "devices": about,
        "runs": [asdict(run) for run in runs],
    }


def _about(device: str) -> dict[str, Any]:
    if missing := [name for name in ("torch", "diffusers") if find_spec(name) is None]:
        return {"missing": f"{missing[0]} is not installed"}
    done = subprocess.run(_command(device, "about"), stdout=subprocess.PIPE, text=True, check=True, env=_env(device))
    return json.loads(done.stdout)


def _device(device: str, patience: float) -> list[Run]:
    """Every comparison of a device."""
    until = time.monotonic()
    runs: list[Run] = []
    for what, limit in plan.LIMIT_S[device].items():
        until += limit * patience
        variants, works = plan.VARIANTS[what], plan.works(device, what)
        for group in [variants] if device == "cpu" else [(variant,) for variant in variants]:
            meter.say(f"{device}: {what}: {'; '.join(group)}")
            runs += _together(device, what, group, works, until)
    return runs


def _together(device: str, what: str, variants: tuple[str, ...], works: tuple[str, ...], until: float) -> list[Run]:
    """Networks that take turns: each warmed up on each work, then timed round by round, then weighed."""
    runs = [Run(device, what, variant, work) for variant in variants for work in works]
    children: dict[str, Child] = {}
    try:
        for run in runs:
            if run.variant not in children and time.monotonic() < until:
                children[run.variant] = Child(device, what, run.variant, until)
            _warm(run, children.get(run.variant), until)
        for number, order in enumerate((*["time"] * ROUNDS, "memory")):
            for run in runs if order == "memory" or number == 0 or time.monotonic() < until else []:
                if run.failed is None and _more(run, order):
                    _ask(run, children[run.variant], order, until + GRACE_S)
    finally:
        for child in children.values():
            child.end()
    return runs


def _warm(run: Run, child: Child | None, until: float) -> None:
    """A run that does not count: the first one compiles and allocates. One that is long without compiling counts."""
    if child is None or time.monotonic() > until:
        run.failed = plan.OUT_OF_TIME
        return
    started = time.monotonic()
    _ask(run, child, "time", until)
    if run.seconds:
        run.first_s = time.monotonic() - started
        if _more(run, "time") or run.variant in plan.COMPILED:
            run.seconds.clear()


def _more(run: Run, order: str) -> bool:
    """Whether to go on with it; on a GPU each timed run is weighed too."""
    return run.device == "cpu" or (order == "time" and sum(run.seconds) < SLICE_S)


def _ask(run: Run, child: Child, order: str, until: float) -> None:
    found = child.ask(order, run.work, until)
    run.failed = None if run.seconds and found.get("failed") == plan.OUT_OF_TIME else found.get("failed")
    if "seconds" in found:
        run.seconds.append(found["seconds"])
    if "added" in found:
        run.before, run.added = found["before"], found["added"]


class Child:
    """A process of `bench.models.work`."""

    def __init__(self, device: str, what: str, variant: str, until: float) -> None:
        self._process = subprocess.Popen(
            _command(device, what, variant),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=_env(device),
        )
        self._gone: str | None = None
        self._read(until)

    def ask(self, order: str, work: str, until: float) -> dict[str, Any]:
        """Its answer; it is ended where it gives none by `until`, and then answers that every time."""
        if self._gone is None:
            assert self._process.stdin is not None
            try:
                print(order, work, file=self._process.stdin, flush=True)
            except BrokenPipeError:
                pass  # it is gone, which reading tells
        return self._read(until)

    def end(self) -> None:
        self._process.kill()
        self._process.wait()

    def _read(self, until: float) -> dict[str, Any]:
        if self._gone is not None:
            return {"failed": self._gone}
        assert self._process.stdout is not None
        timer = threading.Timer(max(0.0, until - time.monotonic()), self._process.kill)
        timer.start()
        line = self._process.stdout.readline()
        timer.cancel()
        if line:
            return json.loads(line)
        code = self._process.wait()
        self._gone = plan.OUT_OF_TIME if time.monotonic() >= until else f"its process ended with {code}"
        return {"failed": self._gone}


def _command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "bench.models.work", *arguments]


def _env(device: str) -> dict[str, str]:
    # One thread: its CPU-seconds are the work's own. On a GPU works of many sizes share one pool of memory.
    extra = {"OMP_NUM_THREADS": "1"} if device == "cpu" else {"PYTORCH_CUDA_ALLOC_CONF": "expandable_segments:True"}
    return {**os.environ, **extra}


if __name__ == "__main__":
    main()
