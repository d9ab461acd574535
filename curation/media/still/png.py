"""What Pillow does not keep of a PNG: the lower eight of sixteen bits of colour, and which one of few greys is clear.

Part of `picture`, behind Pillow's own decoding, which has judged the file.
"""

from __future__ import annotations

import cv2
import numpy as np
from PIL import Image

from curation.contract import Reason
from curation.media.probe import Unfit

_DEPTH, _KIND = 24, 25
"""Where the header, which comes first, says the bits of a channel, and what channels there are."""

_GREY, _RGB, _GREY_ALPHA, _RGB_ALPHA = 0, 2, 4, 6

_ROWS = 64
"""At a time: 32 bits of every sample are much memory."""


def mended(image: Image.Image, content: bytes) -> Image.Image:
    """A loaded PNG as its bytes have it: 16-bit colour rounded to 8 bits, and one grey of 2 or 4 bits made clear."""
    depth, kind = content[_DEPTH], content[_KIND]
    if depth == 16 and kind in (_RGB, _GREY_ALPHA, _RGB_ALPHA):
        deep = _rounded(content, kind)
        deep.info = {key: value for key, value in image.info.items() if key != "transparency"}
        return deep
    clear = image.info.get("transparency")
    if kind == _GREY and depth in (2, 4) and isinstance(clear, int):
        most = (1 << depth) - 1
        image.info["transparency"] = (clear & most) * (255 // most)
    return image


def _rounded(content: bytes, kind: int) -> Image.Image:
    try:
        deep = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_UNCHANGED)
    except cv2.error as error:
        if error.code == cv2.Error.StsNoMem:
            raise MemoryError from error
        raise
    if deep is None or deep.dtype != np.uint16 or deep.ndim != 3:
        raise Unfit(Reason.BROKEN, detail="OpenCV does not read this PNG of 16 bits")
    near = np.empty(deep.shape, np.uint8)
    for at in range(0, len(deep), _ROWS):
        near[at : at + _ROWS] = (deep[at : at + _ROWS].astype(np.uint32) * 255 + 32767) // 65535
    if near.shape[-1] == 3:
        return Image.fromarray(near[..., ::-1].copy())
    rgba = Image.fromarray(near[..., [2, 1, 0, 3]])
    return Image.merge("LA", (rgba.getchannel("R"), rgba.getchannel("A"))) if kind == _GREY_ALPHA else rgba
