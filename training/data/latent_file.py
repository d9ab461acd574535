"""How latents lie on a disk: `latents.json` (`Head`) and the rows of `latents.lance` (`ROWS`). Both sides read it here.

    [encode] -> URI/latents.json, URI/latents.lance -> `latents.LatentStore`

The head says what the rows were made of: the manifest, by its hash, and the two encoders, by their fingerprints. `by`
is all of that in one word and stands in each row too, so rows of anything else are told.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import TYPE_CHECKING, Any, Self

import pyarrow as pa

from curation.errors import UserError
from training.data import tensors
from training.data.encoded import Encoded
from training.models.base import LatentSpec, TextStates

if TYPE_CHECKING:
    from torch import Tensor

HEAD, DATASET = "latents.json", "latents.lance"
FORMAT = 1
VERSION = 1
"""Of how frames and prompts become rows: part of `by`."""

ROWS = pa.schema(
    [
        pa.field("sample", pa.int32(), nullable=False),  # its row in the manifest
        pa.field("clip_id", pa.string(), nullable=False),
        pa.field("kind", pa.string(), nullable=False),
        pa.field("resolution", pa.string(), nullable=False),
        pa.field("bucket_frames", pa.int32(), nullable=False),
        pa.field("bucket_height", pa.int32(), nullable=False),
        pa.field("bucket_width", pa.int32(), nullable=False),
        pa.field("bucket_fps", pa.float32()),
        pa.field("prompt", pa.string(), nullable=False),  # as it was encoded
        pa.field("latent_shape", pa.list_(pa.int32(), 4), nullable=False),  # C, T, H, W
        pa.field("latent", pa.large_binary(), nullable=False),
        pa.field("head", pa.large_binary()),  # C, 1, H, W; null of an image
        pa.field("tail", pa.large_binary()),
        pa.field("tokens", pa.large_binary(), nullable=False),  # `Head.tokens`
        pa.field("pooled", pa.large_binary(), nullable=False),  # `Head.pooled`
        pa.field("by", pa.string(), nullable=False),
    ]
)
"""One row a sample, in any order. The tensors are `tensors`' bytes; their types stand in the head."""

_TENSORS = ("latent_shape", "latent", "head", "tail", "tokens", "pooled")
READ = ("sample", "by", *_TENSORS)
"""The columns that a batch needs."""


@dataclass(frozen=True, slots=True)
class Encoders:
    """What made the latents: fingerprints of the two encoders, the shape of a latent, the types of the numbers, the
    shapes of a prompt's states, and the states of an empty prompt (`tensors`' bytes).
    """

    autoencoder: str
    text: str
    spec: LatentSpec
    latent_type: str
    text_type: str
    tokens: tuple[int, int]
    pooled: tuple[int]
    empty_tokens: bytes
    empty_pooled: bytes

    @property
    def empty(self) -> TextStates:
        """A batch of one."""
        tokens = tensors.from_bytes(self.empty_tokens, (1, *self.tokens), self.text_type)
        return TextStates(tokens, tensors.from_bytes(self.empty_pooled, (1, *self.pooled), self.text_type))


@dataclass(frozen=True, slots=True)
class Head:
    """The content of `latents.json`. `manifest`, `manifest_sha256`, `pyramid`: whose samples these are; `model`: the
    model file, by name.
    """

    manifest: str
    manifest_sha256: str
    pyramid: str
    model: str
    encoders: Encoders
    format: int = FORMAT

    @property
    def by(self) -> str:
        """What made a row: the version of this way, the manifest, the encoders and the types of the numbers."""
        made = self.encoders
        parts = [self.manifest_sha256, made.autoencoder, made.text, made.latent_type, made.text_type]
        return f"latents-{VERSION}-{hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:16]}"

    def to_json(self) -> bytes:
        """The file's content."""
        data = asdict(self)
        for name in ("empty_tokens", "empty_pooled"):
            data["encoders"][name] = base64.b64encode(data["encoders"][name]).decode()
        return (json.dumps(data, indent=1, sort_keys=True) + "\n").encode()

    @classmethod
    def from_json(cls, content: bytes, where: str) -> Self:
        """UserError: it is no such file, or one of a newer format."""
        try:
            read = json.loads(content)
            if read["format"] > FORMAT:
                raise UserError(f"{where} is of a newer Ziggurat", "upgrade, or encode elsewhere with this one")
            made = {one.name: read["encoders"][one.name] for one in fields(Encoders)}
            made |= {name: base64.b64decode(made[name]) for name in ("empty_tokens", "empty_pooled")}
            made |= {name: tuple(map(int, made[name])) for name in ("tokens", "pooled")}
            made["spec"] = LatentSpec(**made["spec"])
            if {made["latent_type"], made["text_type"]} - {*tensors.DTYPES}:
                raise ValueError("an unknown type of numbers")
            plain = {one.name: read[one.name] for one in fields(cls) if one.name != "encoders"}
            return cls(encoders=Encoders(**made), **plain)
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            remedy = "take it back from a copy, or encode to another place"
            raise UserError(f"{where} says nothing of latents ({error})", remedy) from error


def row(sample: Mapping[str, Any], encoded: Encoded, prompt: str, by: str) -> dict[str, Any]:
    """The row of `ROWS` for a row of the manifest."""
    ends = {"head": encoded.head_C1HW, "tail": encoded.tail_C1HW}
    facts = ("clip_id", "kind", "resolution", "bucket_frames", "bucket_height", "bucket_width", "bucket_fps")
    return {
        "sample": encoded.sample,
        **{name: sample[name] for name in facts},
        "prompt": prompt,
        "latent_shape": list(encoded.latent_CTHW.shape),
        "latent": tensors.to_bytes(encoded.latent_CTHW),
        **{name: None if end is None else tensors.to_bytes(end) for name, end in ends.items()},
        "tokens": tensors.to_bytes(encoded.tokens_MD),
        "pooled": tensors.to_bytes(encoded.pooled_P),
        "by": by,
    }


def encoded_of(row: Mapping[str, Any], made: Encoders) -> Encoded:
    """The sample of a row of `ROWS`, of which `READ` is enough. UserError: its bytes do not fit its shapes."""
    channels, _, height, width = shape = row["latent_shape"]

    def end(name: str) -> Tensor | None:
        content = row[name]
        return None if content is None else tensors.from_bytes(content, (channels, 1, height, width), made.latent_type)

    return Encoded(
        row["sample"],
        tensors.from_bytes(row["latent"], shape, made.latent_type),
        end("head"),
        end("tail"),
        tensors.from_bytes(row["tokens"], made.tokens, made.text_type),
        tensors.from_bytes(row["pooled"], made.pooled, made.text_type),
    )
