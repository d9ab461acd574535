"""What captions cost beside the models that make them: `python -m bench.caption`, a part of `make bench`.

    endpoint   100,000 captions by a server that only waits: processor time and memory of the driver    (`endpoint`)
    offline    the stage's answers a second beside vLLM driven bare, in one process, round by round     (`offline`)

`offline` needs vLLM's environment and is left out, with a line, where there is none. Its model is a tiny one unless
`--model` names another; `--engine-args '{"load_format": "dummy"}'` gives that one random weights.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
PYTHON = ROOT / ".envs" / "vllm" / "bin" / "python"
PARTS = ("endpoint", "offline")


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.caption")
    parser.add_argument("--captions", type=int, default=100_000, help="that the endpoint gives")
    parser.add_argument("--latency", type=float, default=0.2, help="seconds that it waits before each")
    parser.add_argument("--concurrency", type=int, default=32, help="requests at a time")
    parser.add_argument("--python", type=Path, default=PYTHON, help="of vLLM's environment")
    parser.add_argument("--model", default="", help="a folder; a tiny model is made without one")
    parser.add_argument("--engine-args", default="{}", help="of vLLM, as JSON")
    parser.add_argument("--gpus", type=float, default=0.0)
    parser.add_argument("--clips", type=int, default=256, help="of a round")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args(arguments)
    found: dict[str, Any] = {}
    with tempfile.TemporaryDirectory(prefix="ziggurat-bench-") as folder:
        if "endpoint" in options.parts:
            found["endpoint"] = _endpoint(Path(folder), options)
        if "offline" in options.parts:
            found["offline"] = _offline(Path(folder), options)
    if options.json:
        options.json.write_text(json.dumps(found, indent=1) + "\n")
    print("\n\n".join(markdown(found)))
    return 0


def _endpoint(folder: Path, options: argparse.Namespace) -> dict[str, Any]:
    """The figures of `bench.caption.endpoint`, in a process of its own, whose memory is nobody else's."""
    out = folder / "endpoint.json"
    command = [sys.executable, "-m", "bench.caption.endpoint", str(folder), str(out)]
    command += [str(number) for number in (options.captions, options.latency, options.concurrency)]
    subprocess.run(command, check=True, cwd=ROOT, stdout=sys.stderr)
    return json.loads(out.read_text())


def _offline(folder: Path, options: argparse.Namespace) -> dict[str, Any] | None:
    """The figures of `bench.caption.offline`, in vLLM's environment; None where there is none."""
    if not options.python.exists():
        return None
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "VLLM_LOGGING_LEVEL": "ERROR"}
    if not options.gpus:
        environment.setdefault("VLLM_CPU_KVCACHE_SPACE", "1")
    model = options.model or str(folder / "tiny")
    if not options.model:
        made = [str(options.python), "-m", "tests.support.tiny_vlm", model]
        subprocess.run(made, env=environment, check=True, cwd=ROOT)
    out = folder / "offline.json"
    command = [str(options.python), "-m", "bench.caption.offline", model, str(out), options.engine_args]
    command += [str(number) for number in (options.gpus, options.clips, options.rounds, options.concurrency)]
    subprocess.run(command, env=environment, check=True, cwd=ROOT, stdout=sys.stderr)
    return json.loads(out.read_text())


def markdown(found: Mapping[str, Any]) -> list[str]:
    """The tables, one for each part that was measured."""
    tables: list[str] = []
    if (one := found.get("endpoint")) is not None:
        rows = ["| captions | wall, s | driver, CPU-ms a caption | driver's memory, MB: after a tenth | at the end |"]
        rows += ["|---|---|---|---|---|", "| {captions:,} | {wall_s:.0f} | {cpu_ms:.2f} | {early_mb} | {late_mb} |"]
        told = "By an endpoint that waits {latency_s:g} s before each answer, {concurrency} requests at a time:\n\n"
        tables.append((told + "\n".join(rows)).format(**one))
    if "offline" in found:
        one = found["offline"]
        tables.append(
            "By vLLM in the worker: not measured, no environment of its own here." if one is None else _table(one)
        )
    return tables


def _table(one: Mapping[str, Any]) -> str:
    told = f"By vLLM in the worker, {one['model']} on {one['device']}, {one['concurrency']} requests at a time:"
    rows = ["| clips | rounds | the stage, answers/s | vLLM bare, answers/s | ratio |", "|---|---|---|---|---|"]
    rows.append(f"| {one['clips']} | {one['rounds']} | {one['ours']:.2f} | {one['bare']:.2f} | {one['ratio']:.2f} |")
    return told + "\n\n" + "\n".join(rows)


if __name__ == "__main__":
    sys.exit(main())
