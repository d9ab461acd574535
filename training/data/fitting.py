"""Whether the buckets of a manifest fit an autoencoder: asked before the first sample is encoded or trained on."""

from __future__ import annotations

from curation.errors import UserError
from curation.shards.manifest import Bucket, Frozen
from training.models.base import LatentSpec


def buckets_of(frozen: Frozen) -> list[Bucket]:
    """Each bucket that has samples, in a fixed order."""
    names = ("resolution", "bucket_frames", "bucket_height", "bucket_width", "batch")
    rows = frozen.samples.select(names).group_by(names).aggregate([]).to_pylist()
    return sorted((Bucket.of(row) for row in rows), key=lambda one: (one.frames, one.height, one.width, one.batch))


def check_buckets(frozen: Frozen, spec: LatentSpec) -> None:
    """UserError where a bucket of the manifest does not fit the autoencoder."""
    for bucket in buckets_of(frozen):
        try:
            spec.size(bucket.frames, bucket.height, bucket.width)
        except UserError as error:
            size = f"{bucket.frames} frames of {bucket.height}x{bucket.width}"
            raise UserError(
                f"a bucket of {size} does not fit the model's autoencoder",
                f"{error.remedy}; freeze with a table for it "
                "(high_compression or autoencoder for a DC-AE, stage1 for HunyuanVideo)",
            ) from None
