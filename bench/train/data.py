"""A manifest and its latents on the disk, of drawn numbers: what the benchmarks of training read (`bench.train`)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import lance
import pyarrow as pa
import torch

from curation.shards.manifest import SAMPLES, Bucket, Frozen, Manifest
from training.data import tensors
from training.data.encoded import Encoded
from training.data.latent_file import DATASET, HEAD, ROWS, Encoders, Head, row
from training.data.latents import LatentStore
from training.models.base import LatentSpec

SPEC = LatentSpec(channels=8, time=4, space=32, causal=False, patch=1)
"""Of the tiny Video DC-AE."""
WORDS, WIDTH, POOLED = 16, 32, 16
BUCKETS = {Bucket("256px", 32, 256, 256, 2): 64, Bucket("256px", 1, 256, 256, 8): 64}
"""Samples of each bucket: clips of 512 tokens, images of 64."""


def drawn(place: Path) -> tuple[Frozen, LatentStore]:
    """The manifest, and its latents as a run reads them."""
    frozen = _frozen()
    rows = frozen.samples.to_pylist()
    manifest = frozen.manifest
    made = Encoders(
        autoencoder="a" * 64,
        text="t" * 64,
        spec=SPEC,
        latent_type="float32",
        text_type="float32",
        tokens=(WORDS, WIDTH),
        pooled=(POOLED,),
        empty_tokens=tensors.to_bytes(torch.zeros(1, WORDS, WIDTH)),
        empty_pooled=tensors.to_bytes(torch.zeros(1, POOLED)),
    )
    head = Head(manifest.name, manifest.sha256, manifest.pyramid, "drawn", made)
    place.mkdir(parents=True, exist_ok=True)
    (place / HEAD).write_bytes(head.to_json())
    made_rows = [row(one, _encoded(number, one), "", head.by) for number, one in enumerate(rows)]
    lance.write_dataset(pa.Table.from_pylist(made_rows, schema=ROWS), str(place / DATASET), mode="overwrite")
    return frozen, LatentStore.open(str(place), manifest)


def _frozen() -> Frozen:
    buckets = [bucket for bucket, count in BUCKETS.items() for _ in range(count)]
    samples = pa.Table.from_pylist([_sample(number, one) for number, one in enumerate(buckets)], schema=SAMPLES)
    head = Manifest(
        name="drawn",
        pyramid="",
        versions={},
        pin="",
        tier=None,
        query=(),
        preset="",
        table="",
        seed=42,
        samples=samples.num_rows,
        buckets={},
        missed={},
        made="",
        made_by="",
    )
    return Frozen(head.sealed(samples)[0], samples)


def _sample(number: int, bucket: Bucket) -> dict[str, Any]:
    moving = bucket.frames > 1
    return {
        **dict.fromkeys(SAMPLES.names),
        "clip_id": f"{number:032x}",
        "video_id": f"{number:032x}",
        "kind": "video" if moving else "image",
        "media": "",
        "frames": bucket.frames,
        "height": bucket.height,
        "width": bucket.width,
        "fps": 24.0 if moving else None,
        "caption": "",
        "resolution": bucket.resolution,
        "bucket_frames": bucket.frames,
        "ratio": "1:1",
        "bucket_height": bucket.height,
        "bucket_width": bucket.width,
        "batch": bucket.batch,
        "interval": 1,
        "bucket_fps": 24.0 if moving else None,
    }


def _encoded(number: int, sample: dict[str, Any]) -> Encoded:
    draw = torch.Generator().manual_seed(number)
    t, h, w = SPEC.size(sample["bucket_frames"], sample["bucket_height"], sample["bucket_width"])
    ends = [torch.randn(SPEC.channels, 1, h, w, generator=draw) if t > 1 else None for _ in range(2)]
    latent = torch.randn(SPEC.channels, t, h, w, generator=draw)
    words, pooled = torch.randn(WORDS, WIDTH, generator=draw), torch.randn(POOLED, generator=draw)
    return Encoded(number, latent, ends[0], ends[1], words, pooled)
