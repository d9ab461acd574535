"""`[filters.ocr]` of a recipe: what can be said of the text filter, and what it needs.

The engine `rapidocr` is part of the core environment and brings the weights of both engines; `paddleocr` has an
environment of its own.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import Field, field_validator

from curation.errors import UserError
from curation.filters.base import SampleFilter
from curation.filters.ocr.base import (
    DETECTOR_FILE,
    READER_FILE,
    Engine,
    OcrParameters,
    shipped_models,
    text_area_fingerprint,
)
from curation.filters.section import Environment, FilterSection, FilterSpec, Need

MODELS = "PP-OCR"
PADDLE = "PaddleOCR environment"


class OcrSection(FilterSection):
    """Text detection (docs/filters.md)."""

    engine: Engine = "rapidocr"
    """`paddleocr` runs PaddleOCR in an environment of its own (`make env-paddle`)."""
    python: str | None = None
    """The interpreter of that environment."""
    confidence: float = Field(default=0.7, ge=0, lt=1)
    """The detector's score that a box must exceed."""
    reading: float | None = Field(default=0.7, ge=0, lt=1)
    """The recogniser's confidence above which a box of any shape counts; "none" trusts the detector alone."""
    characters: int = Field(default=3, ge=1, le=100)
    """The fewest that count as read."""
    line: float | None = Field(default=3.0, ge=1, le=1000)
    """How many times as long as high a box counts unread, or "none"."""
    low: float = Field(default=0.15, ge=0, le=1)
    """The largest short side, as a share of the frame's, at which one and a half times is enough; 0 for none."""
    gate: float = Field(default=0.5, ge=0, lt=1)
    """The detector's score that a box of a coarse look must exceed; `false` or 0 looks at every frame exactly."""
    gate_side: int = Field(default=384, ge=64, le=640)
    """Longer side of the coarse look, pixels."""

    @field_validator("reading", "line", mode="before")
    @classmethod
    def _none(cls, value: Any) -> Any:
        if isinstance(value, str) and value != "none":
            raise ValueError('a number or "none" is allowed')
        return None if value == "none" else value

    @field_validator("gate", mode="before")
    @classmethod
    def _no_gate(cls, value: Any) -> Any:
        if value is True or isinstance(value, str):
            raise ValueError("a number from 0 to below 1, or false, is allowed")
        return 0.0 if value is False else value

    @property
    def options(self) -> dict[str, Any]:
        """What differs from run to run of `OcrParameters`, as JSON can hold it."""
        return self.model_dump(include={"confidence", "reading", "characters", "line", "low", "gate", "gate_side"})

    @property
    def parameters(self) -> OcrParameters:
        return OcrParameters(**self.options)

    def spec(self) -> FilterSpec:
        """See `FilterSection.spec`."""
        if self.engine == "paddleocr" and self.python is None:
            raise UserError(
                "filters.ocr.engine = 'paddleocr' needs an environment of its own",
                "run `make env-paddle` and name its python in filters.ocr.python",
            )
        models = shipped_models()
        settings = {"engine": self.engine, "models": str(models), "parameters": self.options}
        by = text_area_fingerprint(self.engine, models, self.parameters)
        return FilterSpec(by, settings, python=self.python)

    @staticmethod
    def make(engine: Engine, models: str, parameters: Mapping[str, Any]) -> SampleFilter:
        """See `FilterSection.make`."""
        from curation.filters.ocr.table import text_area

        return text_area(engine, Path(models), OcrParameters(**parameters))

    def needs(self) -> tuple[Need, ...]:
        """See `FilterSection.needs`: the weights inside the package `rapidocr`."""
        try:
            folder = shipped_models()
        except UserError as error:
            return (Need(MODELS, False, error.cause, error.remedy),)
        there = all((folder / name).is_file() for name in (DETECTOR_FILE, READER_FILE))
        value = f"{DETECTOR_FILE}, {READER_FILE}" if there else f"files lacking in {folder}"
        return (Need(MODELS, there, value, "" if there else "pip install --force-reinstall rapidocr==3.10.0"),)

    def environment(self) -> Environment:
        """See `FilterSection.environment`."""
        return Environment(PADDLE, "paddle", ("paddleocr",), "make env-paddle", self.python)

    def required(self) -> frozenset[str]:
        """See `FilterSection.required`."""
        return frozenset({MODELS, PADDLE} if self.engine == "paddleocr" else {MODELS})
