"""Decoding from memory to pixels: image files, and clips that the sandbox cut. Runs inside the sandbox.

`Sandbox.pictures` and `Sandbox.frames` are the ways in: for stored sample frames and for references of sampling. OpenCV
refuses a size above the child's limit before it makes pixels (`child._load` tells it).
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from itertools import islice

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


def frames(content: bytes, first: int, count: int) -> Iterator[np.ndarray]:
    """Frames `first` to `first + count` of an MP4 file, (height, width, 3) uint8, BGR; fewer where it ends sooner."""
    import av

    with av.open(io.BytesIO(content), "r", format="mp4") as container:
        for frame in islice(container.decode(video=0), first, first + count):
            yield frame.to_ndarray(format="bgr24")
