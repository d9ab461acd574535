"""`make bench`: every benchmark on this machine, in one go, and its tables in docs/performance.md.

    python -m bench --videos DIR [--rows 10000000] [--copies 1 4]

Each benchmark runs alone, one after the other, in a process of its own; this module only puts their tables together
with the machine and the date. What a machine cannot measure is written "not measured".
"""

from __future__ import annotations

import argparse
import os
import platform
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

from bench.meter import cpu_model

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "performance.md"
RESULTS = ROOT / "bench" / "results"


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench")
    parser.add_argument("--videos", type=Path, required=True)
    parser.add_argument("--rows", type=int, default=10_000_000)
    parser.add_argument("--copies", nargs="+", default=["1", "4"])
    parser.add_argument("--presets", nargs="+", default=["medium", "veryfast"])
    options = parser.parse_args()
    RESULTS.mkdir(exist_ok=True)
    day = datetime.now(UTC).date().isoformat()
    labels = options.videos / "labels.csv"
    if labels.exists():
        _run(
            "shots", "--videos", str(options.videos), "--labels", str(labels), "--out", str(ROOT / "docs" / "shots.md")
        )
    query = _run("query", "--rows", str(options.rows), "--json", str(RESULTS / f"{day}-query.json"))
    growth = _run("growth", "--rows", "10000", "1000000", "--json", str(RESULTS / f"{day}-growth.json"))
    curate = _run(
        "curate",
        *("--videos", str(options.videos), "--copies", *options.copies, "--presets", *options.presets),
        *("--json", str(RESULTS / f"{day}-curate.json")),
    )
    models = _run("models", "--json", str(RESULTS / f"{day}-models.json"))
    train = _run("train", "--videos", str(options.videos), "--json", str(RESULTS / f"{day}-train.json"))
    PAGE.write_text(_page(day, curate, query, growth, models, train))
    return 0


def _run(name: str, *arguments: str) -> str:
    """The Markdown that one benchmark prints."""
    print(f"bench.{name} {' '.join(arguments)}", file=sys.stderr)
    done = subprocess.run(
        [sys.executable, "-m", f"bench.{name}", *arguments], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    if done.returncode:
        raise SystemExit(f"bench.{name} failed with exit code {done.returncode}")
    return done.stdout.strip()


NOTES = """**What bounds these figures.** `each further` is the difference between two sizes: what a long job
comes to. Ray, Lance and Python start with some ten CPU-seconds a run, which weighs on one copy of a small set and not
on a large one. Beside L stand the measuring pass (about one more decode of such small pictures: motion and content
value are half of it) and, for what is kept, a second decode. S / L is the most that S / ours can be: nothing that
decodes once and encodes what is kept costs less than L. So a goal against S above S / L cannot be met by anything. The
faster the preset, the less encoding there is to hide the measuring pass behind, and the higher ours / L."""


OPS = (
    "attention, forward",
    "attention, backward",
    "merge_partial",
    "qk_norm_rope",
    "layernorm_modulate",
    "gate_residual_layernorm_modulate",
    "bias_gelu_tanh",
    "relu_linear_attention",
    "adamw",
)


def _kernels() -> str:
    """The newest page that `make bench-gpu` has left, or that there is none."""
    pages = sorted(RESULTS.glob("*-gpu.md"))
    if pages:
        return pages[-1].read_text()
    rows = "\n".join(f"| {op} | not measured |" for op in OPS)
    return f"`make bench-gpu` writes this table on a GPU; none was at hand.\n\n| op | speed |\n|---|---|\n{rows}"


def _page(day: str, curate: str, query: str, growth: str, models: str, train: str) -> str:
    return f"""# Performance

Written by `make bench` on {day}: {cpu_model()}, {os.cpu_count()} processors, Python
{platform.python_version()}. The machine is shared and noisy, so figures are CPU-seconds and ratios within one run; raw
numbers are in `bench/results/`. How well shots are found is in [shots](shots.md). GPU decoding and encoding (NVDEC,
NVENC) and CLIP on a GPU: not measured.

## Curation

{curate}

{NOTES}

## Queries

{query}

## Growth

{growth}

{models}

{train}

## Kernels

{_kernels()}
"""


if __name__ == "__main__":
    sys.exit(main())
