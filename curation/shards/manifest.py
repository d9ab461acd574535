"""The shard manifest: which samples a training run reads, as they were at one moment. Nothing in it ever changes.

    Query -> [freeze] -> Manifest -> [encode] -> Latents -> Batch(manifest, seed, step) -> Checkpoint

A manifest is two files in the pyramid's `manifests/`: `NAME.json` (`Manifest`) and the table that it names, a row a
sample (`SAMPLES`). The row's number is the sample's: batches, noise and times are keyed by it. The
hash is over both, so a table that was changed, cut short or belongs to another manifest is told.

This module knows no pyramid and no bucket rule: `training` reads it too.
"""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any, Self

import pyarrow as pa
import pyarrow.parquet as pq

from curation.errors import UserError

FOLDER = "manifests"
OLDEST, FORMAT = 1, 2
"""2: whose captions the samples have (`Manifest.caption_by`). A manifest of the captions in force stays of 1."""

_SINCE_2 = ("caption_by", "captions")

SAMPLES = pa.schema(
    [
        pa.field("clip_id", pa.string(), nullable=False),
        pa.field("video_id", pa.string(), nullable=False),
        pa.field("kind", pa.string(), nullable=False),  # `contract.Kind`
        pa.field("media", pa.string(), nullable=False),  # sha256 of the stored bytes
        pa.field("frames", pa.int32(), nullable=False),  # as they are stored
        pa.field("height", pa.int32(), nullable=False),
        pa.field("width", pa.int32(), nullable=False),
        pa.field("fps", pa.float32()),  # null: an image
        pa.field("motion", pa.float32()),  # null: an image
        pa.field("aesthetic", pa.float32()),
        pa.field("caption", pa.string(), nullable=False),
        pa.field("caption_by", pa.string()),
        pa.field("resolution", pa.string(), nullable=False),  # the bucket: 256px
        pa.field("bucket_frames", pa.int32(), nullable=False),
        pa.field("ratio", pa.string(), nullable=False),
        pa.field("bucket_height", pa.int32(), nullable=False),
        pa.field("bucket_width", pa.int32(), nullable=False),
        pa.field("batch", pa.int32(), nullable=False),  # samples of this bucket in a batch of one GPU
        pa.field("interval", pa.int32(), nullable=False),  # every so many frames one is taken
        pa.field("bucket_fps", pa.float32()),  # what is left of `fps` then
    ]
)
"""One row a sample, in the order of `clip_id`."""


@dataclass(frozen=True, slots=True)
class Bucket:
    """What the samples of a batch have in common: their frames and pixels, and how many of them make a batch."""

    resolution: str
    frames: int
    height: int
    width: int
    batch: int

    @classmethod
    def of(cls, row: Mapping[str, Any]) -> Self:
        """From a row of `SAMPLES`."""
        sizes = (row["bucket_frames"], row["bucket_height"], row["bucket_width"], row["batch"])
        return cls(row["resolution"], *sizes)

    def __str__(self) -> str:
        return f"{self.resolution} {self.frames}x{self.height}x{self.width}"


@dataclass(frozen=True, slots=True)
class Manifest:
    """The head of a manifest. `versions`: of the pyramid's datasets, pinned under the tag `pin`; `query`: the
    conditions that chose the clips, as text; `table`: the bucket table, as TOML; `seed`: of the draws of its
    probabilities. `missed`: clips that have no sample, by why; `samples`: rows in `file`. `sha256`: over head and rows.
    `caption_by`: the makers whose captions were asked for, the first choice first, and `captions`: how many samples
    have one of each; both are empty where the caption in force was taken.
    """

    name: str
    pyramid: str
    versions: Mapping[str, int]
    pin: str
    tier: str | None
    query: tuple[str, ...]
    preset: str
    table: str
    seed: int
    samples: int
    buckets: Mapping[str, int]
    missed: Mapping[str, int]
    made: str
    made_by: str
    file: str = ""
    sha256: str = ""
    format: int = OLDEST
    caption_by: tuple[str, ...] = ()
    captions: Mapping[str, int] = field(default_factory=dict)

    def sealed(self, samples: pa.Table) -> tuple[Manifest, bytes]:
        """The manifest with its hash and the name of its file, and the file's content."""
        bare = replace(self, file="", sha256="", samples=samples.num_rows)
        digest = _digest(bare, samples)
        return replace(bare, file=f"{self.name}-{digest[:12]}.parquet", sha256=digest), _parquet(samples)

    def to_json(self) -> bytes:
        """The content of `NAME.json`."""
        return (json.dumps(asdict(self), indent=1, sort_keys=True) + "\n").encode()

    @classmethod
    def from_json(cls, content: bytes, where: str) -> Manifest:
        """UserError: no manifest, or one of a newer format."""
        try:
            read = json.loads(content)
            if read.get("format", 0) > FORMAT:
                raise UserError(f"{where} is of a newer Ziggurat", "upgrade, or freeze again with this one")
            known = {one.name for one in fields(cls)}
            values: dict[str, Any] = {name: value for name, value in read.items() if name in known}
            tuples = {"query": tuple(read["query"]), "caption_by": tuple(read.get("caption_by", ()))}
            return cls(**{**values, **tuples})
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise UserError(f"{where} is no manifest ({error})", "freeze the tier again under another name") from error


@dataclass(frozen=True, slots=True)
class Frozen:
    """A manifest with its samples: what training and encoding take. `samples` is a table of `SAMPLES`."""

    manifest: Manifest
    samples: pa.Table = field(repr=False)

    @classmethod
    def read(cls, manifest: Manifest, content: bytes) -> Frozen:
        """From the content of the file that the head names. UserError: it is not what was frozen."""
        try:
            samples = pq.read_table(io.BytesIO(content), schema=SAMPLES)
        except (pa.ArrowException, OSError) as error:
            raise UserError(f"{manifest.file} cannot be read ({error})", _AGAIN) from error
        bare = replace(manifest, file="", sha256="")
        if samples.num_rows != manifest.samples or _digest(bare, samples) != manifest.sha256:
            raise UserError(f"{manifest.file} is not what {manifest.name} was frozen with", _AGAIN)
        return cls(manifest, samples)


_AGAIN = "take the file back from a copy, or freeze the tier again under another name"


def _digest(bare: Manifest, samples: pa.Table) -> str:
    """SHA-256 over the head without hash and file, and over the rows: of values, not of how Parquet packs them."""
    head = {name: value for name, value in asdict(bare).items() if value or name not in _SINCE_2}
    digest = hashlib.sha256(json.dumps(head, sort_keys=True).encode())
    for batch in samples.cast(SAMPLES).to_batches(max_chunksize=10_000):
        digest.update(json.dumps(batch.to_pylist(), sort_keys=True, ensure_ascii=True).encode())
    return digest.hexdigest()


def _parquet(samples: pa.Table) -> bytes:
    out = io.BytesIO()
    pq.write_table(samples.cast(SAMPLES), out, compression="zstd")
    return out.getvalue()
