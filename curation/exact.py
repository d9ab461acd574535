"""Tables that people write in TOML, checked as they stand: recipes, model files, the options of shot detectors.

TOML knows types, so a truth value or a text is no number and 1 is no truth value. Two things are taken for what they
mean: a whole number may be written as 15.0, and an array stands for a tuple.
"""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationInfo, field_validator


class Exact(BaseModel):
    """A table with the keys of its fields and no other, each of its own type."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, use_attribute_docstrings=True)

    @field_validator("*", mode="before")
    @classmethod
    def _meant(cls, value: Any, info: ValidationInfo) -> Any:
        kind = cls.model_fields[info.field_name or ""].annotation
        if kind in (int, int | None) and isinstance(value, float) and value.is_integer():
            return int(value)
        return tuple(value) if isinstance(value, list) else value
