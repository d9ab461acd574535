"""Encoding an image: the picture at the size that is stored, and its bytes as JPEG or PNG. No metadata goes along.

Used by the cutting pass over an image; `measure` scores and samples pictures of the same `scaled`.
"""

from __future__ import annotations

import cv2
import numpy as np

from curation.media.plan import Encode


def scaled(bgr: np.ndarray, width: int, height: int) -> np.ndarray:
    """The picture at another size, averaged over areas; itself where it has that size."""
    if bgr.shape[:2] == (height, width):
        return bgr
    return cv2.resize(bgr, (width, height), interpolation=cv2.INTER_AREA)


def encoded(bgr: np.ndarray, encode: Encode) -> bytes:
    """The bytes of the file: JPEG keeps the colours of every pixel (4:4:4), PNG all of it."""
    if encode.image == "png":
        suffix, options = ".png", []
    else:
        full = cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444
        options = [cv2.IMWRITE_JPEG_QUALITY, encode.image_quality, cv2.IMWRITE_JPEG_SAMPLING_FACTOR, full]
        suffix = ".jpg"
    done, content = cv2.imencode(suffix, bgr, options)
    assert done, f"no {suffix} was made"
    return content.tobytes()
