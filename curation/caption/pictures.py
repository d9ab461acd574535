"""The pictures of a clip that a model sees: some of its stored sample frames, at a bounded size.

The size is always set here and never left to the server: at native resolution a request costs many times the tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

import cv2
import numpy as np

_QUALITY = 90

_T = TypeVar("_T")


def chosen(frames: Sequence[_T], count: int) -> tuple[_T, ...]:
    """`count` of a clip's sample frames (first, middle, last), spread over the clip; the middle one where it is 1."""
    if count >= len(frames):
        return tuple(frames)
    if count == 1:
        return (frames[len(frames) // 2],)
    return tuple(frames[round(step * (len(frames) - 1) / (count - 1))] for step in range(count))


def reduced(picture: np.ndarray, side: int) -> bytes:
    """A picture (height, width, 3) uint8, BGR, as a JPEG file with at most `side` pixels on its longer side."""
    height, width = picture.shape[:2]
    if (longer := max(height, width)) > side:
        size = (max(1, round(width * side / longer)), max(1, round(height * side / longer)))
        picture = cv2.resize(picture, size, interpolation=cv2.INTER_AREA)
    done, content = cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, _QUALITY])
    assert done, "OpenCV encodes any picture as JPEG"
    return content.tobytes()
