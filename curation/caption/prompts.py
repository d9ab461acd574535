"""What a model is asked about a clip: a prompt, and the requests that it makes.

A prompt has one of two ways. With `aspects` the model is first asked for each of them by a JSON schema, then, without
the pictures, to fuse its answers into a dense and a short caption: models see more of the camera and invent less so.
Without aspects it is asked for the caption in one go. `pipelines.config.promptfile` reads prompts from TOML files;
`composing` sends the requests and reads the answers.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from curation.caption.base import Asked

DENSE, SHORT = "dense", "short"
"""The fields of a fused answer."""


@dataclass(frozen=True, slots=True)
class Aspect:
    """One thing that is asked about a clip: the field's name and what it shall hold."""

    name: str
    ask: str


@dataclass(frozen=True, slots=True)
class Prompt:
    """A prompt. `system`: of every request, "" for none. `ask`: of the request that has the pictures. `aspects`: its
    fields, in this order; `fuse`: of the second request. `length`, `motion`: sentences for measured values, which stand
    where they say `{value}`.
    """

    name: str
    version: int
    ask: str
    system: str = ""
    aspects: tuple[Aspect, ...] = ()
    fuse: str = ""
    length: str = ""
    motion: str = ""

    def cues(self, length_s: float | None, motion: float | None) -> tuple[str, ...]:
        """The sentences for what was measured of a clip; an image has neither."""
        told = ((self.length, length_s), (self.motion, motion))
        return tuple(text.replace("{value}", f"{value:.1f}") for text, value in told if text and value is not None)

    def settings(self) -> dict[str, Any]:
        """All that a prompt says, for the fingerprint."""
        return {key: value for key, value in asdict(self).items() if key != "name"}


@dataclass(frozen=True, slots=True)
class Request:
    """One request to a model. `schema`: of the JSON object that it shall answer with, None for plain text. `again`: how
    often it was asked before, in vain.
    """

    text: str
    system: str = ""
    pictures: tuple[bytes, ...] = ()
    schema: Mapping[str, Any] | None = None
    again: int = 0


def first(prompt: Prompt, asked: Asked) -> Request:
    """The request with the pictures: for the aspects, or for the caption itself."""
    text = "\n".join((prompt.ask.strip(), *asked.cues))
    schema = schema_of({aspect.name: aspect.ask for aspect in prompt.aspects}) if prompt.aspects else None
    return Request(text, prompt.system, asked.pictures, schema)


def second(prompt: Prompt, fields: Mapping[str, str]) -> Request:
    """The request that fuses what was said of the aspects, in their order."""
    said = json.dumps({aspect.name: fields[aspect.name] for aspect in prompt.aspects}, ensure_ascii=False, indent=1)
    schema = schema_of({DENSE: "the dense caption", SHORT: "the short caption, one sentence"})
    return Request(f"{prompt.fuse.strip()}\n{said}", prompt.system, schema=schema)


def schema_of(fields: Mapping[str, str]) -> dict[str, Any]:
    """A JSON schema of an object that has these fields, all of them texts, and no other."""
    properties = {name: {"type": "string", "description": what} for name, what in fields.items()}
    return {"type": "object", "properties": properties, "required": [*fields], "additionalProperties": False}
