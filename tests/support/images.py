"""Images for tests: a picture with an up and a left, in every format, and files that are not what they say."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pillow_heif
from PIL import Image, ImageCms

pillow_heif.register_heif_opener()

FORMATS: dict[str, dict[str, Any]] = {
    "png": {},
    "jpg": {"quality": 98, "subsampling": 0},
    "webp": {"lossless": True},
    "avif": {"quality": 95, "subsampling": "4:4:4", "speed": 8},
    "heic": {"quality": 95, "chroma": 444},
}
"""Extensions, and how Pillow writes each at little loss."""

XMP_TURNED = (
    b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
    b'<rdf:Description rdf:about="" xmlns:tiff="http://ns.adobe.com/tiff/1.0/" tiff:Orientation="6"/>'
    b"</rdf:RDF></x:xmpmeta>"
)
"""Metadata that ask for a turn, outside EXIF."""


def picture(width: int = 97, height: int = 64) -> np.ndarray:
    """(height, width, 3) uint8, RGB: smooth, and no two of its eight orientations are alike."""
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    red, green = 255 * x / max(1, width - 1), 255 * y / max(1, height - 1)
    blue = 128 + 100 * np.sin(x / 9) * np.cos(y / 7)
    return np.stack([red, green, blue], axis=-1).round().astype(np.uint8)


def save(path: Path, rgb: np.ndarray | Image.Image | None = None, **options: Any) -> Path:
    """Write a picture in the format of the path's extension."""
    image = rgb if isinstance(rgb, Image.Image) else Image.fromarray(picture() if rgb is None else rgb)
    image.save(path, **{**FORMATS.get(path.suffix[1:], {}), **options})
    return path


def animation(path: Path, frames: Sequence[np.ndarray], duration: int | list[int] = 40, **options: Any) -> Path:
    """Write RGB or RGBA frames as an animation."""
    first, *rest = map(Image.fromarray, frames)
    return save(path, first, save_all=True, append_images=rest, duration=duration, **options)


def at_rate(path: Path, rate: int) -> Path:
    """An animated AVIF, which Pillow writes in milliseconds, with so many frames a second."""
    content = bytearray(path.read_bytes())
    header, table = content.index(b"mdhd") + 4, content.index(b"stts") + 4
    assert content[header] == 1 and content[table + 4 : table + 8] == (1).to_bytes(4, "big")
    content[header + 20 : header + 24] = rate.to_bytes(4, "big")
    content[table + 12 : table + 16] = (1).to_bytes(4, "big")
    path.write_bytes(content)
    return path


def rolling(many: int, width: int = 64, height: int = 48) -> list[np.ndarray]:
    """Frames of a picture that moves to the right by two pixels each."""
    return [np.roll(picture(width, height), 2 * number, 1) for number in range(many)]


def swapped_profile() -> bytes:
    """sRGB's profile with the primaries of red and blue exchanged."""
    content = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    red, blue = content.index(b"rXYZ"), content.index(b"bXYZ")
    made = bytearray(content)
    made[red : red + 4], made[blue : blue + 4] = b"bXYZ", b"rXYZ"
    return bytes(made)


def png_chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def png(rows: np.ndarray, depth: int, kind: int, clear: bytes = b"") -> bytes:
    """A PNG of samples as they are: `rows` (height, width, channels), `kind` its colour type, `clear` its tRNS."""
    height, width = rows.shape[:2]
    if depth < 8:
        bits = np.unpackbits(rows.astype(np.uint8)[..., None], axis=-1)[..., 8 - depth :].reshape(height, -1)
        lines = [line.tobytes() for line in np.packbits(bits, axis=1)]
    else:
        lines = [line.astype(">u2" if depth == 16 else np.uint8).tobytes() for line in rows]
    head = png_chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, kind, 0, 0, 0))
    body = png_chunk(b"IDAT", zlib.compress(b"".join(b"\0" + line for line in lines)))
    return b"\x89PNG\r\n\x1a\n" + head + (png_chunk(b"tRNS", clear) if clear else b"") + body + png_chunk(b"IEND", b"")


def with_chunk(png: bytes, kind: bytes, content: bytes) -> bytes:
    """A PNG with a chunk more, behind its header."""
    at = 8 + 25
    return png[:at] + png_chunk(kind, content) + png[at:]


def bomb(path: Path) -> Path:
    """A small file whose header claims a huge picture."""
    options: dict[str, Any] = {"exif": Image.Exif().tobytes()} if path.suffix == ".webp" else {}
    save(path, None, **options)
    content = bytearray(path.read_bytes())
    match path.suffix:
        case ".png":
            header = struct.pack(">II", 100_000, 100_000) + content[24:29]
            content[8:33] = png_chunk(b"IHDR", header)
        case ".jpg":
            at = content.index(b"\xff\xc0") + 5
            content[at : at + 4] = struct.pack(">HH", 65500, 65500)
        case ".webp":
            assert content[12:16] == b"VP8X"
            content[24:30] = (16383).to_bytes(3, "little") * 2
        case ".avif" | ".heic":
            at = content.index(b"ispe") + 8
            content[at : at + 8] = struct.pack(">II", 60_000, 60_000)
    path.write_bytes(content)
    return path


def read(content: bytes) -> np.ndarray:
    """A stored image as RGB."""
    bgr = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR)
    assert bgr is not None
    return bgr[:, :, ::-1]
