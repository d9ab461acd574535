"""docs/recipe.md: every key of a recipe, from the code that reads it.

    python -m pipelines.config.reference > docs/recipe.md

A test compares the two, so the page says what holds.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from curation.media.shots.options import OPTIONS
from curation.pyramid.tiering.tiers import MEASURES, SCORES
from pipelines.config.recipe import Recipe
from pipelines.config.tomlfile import sections

_HEAD = """# Recipes: every key

A recipe is a TOML file; `ziggurat curate --recipe FILE`, or the name of one that ships (`small`, `opensora2`). All keys
but `name` may be left out. A wrong one is told with what is allowed, before anything starts. A pyramid keeps the recipe
that it was made with ([pyramid](pyramid.md)). Written by `python -m pipelines.config.reference`.
"""
_TIERS = """
## [[tiers]]

The steps of the pyramid, loose to strict; each includes the ranges of those before it.

| key | type | meaning |
|---|---|---|
| `name` | text | up to 32 letters, digits, `_`, `.`, `-` |
| {columns} | [lowest, highest] | the range of a score or a measure; `-inf` and `inf` for an open end |
| a score of `[[filters.custom]]` | [lowest, highest] | the same |
| `likeness`, `crowding` | [lowest, highest] | of a clip among others ([copies](duplicates.md), [kinds](clusters.md)) |
| `kind` | "video", "image" | only clips of this kind; both without it |

`motion`, `jitter`, `fps` and `duration_s` say nothing of images, which have none.
"""


def page() -> str:
    """The whole page."""
    return "\n".join([_HEAD, *_section("", Recipe), *_detectors()]) + _TIERS.format(
        columns=", ".join(f"`{name}`" for name in (*SCORES, *MEASURES))
    )


def _section(name: str, kind: type[BaseModel]) -> Iterator[str]:
    """A table of its keys, then those of the sections in it."""
    inner = {key: field for key, field in kind.model_fields.items() if _is_section(field)}
    own = {key: field for key, field in kind.model_fields.items() if key not in inner and key != "tiers"}
    if name:
        yield f"## [{name}]\n\n{_sentence(kind.__doc__)}\n"
    yield from _table({key: field for key, field in own.items() if _rows(field) is None})
    if name:
        yield from _lists(f"{name}.", own)
    for key, field in inner.items():
        assert isinstance(field.annotation, type)
        yield from _section(f"{name}.{key}" if name else key, field.annotation)
    if not name:
        yield from _lists("", own)


def _lists(prefix: str, fields: Mapping[str, FieldInfo]) -> Iterator[str]:
    """The tables that a recipe may have several of."""
    for key, field in fields.items():
        if (rows := _rows(field)) is None:
            continue
        name, first = f"{prefix}{key}", next(iter(rows.values()))
        common = first if len(rows) == 1 else first.__mro__[1]  # of a choice, what all of them have
        yield f"## [[{name}]]\n\n{_sentence(common.__doc__)}\n"
        yield from _table(common.model_fields)
        for tag, row in rows.items() if len(rows) > 1 else ():
            yield f'## [[{name}]], engine = "{tag}"\n\n{_sentence(row.__doc__)}\n'
            yield from _table(_beside(row, common))
            for inner, of_inner in _beside(row, common).items():
                if _is_section(of_inner):
                    yield f"## [{name}.{inner}]\n\n{_sentence(getattr(of_inner.annotation, '__doc__', ''))}\n"
                    yield from _table(getattr(of_inner.annotation, "model_fields", {}))


def _beside(row: type[BaseModel], common: type[BaseModel]) -> dict[str, FieldInfo]:
    """The keys that a section has beside the common ones, or has otherwise."""
    same = {key: (field.default, field.description) for key, field in common.model_fields.items()}
    return {
        key: field
        for key, field in row.model_fields.items()
        if key not in same or (key != "engine" and (field.default, field.description) != same[key])
    }


def _detectors() -> Iterator[str]:
    """The options of each shot detector."""
    for name, kind in OPTIONS.items():
        if kind.model_fields:
            yield f'## [shots.options], detector = "{name}"\n'
            yield from _table(kind.model_fields)


def _table(fields: Mapping[str, FieldInfo]) -> Iterator[str]:
    yield "| key | type | default | meaning |\n|---|---|---|---|"
    for key, field in fields.items():
        default = "needed" if field.is_required() else _shown(field.get_default(call_default_factory=True))
        yield f"| `{key}` | {_type(field)} | {default} | {field.description or ''} |"
    yield ""


def _type(field: FieldInfo) -> str:
    """What is allowed: a kind of value, and its bounds."""
    options = [one for one in _options(field.annotation) if one is not NoneType]
    if all(get_origin(one) is Literal for one in options):
        return ", ".join(f'"{value}"' for one in options for value in get_args(one))
    if any(isinstance(one, type) and issubclass(one, BaseModel) for one in options):
        return "table"
    names = {float: "number", int: "integer", str: "text", bool: "true, false", dict: "table"}
    found = [names.get(get_origin(one) or one, "list") for one in options]
    return " or ".join([*found]) + _bounds(field)


def _options(annotation: Any) -> tuple[Any, ...]:
    return get_args(annotation) if get_origin(annotation) in (Union, UnionType) else (annotation,)


def _bounds(field: FieldInfo) -> str:
    signs = {"ge": "from {}", "gt": "above {}", "le": "to {}", "lt": "below {}"}
    found = [
        text.format(_shown(value))
        for one in field.metadata
        for sign, text in signs.items()
        if (value := getattr(one, sign, None)) is not None
    ]
    return f", {' '.join(found)}" if found else ""


def _shown(value: Any) -> str:
    """A value as TOML has it."""
    if value is None or value == {} or isinstance(value, BaseModel):
        return "none"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        return f'"{value}"'
    if isinstance(value, tuple):
        return f"[{', '.join(map(_shown, value))}]"
    return str(value) if isinstance(value, int) or not math.isfinite(value) else f"{value:.6g}"


def _is_section(field: FieldInfo) -> bool:
    return isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel)


def _rows(field: FieldInfo) -> dict[str, type[BaseModel]] | None:
    """The sections of which the key is a list: one, or by its tag each of those that a key chooses among."""
    return None if _is_section(field) else sections(field.annotation) or None


def _sentence(text: str | None) -> str:
    return " ".join((text or "").split())


if __name__ == "__main__":
    print(page(), end="")
