"""Drawing on a pixel array: fills, pictures fitted into a box, and text in OpenCV's built-in typeface.

`layout` draws contact sheets with it. OpenCV 5 carries a variable TrueType face with a fallback for most of the
world's scripts, so no font of the machine and no other imaging package is needed.
"""

from __future__ import annotations

import functools
from typing import Literal

import cv2
import numpy as np

Colour = tuple[int, int, int]
"""Blue, green, red: OpenCV's order."""

Align = Literal["left", "right", "middle"]
_ELLIPSIS = "…"


def colour(rgb: str) -> Colour:
    """From "rrggbb"."""
    red, green, blue = bytes.fromhex(rgb)
    return blue, green, red


@functools.cache
def _face() -> cv2.FontFace:
    return cv2.FontFace("sans")


@functools.lru_cache(maxsize=4096)
def text_width(text: str, size: int, weight: int = 400) -> int:
    """Pixels that a line takes."""
    # The box does not count a space at its end; text that goes on after it wants the pen's way.
    box = cv2.getTextSize((0, 0), text, (0, 0), _face(), size, weight)
    return int(box[0] + box[2])


def shortened(text: str, width: int, size: int, weight: int = 400, keep_end: bool = False) -> str:
    """`text` cut to `width` pixels: at its end, or in the middle where the end says most (a file name's suffix)."""
    whole = text_width(text, size, weight)
    if whole <= width:
        return text
    for left in range(min(len(text) - 1, len(text) * width // whole + 1), 0, -1):
        tail = left // 2 if keep_end else 0
        cut = text[: left - tail].rstrip() + _ELLIPSIS + (text[-tail:] if tail else "")
        if text_width(cut, size, weight) <= width:
            return cut
    return _ELLIPSIS


def printable(text: str) -> str:
    """Text that cannot break a line or draw nothing: other people choose the names of files."""
    return "".join(letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in text)


class Canvas:
    """An opaque picture (height, width, 3). Positions are pixels from the top left; text stands on a baseline."""

    def __init__(self, width: int, height: int, background: Colour) -> None:
        self.pixels = np.full((height, width, 3), background, np.uint8)

    @property
    def width(self) -> int:
        return self.pixels.shape[1]

    def fill(self, x: int, y: int, width: int, height: int, ink: Colour) -> None:
        self.pixels[max(0, y) : y + height, max(0, x) : x + width] = ink

    def text(
        self,
        x: int,
        y: int,
        text: str,
        size: int,
        ink: Colour,
        weight: int = 400,
        align: Align = "left",
    ) -> int:
        """Draw a line from, up to or around `x`; returns where it ends."""
        width = text_width(text, size, weight)
        x -= {"left": 0, "middle": width // 2, "right": width}[align]
        # Only the rows around the line: OpenCV would look at the whole of a large picture for each word.
        top = max(0, y - 2 * size)
        strip = self.pixels[top : y + size]
        cv2.putText(strip, text, (x, y - top), ink, _face(), size, weight)
        return x + width

    def picture(self, x: int, y: int, width: int, height: int, image: np.ndarray) -> None:
        """Fit a BGR picture into a box without distorting it, in the middle."""
        scale = min(width / image.shape[1], height / image.shape[0])
        size = max(1, round(image.shape[1] * scale)), max(1, round(image.shape[0] * scale))
        method = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
        fitted = cv2.resize(image, size, interpolation=method)
        left, top = x + (width - size[0]) // 2, y + (height - size[1]) // 2
        self.pixels[top : top + size[1], left : left + size[0]] = fitted

    def png(self) -> bytes:
        """The picture as a PNG file."""
        done, data = cv2.imencode(".png", self.pixels, [cv2.IMWRITE_PNG_COMPRESSION, 6])
        assert done, "OpenCV writes PNG"
        return data.tobytes()


def decoded(jpeg: bytes) -> np.ndarray | None:
    """A stored sample frame as BGR pixels; None where the bytes are no picture."""
    if not jpeg:
        return None
    return cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR)
