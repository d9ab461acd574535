"""TOML knows types: whatever file and table a key is in, it takes values of its own type alone."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import get_args

import pytest
from pydantic import BaseModel

from curation.errors import UserError
from curation.media.shots.options import OPTIONS
from pipelines.config.modelfile import ModelFile
from pipelines.config.recipe import Recipe
from pipelines.config.tomlfile import Section, parsed

OF_OTHER_TYPES = {"true": "bool", "false": "bool", '"1"': "str", "1": "number", "1.5": "number", "[1, 2]": "tuple"}
NEEDED = {
    Recipe: {"name": '"x"'},
    ModelFile: {"name": '"x"', "denoiser.preset": '"tiny"', "autoencoder.kind": '"dcae"'},
}
IN_A_TABLE = {
    "filters.custom": {"name": '"logo"', "filter": '"a:B"'},
    "captions": {"name": '"dense"', "tier": '"all"', "model": '"m"', "endpoint": '"http://h/v1"'},
    "embeddings": {"name": '"looks"', "kind": '"picture"'},
}
SPECIAL = {("filters.ocr.gate", "false")}
"""A number that is switched off so."""


def keys(kind: type[BaseModel], *path: str) -> Iterator[tuple[str, str]]:
    """Every key that is no table, by its path, and its annotation."""
    for name, field in kind.model_fields.items():
        (inner, *_) = get_args(field.annotation) or (field.annotation,)
        if isinstance(inner, type) and issubclass(inner, BaseModel):
            yield from keys(inner, *path, *([f"{name}.0"] if inner is not field.annotation else [name]))
        else:
            yield ".".join([*path, name]), str(field.annotation)


def types(annotation: str) -> set[str]:
    """The types that an annotation takes, as `OF_OTHER_TYPES` names them."""
    if "tuple[" in annotation or "dict[" in annotation:
        return {"tuple"} if "tuple[" in annotation else set()
    words = {"bool": ("bool",), "str": ("str", "Path", "Literal"), "number": ("int", "float")}
    return {name for name, some in words.items() if any(word in annotation for word in some)}


CASES = [
    (kind, key, value)
    for kind in (Recipe, ModelFile)
    for key, annotation in keys(kind)
    for value, of in OF_OTHER_TYPES.items()
    if of not in types(annotation) and (key, value) not in SPECIAL
]


@pytest.mark.parametrize(("kind", "key", "value"), CASES)
def test_a_value_of_another_type_is_refused(kind: type[Section], key: str, value: str) -> None:
    needed = "".join(f"{name} = {given}\n" for name, given in NEEDED[kind].items() if name != key)
    table, zero, inner = key.partition(".0.")
    if zero:
        given = "".join(f"{name} = {given}\n" for name, given in IN_A_TABLE[table].items() if name != inner)
        needed, key_ = f"{needed}[[{table}]]\n{given}", inner
    else:
        key_ = key
    with pytest.raises(UserError, match=rf"recipe x\.toml: {re.escape(key)}\b"):
        parsed(f"{needed}{key_} = {value}", "x.toml", kind, "recipe")


def test_every_key_has_values_of_another_type() -> None:
    assert {key for _, key, _ in CASES} == {key for kind in (Recipe, ModelFile) for key, _ in keys(kind)}


@pytest.mark.parametrize(
    ("detector", "key"), [(name, key) for name, kind in OPTIONS.items() for key in kind.model_fields]
)
@pytest.mark.parametrize("value", ["true", '"1"', "[1]"])
def test_an_option_of_a_detector_is_a_number(detector: str, key: str, value: str) -> None:
    text = f'name = "x"\n[shots]\ndetector = "{detector}"\noptions = {{ {key} = {value} }}'
    with pytest.raises(UserError, match=f"{key} = .*input should be a valid (number|integer)"):
        parsed(text, "x.toml", Recipe, "recipe")
