"""Text area: how much of the frame is covered by text, for dropping clips with subtitles, titles and
watermarks.

It comes after the measuring pass and sees sample frames. The report (section 2.1, OCR) takes PaddleOCR's text
boxes with a confidence above 0.7 and their total area; here that is the area of their *union* as a share of
the frame, the largest of a clip's frames.

A box must pass twice: PP-OCR's detector scores it, and it has the shape of a line of text, or its recogniser
reads something there. Detection alone takes hands, clouds and whole people for text, with scores near 1
(measured: docs/filters.md); such boxes are squat and large, and read as nothing. Reading alone misses every
script that the recogniser does not know: it has Latin, Greek, Chinese and Japanese, and no Cyrillic, Arabic,
Hebrew, Thai, Korean, nor any of India's. Reading costs little, for most frames have no box at all.

Most clips have no text, so each frame is first looked at coarsely, by the same detector on a smaller picture, and
exactly where that sees what may be text or where another frame of the clip has text. So a clip's area is the one that
exact looks give, or 0.

Two engines run the same networks with the same parameters: `rapidocr`, whose package carries the weights,
here; and `paddleocr` in an environment of its own (see `ocr_paddle`). Neither touches the network.
"""

from __future__ import annotations

import dataclasses
import importlib.util
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

import cv2
import numpy as np

from curation.errors import UserError
from curation.filters.base import NO_SAMPLES, Measured, check_frame, weights_hash
from curation.identity import fingerprint

VERSION = 2
DETECTOR_FILE = "PP-OCRv6_det_small.onnx"
READER_FILE = "PP-OCRv6_rec_small.onnx"
SMALLEST_SIDE = 32
"""The detector's stride in pixels: a frame narrower than this has no cell of its own in the text map."""

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


class TextArea:
    """The filter: `text_area` in [0, 1], the share of a frame under text, the largest of a clip's frames."""

    name = "ocr"
    score = "text_area"

    def __init__(self, engine: TextEngine, parameters: OcrParameters, fingerprint: str) -> None:
        self._engine = engine
        self._parameters = parameters
        self.fingerprint = fingerprint

    def measure(self, clips: Sequence[Sequence[np.ndarray]]) -> list[Measured]:
        """See `base.SampleFilter`. Frames with a side under 32 pixels cannot be judged: None and why."""
        return [self._clip(frames) for frames in clips]

    def _clip(self, frames: Sequence[np.ndarray]) -> Measured:
        if not frames:
            return Measured(None, NO_SAMPLES)
        if min(min(frame.shape[:2]) for frame in frames) < SMALLEST_SIDE:
            return Measured(None, "frame too small to find text in")
        return Measured(self._largest(frames))

    def _largest(self, frames: Sequence[np.ndarray]) -> float:
        """The largest area of a clip's frames, or 0 where no coarse look shows text."""
        seen = [not self._parameters.gate or self._may_have_text(frame) for frame in frames]
        area = self._most(frame for frame, may in zip(frames, seen, strict=True) if may)
        rest = (frame for frame, may in zip(frames, seen, strict=True) if not may)
        return max(area, self._most(rest)) if area else 0.0

    def _most(self, frames: Iterable[np.ndarray]) -> float:
        return max(map(self.frame_area, frames), default=0.0)

    def _may_have_text(self, frame: np.ndarray) -> bool:
        check_frame(frame)
        return any(self._may_be_text(frame, box) for box in self._engine.glimpse(frame))

    def frame_area(self, frame: np.ndarray) -> float:
        """The share of one BGR frame that lies under text, 0 to 1, by an exact look."""
        check_frame(frame)
        boxes = [box for box in self._engine.boxes(frame) if self._is_text(frame, box)]
        return union_share(boxes, frame.shape[0], frame.shape[1])

    def _is_text(self, frame: np.ndarray, box: np.ndarray) -> bool:
        needed = self._parameters.reading
        return (
            needed is None
            or is_line(box, min(frame.shape[:2]), self._parameters)
            or self._reads(frame, box, needed, self._parameters.characters)
        )

    def _may_be_text(self, frame: np.ndarray, box: np.ndarray) -> bool:
        """As `_is_text`, of a box of a coarse look and with some slack: what is dismissed here is never seen again."""
        needed, low = self._parameters.reading, self._parameters.gate_low * min(frame.shape[:2])
        return (
            needed is None
            or min(sides(box)) <= low
            or is_line(box, min(frame.shape[:2]), self._parameters)
            or self._reads(frame, box, min(needed, self._parameters.gate_reading), 1)
        )

    def _reads(self, frame: np.ndarray, box: np.ndarray, confidence: float, characters: int) -> bool:
        text, sure = self._engine.read(crop_upright(frame, box))
        return sure > confidence and len("".join(text.split())) >= characters


def is_line(box: np.ndarray, side: int, parameters: OcrParameters) -> bool:
    """Whether a box (4, 2) has the shape of a line of text, in whatever direction it runs and script it is.

    `side`: the frame's shorter side in pixels. The box's own sides count, so that a slanted line is as long as
    an upright one.
    """
    width, height = sides(box)
    long, short = max(width, height), max(1.0, min(width, height))
    if parameters.line is not None and long >= parameters.line * short:
        return True
    return short <= parameters.low * side and long >= LOW_RATIO * short


def sides(box: np.ndarray) -> tuple[float, float]:
    """Width and height of a slanted box (4, 2) whose corners go round from top left: the longer of each two sides."""
    corners = np.asarray(box, np.float32)
    top, right, bottom, left = np.linalg.norm(corners - np.roll(corners, -1, axis=0), axis=1)
    return float(max(top, bottom)), float(max(right, left))


def union_share(boxes: Sequence[np.ndarray] | np.ndarray, height: int, width: int) -> float:
    """The share of a frame's pixels inside at least one convex box; corners (4, 2) may lie outside the frame.

    Counted on the pixel grid, corner pixels included. Boxes are painted one by one: OpenCV's fillPoly would
    paint them all at once by the even-odd rule, which leaves out where two overlap.
    """
    mask = np.zeros((height, width), np.uint8)
    for box in boxes:
        cv2.fillConvexPoly(mask, np.ascontiguousarray(box, dtype=np.int32), (1,))
    return cv2.countNonZero(mask) / mask.size


def crop_upright(frame: np.ndarray, box: np.ndarray) -> np.ndarray:
    """Cut a slanted box (4, 2) out of a frame as an upright picture; lines that run downwards are turned."""
    corners = np.asarray(box, np.float32)
    width, height = (max(1, round(side)) for side in sides(box))
    target = np.array([[0, 0], [width, 0], [width, height], [0, height]], np.float32)
    warp = cv2.getPerspectiveTransform(corners, target)
    crop = cv2.warpPerspective(frame, warp, (width, height), flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE)
    return cv2.rotate(crop, cv2.ROTATE_90_COUNTERCLOCKWISE) if height >= 1.5 * width else crop


class RapidEngine:
    """PP-OCR's detector on onnxruntime and its recogniser by RapidOCR. `models`: the folder with both ONNX files."""

    def __init__(self, models: Path, parameters: OcrParameters) -> None:
        from rapidocr import RapidOCR

        from curation.filters.ocr_detector import Detector

        self._parameters = parameters
        self._detector = Detector(
            models / DETECTOR_FILE, parameters.mean, parameters.std, parameters.pixel_threshold, parameters.unclip
        )
        self._engine = RapidOCR(
            params={
                # Its log goes to standard output and warns of every frame without text.
                "Global.log_level": "critical",
                "EngineConfig.onnxruntime.intra_op_num_threads": 1,
                "EngineConfig.onnxruntime.inter_op_num_threads": 1,
                # With an explicit path it neither looks for nor downloads a model.
                "Rec.model_path": str(models / READER_FILE),
            }
        )

    def boxes(self, frame: np.ndarray) -> np.ndarray:
        return self._detector.boxes(frame, self._parameters.side, self._parameters.box_threshold)

    def glimpse(self, frame: np.ndarray) -> np.ndarray:
        return self._detector.boxes(frame, self._parameters.gate_side, above(self._parameters.gate))

    def read(self, crop: np.ndarray) -> tuple[str, float]:
        found = self._engine(crop, use_det=False, use_cls=False, use_rec=True)
        texts, scores = getattr(found, "txts", None), getattr(found, "scores", None)
        return (str(texts[0]), float(scores[0])) if texts and scores else ("", 0.0)


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


def text_area(
    engine: Engine = "rapidocr", models: Path | None = None, parameters: OcrParameters = OcrParameters()
) -> TextArea:
    """Make the filter. `models`: the folder of ONNX files, by default that of this environment's `rapidocr`.

    Raises `UserError` where the engine's package or a model is not there.
    """
    models = models or shipped_models()
    identity = text_area_fingerprint(engine, models, parameters)
    if engine == "rapidocr":
        return TextArea(RapidEngine(models, parameters), parameters, identity)
    from curation.filters.ocr_paddle import PaddleEngine

    return TextArea(PaddleEngine(models, parameters), parameters, identity)
