"""Decoding one image file from memory. Runs inside the sandbox; `Sandbox.pictures` is the way in.

Used for stored sample frames and for reference images. OpenCV refuses a size above the child's limit before it makes
pixels (`child._load` tells it).
"""

from __future__ import annotations

import cv2
import numpy as np


def picture(content: bytes) -> np.ndarray | None:
    """The picture (height, width, 3) uint8, BGR; None for what is no image that OpenCV reads, or is too large."""
    try:
        return cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR) if content else None
    except cv2.error as error:
        if error.code == cv2.Error.StsNoMem:
            raise MemoryError from error
        return None
