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
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import cv2
import numpy as np

from curation.filters.base import NO_SAMPLES, ScoreValue, check_frame
from curation.filters.ocr.base import LOW_RATIO, OcrParameters, TextEngine

SMALLEST_SIDE = 32
"""The detector's stride in pixels: a frame narrower than this has no cell of its own in the text map."""


class TextArea:
    """The filter: `text_area` in [0, 1], the share of a frame under text, the largest of a clip's frames."""

    name = "ocr"
    scores = ("text_area",)

    def __init__(self, engine: TextEngine, parameters: OcrParameters, fingerprint: str) -> None:
        self._engine = engine
        self._parameters = parameters
        self.fingerprint = fingerprint

    def measure(self, clips: Sequence[Sequence[np.ndarray]]) -> list[ScoreValue]:
        """See `base.SampleFilter`. Frames with a side under 32 pixels cannot be judged: None and why."""
        return [self._clip(frames) for frames in clips]

    def _clip(self, frames: Sequence[np.ndarray]) -> ScoreValue:
        if not frames:
            return ScoreValue(None, NO_SAMPLES)
        if min(min(frame.shape[:2]) for frame in frames) < SMALLEST_SIDE:
            return ScoreValue(None, "frame too small to find text in")
        return ScoreValue(self._largest(frames))

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
