"""What an encoding worker takes beside its autoencoder (`bench.train`): one worker's stage in this process.

Clips are curated, frozen and encoded as by the commands; only the stage's work on its samples is timed, and in it the
time inside of the autoencoder. Weights are random, which changes no time.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa

from curation.media.plan import Limits
from curation.shards import folder
from pipelines.commands.shards.freeze import Request, freeze
from pipelines.config import modelfile
from pipelines.encoding.latents import Latents
from pipelines.stages.encode import EncodeStage, SamplesToEncode
from training.data.encoder import Encoder
from training.data.latent_file import Head
from training.models.dcae import VideoDcAe

SAMPLES = {"tiny": 24, "f32t4c128": 1}
"""Of each autoencoder: the demonstration's of a million weights, and the published one."""
TABLE = "side_multiple = 32\n[buckets.256px]\n16 = { batch = 1 }\n"
RECIPE = """
name = "encoding"
[clips]
min_s = 1.0
max_s = 2.0
[cut]
tier = "all"
[filters.ocr]
enabled = false
[filters.aesthetic]
enabled = false
[[tiers]]
name = "all"
"""


def measured(place: Path, videos: Path) -> list[dict[str, Any]]:
    """For each autoencoder: samples, frames, seconds of the stage, and those in the autoencoder."""
    place.mkdir(parents=True)
    (place / "recipe.toml").write_text(RECIPE)
    (place / "table.toml").write_text(TABLE)
    pyramid = str(place / "pyramid")
    command = [sys.executable, "-m", "pipelines.cli", "curate", str(videos), "--to", pyramid]
    # Some of them are broken, which ends with 1 or 0; what counts is that there are clips to freeze.
    subprocess.run([*command, "--recipe", str(place / "recipe.toml")], stdout=sys.stderr)
    freeze(Request(pyramid, "all", preset=str(place / "table.toml"), without_captions=True))
    return [_encoded(place, f"{pyramid}#all", name, count) for name, count in SAMPLES.items()]


def _encoded(place: Path, manifest: str, name: str, count: int) -> dict[str, Any]:
    pyramid, frozen = folder.opened(manifest)
    spec = modelfile.load("tiny").spec
    spec = replace(spec, autoencoder=replace(spec.autoencoder, preset=name))
    about = Encoder(spec).about()
    head = Head(frozen.manifest.name, frozen.manifest.sha256, pyramid.uri, name, about)
    latents = Latents.at(str(place / name))
    latents.begin(head)
    by = (about.autoencoder, about.text)
    work = EncodeStage(pyramid, None, latents, spec, by, head.by, frozen.manifest.seed, Limits())()
    samples = frozen.samples.append_column("sample", pa.array(range(frozen.samples.num_rows)))
    rows = samples.to_pylist()
    work(SamplesToEncode(tuple(rows[:1])), lambda item, units: None)  # the first warms up
    with _timed() as bare:
        start = time.perf_counter()
        done = work(SamplesToEncode(tuple(rows[1 : 1 + count])), lambda item, units: None)
        seconds = time.perf_counter() - start
    assert not done.failed, done.failed
    return {
        "autoencoder": name,
        "samples": len(done.samples),
        "frames": done.frames,
        "seconds": seconds,
        "bare": sum(bare),
    }


@contextmanager
def _timed() -> Iterator[list[float]]:
    """The seconds of each call of the autoencoder in this block."""
    found: list[float] = []
    encode = VideoDcAe.encode

    def timed(self: VideoDcAe, *given: Any, **named: Any) -> Any:
        start = time.perf_counter()
        try:
            return encode(self, *given, **named)
        finally:
            found.append(time.perf_counter() - start)

    VideoDcAe.encode = timed
    try:
        yield found
    finally:
        VideoDcAe.encode = encode
