"""Decoding from memory to pixels: image files, and clips that the sandbox cut. Runs inside the sandbox.

`Sandbox.pictures`, `Sandbox.frames` and `Sandbox.fitted` are the ways in: for stored sample frames, for references of
sampling, and for what a network is to read of a clip. OpenCV refuses a size above the child's limit before it makes
pixels (`child._load` tells it).
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


def fitted(content: bytes, is_image: bool, interval: int, count: int, height: int, width: int) -> Iterator[np.ndarray]:
    """Every `interval`th frame of a stored clip, `count` of them, as `filling` makes them; fewer where it ends sooner.

    The first one counts; an image has one.
    """
    if is_image:
        found = picture(content)
        shown = [] if found is None else [found]
    else:
        shown = islice(frames(content, 0, interval * (count - 1) + 1), 0, None, interval)
    for bgr in shown:
        yield cv2.cvtColor(filling(bgr, height, width), cv2.COLOR_BGR2RGB)


def filling(picture: np.ndarray, height: int, width: int) -> np.ndarray:
    """The largest middle part of a picture (H, W, 3) with the aspect height:width, at that size. It is averaged over
    areas where it shrinks, cubic where it grows.
    """
    h, w = picture.shape[:2]
    new_h, new_w = (
        (h, max(1, round(h * width / height))) if w * height > h * width else (max(1, round(w * height / width)), w)
    )
    top, left = (h - new_h) // 2, (w - new_w) // 2
    middle = picture[top : top + new_h, left : left + new_w]
    if (new_h, new_w) == (height, width):
        return np.ascontiguousarray(middle)
    how = cv2.INTER_AREA if new_h >= height and new_w >= width else cv2.INTER_CUBIC
    return cv2.resize(middle, (width, height), interpolation=how)
