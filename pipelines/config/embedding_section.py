"""`[[embeddings]]` of a recipe: each key with its type, its bounds, its default and what it means.

`recipe` holds the blocks, `pipelines.embedding.blocks` turns them into what a run and a search work with.
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from curation.spaces import MOST_WIDE, SPACES
from pipelines.config.tomlfile import Section, as_json

_KEYS = {
    "picture": (),
    "text": (),
    "open_clip": ("model", "weights", "width", "device", "dtype"),
    "custom": ("filter", "width", "version", "options", "what", "gpus"),
}
"""The keys of each kind, beside `name`, `kind` and `tier`."""
_NEEDED = {"open_clip": ("model", "weights", "width"), "custom": ("filter", "width")}
OURS = ("picture", "text")
"""Spaces that can be filled without a block, by a kind of the same name."""


class EmbeddingsSection(Section):
    """Vectors of clips, by which they are searched; a table for each space (docs/search.md)."""

    name: str = Field(pattern=r"^[a-z][a-z0-9_]{0,31}$")
    """What the space is called: small letters, digits, `_`; up to 32."""
    kind: Literal["picture", "text", "open_clip", "custom"]
    """`picture`: outlines and colours; `text`: captions; `open_clip`: a model of it; `custom`: a class of your own."""
    tier: str | None = None
    """Only clips of this tier; without it all."""
    model: str = ""
    """Of `open_clip`: the model, as it calls it."""
    weights: str | None = None
    """Of `open_clip`: path of a safetensors file in its layout."""
    width: int | None = Field(default=None, ge=1, le=MOST_WIDE)
    """Of `open_clip` and `custom`: numbers of a vector."""
    device: str = Field(default="cpu", pattern=r"^(cpu|cuda(:\d+)?)$")
    """Of `open_clip`: `cpu`, `cuda` or `cuda:N`."""
    dtype: Literal["fp32", "bf16"] = "fp32"
    """Of `open_clip`: what it computes in."""
    filter: str = ""
    """Of `custom`: `package.module:Class`, or the name of an entry point in the group `ziggurat.filters`."""
    version: int = Field(default=1, ge=0)
    """Of `custom`: raise it where the class has changed; its vectors are then made again."""
    options: dict[str, Any] = Field(default_factory=dict)
    """Of `custom`: what the class is called with."""
    what: str = Field(default="", max_length=200)
    """Of `custom`: what its vectors are of, for people."""
    gpus: float = Field(default=0.0, ge=0, le=64)
    """Of `custom`: GPUs, or a share of one, that a worker of it holds."""

    @field_validator("options")
    @classmethod
    def _plain(cls, value: dict[str, Any]) -> dict[str, Any]:
        return as_json(value)

    @model_validator(mode="after")
    def _fits(self) -> EmbeddingsSection:
        if self.name in [space.name for space in SPACES]:
            raise ValueError(f"name = {self.name!r}: the aesthetic filter fills that space; choose another name")
        if self.name in OURS and self.kind != self.name:
            raise ValueError(f"name = {self.name!r} is of kind {self.name!r} alone; choose another name")
        allowed = ("name", "kind", "tier", *_KEYS[self.kind])
        if strange := next((key for key in sorted(self.model_fields_set) if key not in allowed), None):
            raise ValueError(f"{strange} is no key of kind {self.kind!r}, which has {', '.join(allowed)}")
        if lacking := next((key for key in _NEEDED.get(self.kind, ()) if not getattr(self, key)), None):
            raise ValueError(f"kind {self.kind!r} needs {lacking}")
        return self
