"""Spaces of vectors: in each, clips that are alike lie close, and only vectors of one space and one maker are compared.

A part of the contract. `clip` is there in every pyramid, for a filter of ours fills it on its way; the others are a
pyramid's own, from `[[embeddings]]` of its recipe, and stand in `pyramid.json` with what they are. A space is a dataset
`embeddings/NAME`; where a clip has no vector, `unembedded` says why.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass

import pyarrow as pa


@dataclass(frozen=True, slots=True)
class Space:
    """A space: its name, the width of its vectors, and for people what they are of. `of_caption`: they are made of the
    clip's caption, and stale once it has another.
    """

    name: str
    width: int
    what: str
    of_caption: bool = False


CLIP_SPACE = Space("clip", 768, "the middle sample frame in OpenAI's CLIP ViT-L/14, unit length")
SPACES = (CLIP_SPACE,)
"""The spaces of every pyramid."""

MOST_WIDE = 8192
"""Numbers of a vector at most."""
_NAME = re.compile(r"[a-z][a-z0-9_]{0,31}")


def is_space_name(name: str) -> bool:
    """Whether a space may be called so: it becomes the name of a folder."""
    return bool(_NAME.fullmatch(name))


UNEMBEDDED = pa.schema(
    [
        pa.field("clip_id", pa.string(), nullable=False),
        pa.field("space", pa.string(), nullable=False),
        pa.field("by", pa.string(), nullable=False),
        pa.field("of", pa.string()),
        pa.field("why", pa.string(), nullable=False),
    ]
)
"""Why a maker gave a clip no vector in a space; a vector is a row of `embeddings/SPACE`, and never stands for an error.
There in a pyramid with spaces of its own. `of`: as in `embeddings_schema`."""


def embeddings_schema(space: Space) -> pa.Schema:
    """The columns of the dataset that holds a space: rows are appended. `by`: how a vector was made; only vectors of
    one maker can be compared. `of`, where a space is of captions: the `mark` of the one that a vector was made of.
    """
    fields = [pa.field(name, pa.string(), nullable=False) for name in ("clip_id", "space", "by")]
    of = [pa.field("of", pa.string(), nullable=False)] if space.of_caption else []
    vector = pa.field("vector", pa.list_(pa.float16(), space.width), nullable=False)
    return pa.schema([*fields, *of, vector], metadata={"what": space.what})


def mark(caption: str) -> str:
    """What a caption is known by beside the vector that was made of it."""
    return hashlib.sha256(caption.encode("utf-8", "surrogatepass")).hexdigest()[:16]
