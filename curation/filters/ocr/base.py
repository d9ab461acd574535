"""What the engines of the text filter share: its parameters, what an engine can do, and where its weights are.

`text_area` is the filter; `rapid` and `paddle` are the engines, `table` makes the filter with one of them.
"""

from __future__ import annotations

import dataclasses
import importlib.util
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np

from curation.errors import UserError
from curation.filters.base import weights_hash
from curation.identity import fingerprint

VERSION = 2
DETECTOR_FILE = "PP-OCRv6_det_small.onnx"
READER_FILE = "PP-OCRv6_rec_small.onnx"
LOW_RATIO = 1.5
"""How many times as long as high a low box must be: half of a short word is no longer than it is high."""

Engine = Literal["rapidocr", "paddleocr"]


@dataclass(frozen=True, slots=True)
class OcrParameters:
    """What both engines run with; where nothing else is said, PaddleOCR's own values for PP-OCR.

    `confidence`: boxes must score above it (report: 0.7). `reading`: a box counts where what is read in it
    scores above this; None trusts the detector alone. `characters`: the fewest that count as read (one or two
    are what noise reads as, sometimes with confidence).

    `line`: a box counts unread where its long side is at least so many times its short one; None lets no box
    count for that. `low`: and where it is longer than high (`LOW_RATIO`) and its short side at most this share
    of the frame's shorter side; 0 for none.

    `gate`: a coarse look finds boxes that score above it; 0 for no coarse look, every frame is looked at exactly.
    `gate_side`: the longer side of the coarse look, pixels. Its boxes count where they have the shape of a line, where
    their short side is at most `gate_low` of the frame's shorter side, or where anything is read in them with a
    confidence above `gate_reading`: the others are people and clouds.

    `side`: the longer side given to the detector, pixels; larger frames are reduced, smaller ones stay.
    `pixel_threshold`: text probability of a pixel. `unclip`: by how much the shrunken text core is grown back.
    `mean`, `std`: of values in [0, 1], applied to the channels in BGR order (RapidOCR's default of 0.5 finds
    far more text where none is).
    """

    confidence: float = 0.7
    reading: float | None = 0.7
    characters: int = 3
    line: float | None = 3.0
    low: float = 0.15
    gate: float = 0.5
    gate_side: int = 384
    gate_low: float = 0.3
    gate_reading: float = 0.5
    side: int = 640
    pixel_threshold: float = 0.3
    unclip: float = 1.5
    mean: tuple[float, float, float] = (0.485, 0.456, 0.406)
    std: tuple[float, float, float] = (0.229, 0.224, 0.225)

    @property
    def box_threshold(self) -> float:
        """The least score that is *above* `confidence`: both engines keep scores equal to their threshold."""
        return above(self.confidence)

    def described(self) -> dict[str, Any]:
        """What values depend on, for the fingerprint: without the gate where there is none."""
        every = dataclasses.asdict(self)
        return every if self.gate else {name: value for name, value in every.items() if not name.startswith("gate")}


def above(score: float) -> float:
    """The least score that is more than this one, for detectors that keep what equals their threshold."""
    return math.nextafter(score, 1.0)


class TextEngine(Protocol):
    """What finds and reads text; one frame or crop at a time, on one CPU thread."""

    def boxes(self, frame: np.ndarray) -> np.ndarray:
        """Boxes scoring above the confidence in a BGR frame: int32 (n, 4, 2), (x, y) from top left on."""
        ...

    def glimpse(self, frame: np.ndarray) -> np.ndarray:
        """As `boxes`, by a coarse look: boxes scoring above the gate. Not asked where there is no gate."""
        ...

    def read(self, crop: np.ndarray) -> tuple[str, float]:
        """The text in an upright BGR crop of one box, and its confidence in [0, 1]."""
        ...


def shipped_models() -> Path:
    """The folder of PP-OCR's weights inside the `rapidocr` package here, found without importing it."""
    spec = importlib.util.find_spec("rapidocr")
    if spec is None or not spec.submodule_search_locations:
        raise UserError("the package rapidocr is not installed", "pip install rapidocr==3.10.0")
    return Path(spec.submodule_search_locations[0]) / "models"


def text_area_fingerprint(engine: Engine, models: Path, parameters: OcrParameters = OcrParameters()) -> str:
    """The filter's fingerprint without loading an engine: a driver needs it for stages elsewhere."""
    files = [DETECTOR_FILE] if parameters.reading is None else [DETECTOR_FILE, READER_FILE]
    missing = [name for name in files if not (models / name).is_file()]
    if missing:
        raise UserError(f"no {missing[0]} in {models}", "give the folder `models` of rapidocr==3.10.0")
    made_by = {"engine": engine, "models": [weights_hash(models / name) for name in files]}
    return fingerprint("text_area", VERSION, made_by | parameters.described())
