"""`make bench`: every benchmark on this machine, one after the other, and its tables in docs/performance.md.

    python -m bench --videos DIR [--parts curate query ...] [--rows 10000000] [--vectors 1000000] [--copies 1 4]

Each runs alone, in a process of its own, and leaves its tables in `bench/results/PART.md` with the day and the machine.
The page is put together from these, so that a part may be measured again by itself. What a machine cannot measure is
written "not measured"; what figures mean and how they came about is in docs/costs.md.
"""

from __future__ import annotations

import argparse
import os
import platform
import subprocess
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from bench.meter import cpu_model

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "performance.md"
RESULTS = ROOT / "bench" / "results"

TITLES = {
    "curate": "Curation",
    "query": "Queries",
    "search": "Search",
    "growth": "Growth",
    "sizing": "Sizing",
    "caption": "Captions",
    "models": "Models",
    "train": "Training",
    "duplicates": "Near-duplicates",
}
"""The parts of the page, in order. Shots have a page of their own."""
SHOTS = "shots"
ON_PAPER = ("sizing",)
"""Parts that reckon with what the others have measured."""

OPS = (
    "attention, forward, in Triton",
    "attention, forward, in Gluon",
    "attention, backward, in Triton",
    "attention, backward, in Gluon",
    "merge_partial",
    "qk_norm_rope",
    "layernorm_modulate",
    "gate_residual_layernorm_modulate",
    "bias_gelu_tanh",
    "relu_linear_attention",
    "adamw",
)

ABOUT = """# Performance

Written by `make bench`, each part on the day and the machine that it names. Machines are shared and noisy, so figures
are CPU-seconds and ratios within one run; raw numbers are in `bench/results/`. What bounds them, which goals are not
met, and what single parts cost is in [costs](costs.md); how well shots are found in [shots](shots.md). GPU decoding and
encoding (NVDEC, NVENC) and CLIP on a GPU: not measured.
"""


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m bench")
    parser.add_argument("--videos", type=Path, required=True)
    parser.add_argument("--parts", nargs="+", choices=(SHOTS, *TITLES), default=(SHOTS, *TITLES))
    parser.add_argument("--rows", type=int, default=10_000_000)
    parser.add_argument("--vectors", type=int, default=1_000_000)
    parser.add_argument("--copies", nargs="+", default=["1", "4"])
    parser.add_argument("--presets", nargs="+", default=["medium", "veryfast"])
    options = parser.parse_args(arguments)
    day = datetime.now(UTC).date().isoformat()
    RESULTS.mkdir(exist_ok=True)
    for part in options.parts:
        if part != SHOTS:
            keep(part, day, _run(part, *commands(options, day)[part]))
        elif (options.videos / "labels.csv").exists():
            _run(SHOTS, *commands(options, day)[SHOTS])
    PAGE.write_text(page())
    return 0


def commands(options: argparse.Namespace, day: str) -> dict[str, tuple[str, ...]]:
    """The arguments of each part's module."""
    videos = ("--videos", str(options.videos))
    found: dict[str, tuple[str, ...]] = {
        "curate": (*videos, "--copies", *options.copies, "--presets", *options.presets),
        "query": ("--rows", str(options.rows)),
        "search": ("--vectors", str(options.vectors)),
        "growth": ("--rows", "10000", "1000000", str(options.rows)),
        "sizing": (),
        "caption": ("--captions", "100000"),
        "models": (),
        "train": videos,
        "duplicates": (*videos, "--sizes", "10000", "100000", "1000000"),
    }
    found = {part: (*given, "--json", str(RESULTS / f"{day}-{part}.json")) for part, given in found.items()}
    labels, shots = str(options.videos / "labels.csv"), str(ROOT / "docs" / "shots.md")
    return {SHOTS: (*videos, "--labels", labels, "--out", shots), **found}


def _run(name: str, *arguments: str) -> str:
    """The Markdown that one benchmark prints."""
    print(f"bench.{name} {' '.join(arguments)}", file=sys.stderr)
    done = subprocess.run(
        [sys.executable, "-m", f"bench.{name}", *arguments], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    if done.returncode:
        raise SystemExit(f"bench.{name} failed with exit code {done.returncode}")
    return done.stdout.strip()


def keep(part: str, day: str, tables: str) -> None:
    """Write what a part has printed, with the day and the machine."""
    machine = f"{cpu_model()}, {os.cpu_count()} processors, Python {platform.python_version()}"
    head = f"On paper, {day}." if part in ON_PAPER else f"Measured on {day}: {machine}."
    (RESULTS / f"{part}.md").write_text(f"{head}\n\n{tables}\n")


def page() -> str:
    """The page, of the newest tables of each part."""
    parts = [ABOUT]
    for part, title in TITLES.items():
        found = RESULTS / f"{part}.md"
        parts.append(f"## {title}\n\n{found.read_text() if found.exists() else 'Not measured.'}")
    parts.append(f"## Kernels\n\n{_kernels()}\n")
    return "\n".join(part if part.endswith("\n") else f"{part}\n" for part in parts)


def _kernels() -> str:
    """The newest page that `make bench-gpu` has left, or that there is none."""
    pages = sorted(RESULTS.glob("*-gpu.md"))
    if pages:
        return pages[-1].read_text()
    rows = "\n".join(f"| {op} | not measured |" for op in OPS)
    return f"`make bench-gpu` writes this table on a GPU; none was at hand.\n\n| op | speed |\n|---|---|\n{rows}"


if __name__ == "__main__":
    sys.exit(main())
