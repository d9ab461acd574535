"""Reading a TOML file that people write: by path or by the name of one that ships, checked by pydantic.

A mistake is one `UserError` that names the key, the value and what is allowed. `recipe` and `modelfile` read with it.
"""

from __future__ import annotations

import json
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, TypeVar, get_args, get_origin

from pydantic import BaseModel, ConfigDict, Tag, ValidationError

from curation.errors import UserError
from curation.exact import Exact


class Section(Exact):
    """A table of such a file."""

    model_config = ConfigDict(allow_inf_nan=True)


_Model = TypeVar("_Model", bound=Section)


def as_json(value: dict[str, Any]) -> dict[str, Any]:
    """A table that JSON can hold, for a validator. ValueError: it cannot."""
    try:
        json.dumps(value)
    except TypeError:
        raise ValueError("numbers, texts, truth values, lists and tables are allowed, no dates") from None
    return value


def load(name_or_path: str, kind: type[_Model], shipped: Path, what: str, changes: Sequence[str] = ()) -> _Model:
    """A file by path, or by the name of one in `shipped`. `what` names the kind: "recipe", "model". `changes`: see
    `parsed`."""
    return parsed(text_of(name_or_path, shipped, what), name_or_path, kind, what, changes)


def text_of(name_or_path: str, shipped: Path, what: str) -> str:
    """The text of such a file."""
    path = Path(name_or_path)
    if not path.suffix and not path.exists():
        path = shipped / f"{name_or_path}.toml"
    try:
        return path.read_text()
    except FileNotFoundError:
        names = ", ".join(sorted(p.stem for p in shipped.glob("*.toml")))
        raise UserError(f"no {what} {name_or_path!r}", f"give a .toml file or one of {names}") from None
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"cannot read the {what} {path}: {error}", "give a readable .toml file") from None


def parsed(text: str, name: str, kind: type[_Model], what: str, changes: Sequence[str] = ()) -> _Model:
    """What the text of a file says; `name` is what a person knows the file by. `changes`: `table.key=value`, as typed
    on a command line: the value as in TOML, or a text without quotes."""
    try:
        read = tomllib.loads(text)
        for change in changes:
            _change(read, change)
        return kind.model_validate(read)
    except tomllib.TOMLDecodeError as error:
        raise UserError(f"{name} is not TOML: {error}", "mend that line") from None
    except ValidationError as error:
        raise UserError(f"{what} {Path(name).name}: {_first(error, kind, what)}", f"mend the {what}") from None


def _change(read: dict[str, Any], change: str) -> None:
    key, equals, value = change.partition("=")
    *tables, last = key.strip().split(".")
    if not equals or not last:
        raise UserError(f"--set {change} is no key=value", "write for example --set schedule.warmup=100")
    try:
        new = tomllib.loads(f"value = {value}")["value"]
    except tomllib.TOMLDecodeError:
        new = value.strip()
    table = read
    for name in tables:
        table = table.setdefault(name, {})
        if not isinstance(table, dict):
            raise UserError(f"--set {change}: {name} is no table", "name a key as it stands in the file")
    table[last] = new


def _first(error: ValidationError, kind: type[BaseModel], what: str) -> str:
    """The first finding as 'key = value: what is allowed'."""
    found = error.errors(include_url=False)[0]
    names, section = _place(kind, found["loc"])
    key = ".".join(names) or what
    message = found["msg"].removeprefix("Value error, ")
    if found["type"] == "extra_forbidden":
        return f"{key} = {found['input']!r}: no such key; allowed are {', '.join(section.model_fields)}"
    if found["type"] == "value_error" and not isinstance(found["input"], str | int | float):
        return f"{key}: {message}"
    if found["type"] == CHOICE:
        return f"{key}.{message}"
    if found["type"] == "missing":
        return f"{key}: this key is needed"
    return f"{key} = {found['input']!r}: {message[0].lower()}{message[1:]}"


CHOICE = "choice"
"""The type of the error where a key of a table chooses among sections, and there is none for its value."""


def _place(kind: type[BaseModel], path: tuple[int | str, ...]) -> tuple[list[str], type[BaseModel]]:
    """The keys of a path as they stand in the file, and the innermost section on it. Where a table is one of several
    sections, pydantic has the chosen one's tag in the path.
    """
    names: list[str] = []
    section, choices = kind, dict[str, type[BaseModel]]()
    for part in path:
        if part in choices:
            section, choices = choices[str(part)], {}
            continue
        names.append(str(part))
        if isinstance(part, str) and (field := section.model_fields.get(part)) is not None:
            choices = sections(field.annotation)
            section = choices.get("", section)
    return names, section


def sections(annotation: Any) -> dict[str, type[BaseModel]]:
    """The sections that a key of this type holds, one or a list: by their tags where there is a choice, else by ""."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return {"": annotation}
    if get_origin(annotation) is Annotated:
        inner, *notes = get_args(annotation)
        tag = next((note.tag for note in notes if isinstance(note, Tag)), None)
        return sections(inner) if tag is None else {tag: inner}
    found: dict[str, type[BaseModel]] = {}
    for one in get_args(annotation):
        found |= sections(one)
    return found
