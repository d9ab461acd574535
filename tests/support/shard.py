"""A frozen manifest and its latents as `freeze` and `encode` leave them, of drawn numbers: for commands that train."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import lance
import pyarrow as pa
import torch

from curation.pyramid.store import Pyramid
from curation.pyramid.tiering.tiers import Tier, Tiers
from curation.shards import folder
from curation.shards.manifest import Bucket
from tests.support import encoded
from training.data import tensors
from training.data.latent_file import DATASET, HEAD, ROWS, Encoders, Head, row
from training.models import build

MODEL = """
name = "toy"
[denoiser]
preset = "tiny_dcae"
[autoencoder]
kind = "dcae"
preset = "tiny"
[run]
device = "cpu"
dtype = "float32"
"""


READS = (384, 384)
"""Widths of the states of the text encoder that ships in a package."""


@dataclass(frozen=True)
class Shard:
    """`manifest`, `latents`, `model`: what the command is given."""

    manifest: str
    latents: str
    model: str

    @property
    def arguments(self) -> list[str]:
        return ["train", self.manifest, "--latents", self.latents, "--model", self.model]


@cache
def fingerprint() -> str:
    """Of the autoencoder of `MODEL`, whose weights are drawn from seed 0."""
    spec = build.AutoencoderSpec(kind="dcae", preset="tiny")
    return build.autoencoder_fingerprint(build.autoencoder(spec, torch.device("cpu"), torch.float32))


def shard(place: Path, buckets: Mapping[Bucket, int], lost: Collection[int] = (), reads: bool = False) -> Shard:
    """So many samples of each bucket; `lost`: those without latents. `reads`: the model's transformer is one that its
    text encoder writes for, so that what is trained can be sampled."""
    widths = READS if reads else (encoded.WIDTH, encoded.POOLED)
    pyramid = Pyramid.create(place / "pyramid", Tiers((Tier("all"),)), "test")
    frozen = encoded.frozen(buckets)
    manifest, table = frozen.manifest.sealed(frozen.samples)
    folder.put(pyramid.files, manifest, table)
    source = encoded.Memory(frozen.samples, widths=widths)
    empty = source.empty
    head = Head(
        manifest.name,
        manifest.sha256,
        str(place / "pyramid"),
        "toy",
        Encoders(
            fingerprint(),
            "t" * 64,
            encoded.SPEC,
            "float32",
            "float32",
            (encoded.WORDS, widths[0]),
            (widths[1],),
            tensors.to_bytes(empty.tokens_BMD),
            tensors.to_bytes(empty.pooled_BP),
        ),
    )
    latents = place / "latents"
    latents.mkdir()
    (latents / HEAD).write_bytes(head.to_json())
    samples = frozen.samples.to_pylist()
    numbers = [number for number in range(len(samples)) if number not in lost]
    rows = [row(samples[one.sample], one, "", head.by) for one in source.read(numbers)]
    lance.write_dataset(pa.Table.from_pylist(rows, schema=ROWS), str(latents / DATASET))
    (place / "model.toml").write_text(MODEL.replace("tiny_dcae", "tiny_embedded") if reads else MODEL)
    return Shard(f"{place / 'pyramid'}#{manifest.name}", str(latents), str(place / "model.toml"))
