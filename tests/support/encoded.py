"""Latents and a manifest's samples that need no pyramid: what training reads, in memory."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa
import torch
from torch import Tensor

from curation.errors import UserError
from curation.shards.manifest import SAMPLES, Bucket, Frozen, Manifest
from training.data.encoded import Encoded
from training.models.base import LatentSpec, TextStates

SPEC = LatentSpec(channels=8, time=4, space=32, causal=False, patch=1)
"""Of the tiny Video DC-AE, whose transformer is `tiny_dcae`."""

WORDS, WIDTH, POOLED = 3, 32, 16

CLIP = Bucket("256px", 8, 64, 96, 2)
SHORT = Bucket("256px", 4, 64, 64, 3)
IMAGE = Bucket("256px", 1, 64, 64, 4)


def table(buckets: Mapping[Bucket, int]) -> pa.Table:
    """A table of `SAMPLES` with so many samples of each bucket, one bucket after another."""
    rows = [bucket for bucket, count in buckets.items() for _ in range(count)]
    return pa.Table.from_pylist([_row(number, bucket) for number, bucket in enumerate(rows)], schema=SAMPLES)


def frozen(buckets: Mapping[Bucket, int], seed: int = 42) -> Frozen:
    """A manifest over such a table."""
    samples = table(buckets)
    head = Manifest(
        name="toy",
        pyramid="nowhere",
        versions={},
        pin="",
        tier=None,
        query=(),
        preset="",
        table="",
        seed=seed,
        samples=0,
        buckets={},
        missed={},
        made="",
        made_by="",
    )
    return Frozen(head.sealed(samples)[0], samples)


class Memory:
    """A `Source` of drawn latents, the same for the same number; `reads` counts calls. `lost`: samples it lacks.
    `widths`: of the states of a text encoder.
    """

    def __init__(
        self,
        samples: pa.Table,
        spec: LatentSpec = SPEC,
        lost: Sequence[int] = (),
        widths: tuple[int, int] = (WIDTH, POOLED),
    ) -> None:
        self.spec, self._lost, self.reads = spec, set(lost), 0
        self._width, self._pooled = widths
        self.empty = TextStates(torch.zeros(1, WORDS, self._width), torch.zeros(1, self._pooled))
        self._buckets = [Bucket.of(row) for row in samples.to_pylist()]

    def read(self, samples: Sequence[int]) -> list[Encoded]:
        self.reads += 1
        if found := self._lost.intersection(samples):
            raise UserError(f"sample {min(found)} has no latent", "encode the manifest again")
        return [self._one(sample) for sample in samples]

    def _one(self, sample: int) -> Encoded:
        bucket = self._buckets[sample]
        draw = torch.Generator().manual_seed(sample)
        t, h, w = self.spec.size(bucket.frames, bucket.height, bucket.width)
        latent = self._drawn((self.spec.channels, t, h, w), draw)
        head, tail = (self._end(h, w, draw) if bucket.frames > 1 else None for _ in range(2))
        return Encoded(
            sample, latent, head, tail, self._drawn((WORDS, self._width), draw), self._drawn((self._pooled,), draw)
        )

    def _end(self, h: int, w: int, draw: torch.Generator) -> Tensor:
        return self._drawn((self.spec.channels, 1, h, w), draw)

    @staticmethod
    def _drawn(shape: Sequence[int], draw: torch.Generator) -> Tensor:
        return torch.randn(*shape, generator=draw)


def _row(number: int, bucket: Bucket) -> dict[str, Any]:
    return {
        "clip_id": f"{number:08}",
        "video_id": f"{number:08}",
        "kind": "image" if bucket.frames == 1 else "video",
        "media": "",
        "frames": bucket.frames,
        "height": bucket.height,
        "width": bucket.width,
        "fps": None if bucket.frames == 1 else 24.0,
        "motion": None if bucket.frames == 1 else 4.0,
        "aesthetic": None,
        "caption": "",
        "caption_by": None,
        "resolution": bucket.resolution,
        "bucket_frames": bucket.frames,
        "ratio": "1:1",
        "bucket_height": bucket.height,
        "bucket_width": bucket.width,
        "batch": bucket.batch,
        "interval": 1,
        "bucket_fps": None if bucket.frames == 1 else 24.0,
    }
