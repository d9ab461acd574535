"""Decoding an image: from its bytes to one upright picture in sRGB, or to the reason why there is none.

Used by both passes over an image, and by `animation` for its frames. The size that the header claims is judged before a
pixel is made. Pillow and libheif raise many things over damaged bytes: while they read, all of them are the data's.
"""

from __future__ import annotations

import io
import os
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import av
import av.error
import cv2
import numpy as np
import pillow_heif
from av.stream import Disposition

# Pillow imports these when it first needs them, and in the decoder's process nothing can be read by then.
from PIL import (  # noqa: F401
    AvifImagePlugin,
    ExifTags,
    Image,
    JpegImagePlugin,
    MpoImagePlugin,
    PngImagePlugin,
    TiffImagePlugin,
    WebPImagePlugin,
)

from curation.contract import Reason
from curation.media.pictures.colour import HDR
from curation.media.probe import OPTIONS, Unfit
from curation.media.sandbox.handle import reading
from curation.media.still.colour import to_srgb
from curation.media.still.look import Format, Look
from curation.media.still.png import mended

Image.preinit()  # as `Image.open` does
pillow_heif.register_heif_opener(decode_threads=1, thumbnails=False, depth_images=False, aux_images=False)
AvifImagePlugin.DEFAULT_MAX_THREADS = 1
PngImagePlugin.MAX_TEXT_CHUNK = PngImagePlugin.MAX_TEXT_MEMORY  # a workflow or a profile may be a few MB of text

_OPENERS: dict[Format, tuple[str, ...]] = {
    "jpeg": ("JPEG",),  # MPO too: its opener is JPEG's
    "png": ("PNG",),
    "webp": ("WEBP",),
    "avif": ("AVIF",),
    "heic": ("HEIF",),
}
_EXIF = ("exif", "Raw profile type exif")
"""Where Pillow keeps it; the second is of old PNG files."""

_ADDRESS = re.compile(r" *<[^<>]* at 0x[0-9a-f]+>")
"""How Python shows an object: another text each time, and nothing of the data."""

_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""What brings a picture upright, by the orientation that EXIF says."""


@dataclass(frozen=True, slots=True)
class Still:
    """A decoded image: upright, sRGB; (height, width, 3) uint8, BGR. `mode`: Pillow's word for what it was in the file.
    `conversion`: see `Span.conversion`.
    """

    bgr: np.ndarray
    mode: str
    conversion: str | None

    @property
    def size(self) -> tuple[int, int]:
        """Width and height."""
        return self.bgr.shape[1], self.bgr.shape[0]


def decode(path: Path, found: Look, max_pixels: int) -> Still:
    """The image at `path`, which `look` has found there. Raises `Unfit`."""
    if found.transfer in HDR:
        raise Unfit(Reason.HDR, detail=f"an image in {HDR[found.transfer]}")
    content = content_of(path)
    if found.transfer is None and found.format in ("avif", "heic"):
        refuse_coded_hdr(content)
    with opened(content, found, max_pixels) as image:
        mode = image.mode
        with of_the_data():
            image.load()
        check_size(*image.size, max_pixels)  # an AVIF or HEIC file may say another one in its pictures
        rgb, conversion = to_srgb(mended(image, content) if found.format == "png" else image)
        rgb = upright(rgb, orientation(image))
        return Still(cv2.cvtColor(np.asarray(rgb), cv2.COLOR_RGB2BGR), mode, conversion)


def content_of(path: Path) -> bytes:
    """The bytes of a file. Most of the libraries read it whole, so nothing is saved by handing them less."""
    with reading(path) as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(0)
        return file.read(size)


def refuse_coded_hdr(content: bytes) -> None:
    """Refuse an AVIF or HEIC whose light only its codec tells: where no box says it, libav reads it there. What libav
    does not open is for Pillow to judge.
    """
    try:
        with av.open(io.BytesIO(content), "r", format="mov", options=OPTIONS) as container:
            streams = list(container.streams.video)
            primary = [stream for stream in streams if stream.disposition & Disposition.default]
            told = {stream.codec_context.color_trc for stream in primary or streams if stream.codec_context is not None}
    except av.error.MemoryError as error:
        raise MemoryError from error
    except av.error.FFmpegError:
        return
    for transfer in told.intersection(HDR):
        raise Unfit(Reason.HDR, detail=f"an image in {HDR[transfer]}, as its codec says")


@contextmanager
def opened(content: bytes, found: Look, max_pixels: int) -> Iterator[Image.Image]:
    """The image with its header read. Raises `Unfit`."""
    if found.pixels > max_pixels:
        raise Unfit(Reason.TOO_MANY_PIXELS, float(found.pixels))
    allowed = Image.MAX_IMAGE_PIXELS
    Image.MAX_IMAGE_PIXELS = max_pixels / 2  # type: ignore[assignment]  # it refuses what is above twice as many
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of sizes within our limit, and of damaged metadata
            with of_the_data():
                image = Image.open(io.BytesIO(content), formats=_OPENERS[found.format])
            with image:
                check_size(*image.size, max_pixels)
                yield image
    finally:
        Image.MAX_IMAGE_PIXELS = allowed


@contextmanager
def of_the_data() -> Iterator[None]:
    """Around a library that reads the bytes, and nothing of ours: what it raises is their fault: `Unfit`."""
    try:
        yield
    except MemoryError:
        raise
    except Image.DecompressionBombError as error:
        number = re.search(r"\d+", str(error))
        raise Unfit(Reason.TOO_MANY_PIXELS, float(number[0]) if number else None) from error
    except Exception as error:
        said = _ADDRESS.sub("", f"{type(error).__name__}: {error}")
        raise Unfit(Reason.BROKEN, detail=said[:300]) from error


def check_size(width: int, height: int, max_pixels: int) -> None:
    """Refuse a picture larger than the sandbox decodes."""
    if width * height > max_pixels:
        raise Unfit(Reason.TOO_MANY_PIXELS, float(width * height))


def orientation(image: Image.Image) -> int:
    """As EXIF has it; upright where it cannot be read: a picture is one without its metadata. HEIC and AVIF say it in
    the container, and their readers hand it on as EXIF. What XMP says of it does not count, as in browsers.
    """
    bare = Image.new("1", (1, 1))  # `getexif` of the image itself would look in XMP too
    bare.info = {key: image.info[key] for key in _EXIF if key in image.info}
    try:
        return int(bare.getexif().get(ExifTags.Base.Orientation, 1))
    except MemoryError:
        raise
    except Exception:
        return 1


def upright(image: Image.Image, orientation: int) -> Image.Image:
    """The picture as `orientation` has it shown; any other number than the eight asks for nothing."""
    turn = _UPRIGHT.get(orientation)
    return image if turn is None else image.transpose(turn)
