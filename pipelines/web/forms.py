"""Forms drawn of the types by which REST checks a request, so that the page asks for the same and no more.

a type -> [fields] -> a form -> [read] -> a request as JSON would have it -> the type
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from pydantic import BaseModel, ValidationError

Kind = Literal["text", "number", "check", "lines", "pairs", "choice"]
_KINDS: Mapping[str, Kind] = {"integer": "number", "boolean": "check", "array": "lines", "object": "pairs"}


@dataclass(frozen=True, slots=True)
class Field:
    """An argument. `value`: as it was filled in; `told`: what is to be known of it; `options`: of a choice."""

    name: str
    kind: Kind
    value: str
    told: str
    required: bool
    options: tuple[str, ...] = ()


def fields(kind: type[BaseModel], given: Mapping[str, str], choices: Mapping[str, Sequence[str]]) -> list[Field]:
    """The arguments of a request but for `command`. `given`: what was filled in; `choices`: what there is, by name."""
    schema = kind.model_json_schema()
    found: list[Field] = []
    for name, one in schema["properties"].items():
        if name == "command":
            continue
        said = _said(schema, one)
        options = tuple(said.get("enum", choices.get(name, ())))
        shown: Kind = "choice" if options else _KINDS.get(said["type"], "text")
        default = one.get("default")
        value = given.get(name, default if isinstance(default, str) else "")
        found.append(Field(name, shown, value, one.get("description", ""), name in schema.get("required", ()), options))
    return found


def read(kind: type[BaseModel], form: Mapping[str, str]) -> dict[str, Any]:
    """What a form says, as JSON would have it; what is left empty is left out."""
    found: dict[str, Any] = {}
    for one in fields(kind, form, {}):
        text = form.get(one.name, "")
        lines = [line.strip() for line in text.splitlines() if line.strip()]
        if one.kind == "check":
            found[one.name] = one.name in form
        elif one.kind == "lines" and lines:
            found[one.name] = lines
        elif one.kind == "pairs" and lines:
            found[one.name] = {name.strip(): value.strip() for name, _, value in (one.partition("=") for one in lines)}
        elif text.strip():
            found[one.name] = text.strip()
    return found


def first(error: ValidationError) -> str:
    """What is wrong, with the field that it is about."""
    found = error.errors(include_url=False)[0]
    return f"{'.'.join(map(str, found['loc']))}: {found['msg']}"


def _said(schema: Mapping[str, Any], one: Mapping[str, Any]) -> Mapping[str, Any]:
    """The type of an argument where it is given."""
    kinds = [kind for kind in one.get("anyOf", [one]) if kind.get("type") != "null"]
    if (named := kinds[0].get("$ref")) is not None:
        return schema["$defs"][named.rpartition("/")[2]]
    return kinds[0]
