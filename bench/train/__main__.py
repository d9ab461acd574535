"""What the loop of training costs beside what it trains: `python -m bench.train --videos DIR`, a part of `make bench`.

    steps      by every engine on two processes, beside a loop in plain DDP           (`ranks`)
    saves      how long a save keeps training waiting, beside a synchronous one       (`saves`)
    encoding   what `encode` takes beside the autoencoder alone                       (`encode`)
    streaming  how long a run waits for samples that come from actors of Ray          (`stream`)
    recovery   how long a run on a cluster stands still after each fault              (`recovery`)

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

from bench.train import encode, recovery, saves, stream
from bench.train.ranks import ENGINES, PLAIN, PLAIN_FSDP2

RANKS = 2
PARTS = ("steps", "saves", "encoding", "streaming", "recovery")


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.train")
    parser.add_argument("--videos", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        work = {
            "steps": lambda: _steps(place, options.steps, options.rounds),
            "saves": lambda: saves.measured(place / "saves"),
            "encoding": lambda: encode.measured(place / "encoding", options.videos),
            "streaming": lambda: stream.measured(place / "streaming"),
            "recovery": lambda: recovery.measured(place / "recovery"),
        }
        found = {part: work[part]() for part in options.parts}
    if options.json:
        options.json.write_text(json.dumps(found))
    print("\n".join(markdown(found)))
    return 0


def _steps(place: Path, steps: int, rounds: int) -> dict[str, Any]:
    out = place / "steps.json"
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={RANKS}"]
    command = [*launch, "-m", "bench.train.ranks", str(place / "latents"), str(out)]
    command += ["--steps", str(steps), "--rounds", str(rounds)]
    subprocess.run(command, check=True, env={**os.environ, "OMP_NUM_THREADS": "1"}, stdout=sys.stderr)
    return json.loads(out.read_text())


def markdown(found: Mapping[str, Any]) -> Iterator[str]:
    """The tables of the performance page."""
    shown = {
        "steps": _of_steps,
        "saves": _of_saves,
        "encoding": _of_encoding,
        "streaming": _of_streaming,
        "recovery": _of_recovery,
    }
    for part, lines in shown.items():
        if part in found:
            yield from lines(found[part])
            yield ""
    yield "`mfu_dit`, pinned memory and NCCL: not measured."


def _of_steps(found: Mapping[str, Any]) -> Iterator[str]:
    runs, steps = found["runs"], found["steps"]
    seconds = {name: median(run["seconds"] for run in some) / steps for name, some in runs.items()}
    yield (
        f"The tiny transformer on {RANKS} processes over gloo, latents from a Lance dataset, two micro-batches a step "
        f"and process: medians of {len(runs[PLAIN])} turns of {steps} steps, all in turn. *Plain* is a loop in torch "
        "without anything else. With a processor for each process, what reads ahead takes its time from what computes, "
        "so the processor's time says more of the loop than the clock. Goal: at least 0.95 of plain DDP's steps a "
        "second, and a waiting share under 1 %."
    )
    yield ""
    yield "| engine | ms a step | steps a second over plain DDP's | worst turn | processor ms a step | waiting share |"
    yield "|---|---|---|---|---|---|"
    for name in (PLAIN, PLAIN_FSDP2, *ENGINES):
        worst = min(a["seconds"] / b["seconds"] for a, b in zip(runs[PLAIN], runs[name], strict=True))
        waited = sum(run["waited"] for run in runs[name]) / sum(run["seconds"] for run in runs[name])
        ratio, cpu = seconds[PLAIN] / seconds[name], median(run["cpu"] for run in runs[name]) / steps
        yield f"| {name} | {seconds[name] * 1e3:.1f} | {ratio:.2f} | {worst:.2f} | {cpu * 1e3:.1f} | {waited:.1%} |"


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


def _of_streaming(found: Sequence[Mapping[str, float]]) -> Iterator[str]:
    shares = ", ".join(f"{one['waited'] / one['seconds']:.1%} with {one['actors']:.0f}" for one in found)
    yield (
        f"Of a run that is fed by actors (`--stream`), the time that it waits for samples: {shares} (goal 5 %). The "
        "actors hand out what is encoded already, so this is what Ray takes to bring it. By `encode`'s times above a "
        "processor encodes slower than it trains; how many GPUs of encoders a GPU of training needs: not measured."
    )


def _of_recovery(found: Mapping[str, Mapping[str, float]]) -> Iterator[str]:
    yield (
        "A run of two processes on a cluster of two nodes, all on this machine, that meets a fault two steps after its "
        f"last checkpoint. A stopped process is noticed after {recovery.SILENCE_S:.0f} s here (5 minutes by default)."
    )
    yield ""
    yield "| fault | s from the fault to the step after it | starts |"
    yield "|---|---|---|"
    for kind, one in found.items():
        yield f"| {recovery.FAULTS[kind]} | {one['seconds']:.1f} | {one['starts']:.0f} |"


if __name__ == "__main__":
    sys.exit(main())
