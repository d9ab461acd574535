"""What the loop of training costs beside what it trains: `python -m bench.train --videos DIR`, a part of `make bench`.

    steps      by every engine on two processes, beside a loop in plain DDP           (`train_ranks`)
    saves      how long a save keeps training waiting, beside a synchronous one       (`train_saves`)
    encoding   what `encode` takes beside the autoencoder alone                       (`train_encode`)

Ratios of medians within one run. The network is the tiny one: the smaller the network, the more the loop weighs.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any

from bench import train_encode, train_saves
from bench.train_ranks import ENGINES, PLAIN

RANKS = 2


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.train")
    parser.add_argument("--videos", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        found = {
            "steps": _steps(place, options.steps, options.rounds),
            "saves": train_saves.measured(place / "saves"),
            "encoding": train_encode.measured(place / "encoding", options.videos),
        }
    if options.json:
        options.json.write_text(json.dumps(found))
    print("\n".join(markdown(found)))
    return 0


def _steps(place: Path, steps: int, rounds: int) -> dict[str, Any]:
    out = place / "steps.json"
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={RANKS}"]
    command = [*launch, "-m", "bench.train_ranks", str(place / "latents"), str(out)]
    command += ["--steps", str(steps), "--rounds", str(rounds)]
    subprocess.run(command, check=True, env={**os.environ, "OMP_NUM_THREADS": "1"}, stdout=sys.stderr)
    return json.loads(out.read_text())


def markdown(found: Mapping[str, Any]) -> Iterator[str]:
    """The section of the performance page."""
    yield "## Training"
    yield ""
    yield from _of_steps(found["steps"])
    yield ""
    yield from _of_saves(found["saves"])
    yield ""
    yield from _of_encoding(found["encoding"])
    yield ""
    yield "Recovery times, `mfu_dit`, pinned memory and NCCL: not measured."


def _of_steps(found: Mapping[str, Any]) -> Iterator[str]:
    runs, steps = found["runs"], found["steps"]
    seconds = {name: median(run["seconds"] for run in some) / steps for name, some in runs.items()}
    yield (
        f"The tiny transformer on {RANKS} processes over gloo, latents from a Lance dataset, two micro-batches a step "
        f"and process: medians of {len(runs[PLAIN])} turns of {steps} steps, all in turn. *Plain* is a loop in DDP "
        "without anything else. Goal: at least 0.95 of its steps a second, and a waiting share under 1 %."
    )
    yield ""
    yield "| engine | ms a step | steps a second over plain's | worst turn | waiting share |"
    yield "|---|---|---|---|---|"
    for name in (PLAIN, *ENGINES):
        worst = min(a["seconds"] / b["seconds"] for a, b in zip(runs[PLAIN], runs[name], strict=True))
        waited = sum(run["waited"] for run in runs[name]) / sum(run["seconds"] for run in runs[name])
        ratio = seconds[PLAIN] / seconds[name]
        yield f"| {name} | {seconds[name] * 1e3:.1f} | {ratio:.2f} | {worst:.2f} | {waited:.1%} |"


def _of_saves(found: Sequence[Mapping[str, float]]) -> Iterator[str]:
    size = found[0]["bytes"] / 1e6
    shares = sorted(one["blocked"] / one["synchronous"] for one in found)
    yield (
        f"A save of {size:.0f} MB keeps training waiting for {median(shares):.1%} of what a synchronous one takes "
        f"(median of {len(shares)}, worst {shares[-1]:.1%}; goal 2 %). In the host's plain memory; "
        "pinned: not measured."
    )


def _of_encoding(found: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    yield (
        "An encoding worker (bytes out of the pyramid, frames through the sandbox, prompts, rows written) beside its "
        "autoencoder alone, in seconds of this process: the share that is the autoencoder's. Goal 0.95."
    )
    yield ""
    yield "| autoencoder | samples | frames | s a sample | the autoencoder's share |"
    yield "|---|---|---|---|---|"
    for one in found:
        each, share = one["seconds"] / one["samples"], one["bare"] / one["seconds"]
        yield f"| {one['autoencoder']} | {one['samples']} | {one['frames']} | {each:.2f} | {share:.3f} |"


if __name__ == "__main__":
    sys.exit(main())
