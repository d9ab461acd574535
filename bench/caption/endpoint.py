"""Captions by an endpoint that only waits, through the whole command: what they cost its driver, and whether what it
remembers grows with them.

    python -m bench.caption.endpoint FOLDER OUT.json CAPTIONS LATENCY_S CONCURRENCY

The driver is this process, so its clocks are its own; the worker that asks, the decoder and the server are others.
"""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import psutil
import pyarrow as pa

from bench.caption.server import MODEL
from bench.growth import data
from curation.contract import SAMPLES
from curation.pyramid.store import Pyramid
from pipelines.config.recipe import parsed

_BATCH = 20_000
_EVERY_S = 0.5
_EARLY = 0.1
RECIPE = """
name = "bench"
[filters.ocr]
enabled = false
[filters.aesthetic]
enabled = false
[[tiers]]
name = "all"
[[captions]]
name = "dense"
tier = "all"
model = "{model}"
endpoint = "{url}"
prompt = "{prompt}"
side = 64
frames = 1
concurrency = {concurrency}
"""


def main() -> None:
    folder, out, captions, latency_s, concurrency = sys.argv[1:]
    Path(out).write_text(json.dumps(measured(Path(folder), int(captions), float(latency_s), int(concurrency))))


def measured(folder: Path, captions: int, latency_s: float, concurrency: int) -> dict[str, Any]:
    """The figures of a run that captions so many clips."""
    from pipelines.execution.jobs import Options, run_caption

    (folder / "free.toml").write_text('version = 1\nask = "Describe the clip."\n')
    pyramid = _pyramid(folder / "pyramid", captions)
    with _served(latency_s) as url, _watched() as seen:
        text = RECIPE.format(model=MODEL, url=url, prompt=folder / "free.toml", concurrency=concurrency)
        read = parsed(text, "bench")
        pyramid.with_recipe(read.name, text, read.pyramid_tiers)
        began, before = time.monotonic(), _cpu_s()
        code = run_caption(pyramid.uri, [], None, Options(as_json=True))
        wall_s, cpu_s = time.monotonic() - began, _cpu_s() - before
    assert code == 0, "the run has lost captions"
    done = pyramid.dataset("clips").count_rows("caption is not null")
    assert done == captions, f"{done} of {captions} clips have a caption"
    late = seen[len(seen) // 2 :]
    return {
        "captions": captions,
        "latency_s": latency_s,
        "concurrency": concurrency,
        "wall_s": wall_s,
        "cpu_ms": 1000 * cpu_s / captions,
        "early_mb": seen[int(len(seen) * _EARLY)] >> 20,
        "late_mb": max(late) >> 20,
    }


def _pyramid(folder: Path, clips: int) -> Pyramid:
    """A pyramid of so many clips with sample frames that are pictures."""
    import lance

    pyramid = Pyramid.open_or_create(folder, data.TIERS, "bench")
    noise = np.random.default_rng(0).integers(0, 256, (36, 64, 3), np.uint8)
    picture = cv2.imencode(".jpg", noise)[1].tobytes()
    for start in range(0, clips, _BATCH):
        many = min(_BATCH, clips - start)
        table = data.table("clips", start, many)
        frames = pa.array([[picture]] * many, pa.list_(pa.binary()))
        lance.write_dataset(
            pa.table([table["clip_id"], frames], SAMPLES), pyramid.dataset_uri("samples"), mode="append"
        )
        lance.write_dataset(table, pyramid.dataset_uri("clips"), mode="append")
        lance.write_dataset(data.table("videos", start, many), pyramid.dataset_uri("videos"), mode="append")
    return pyramid


@contextmanager
def _served(latency_s: float) -> Iterator[str]:
    """The address of a server in a process of its own."""
    command = [sys.executable, "-m", "bench.caption.server", str(latency_s)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None and process.stdout is not None
        try:
            yield process.stdout.readline().strip()
        finally:
            process.stdin.close()


@contextmanager
def _watched() -> Iterator[list[int]]:
    """Bytes of memory that this process has, looked at again and again while the block lasts."""
    seen: list[int] = []
    over, me = threading.Event(), psutil.Process()

    def look() -> None:
        while not over.wait(_EVERY_S):
            seen.append(me.memory_info().rss)

    thread = threading.Thread(target=look)
    thread.start()
    try:
        yield seen
    finally:
        over.set()
        thread.join()


def _cpu_s() -> float:
    """Seconds of the processor that this process has used, without its children."""
    used = psutil.Process().cpu_times()
    return used.user + used.system


if __name__ == "__main__":
    main()
