"""What a file's first bytes say of it: whether it is a picture, of which format, still or moving, and how bright.

First step of both passes over an image. Nothing is decoded here: boxes and chunks are walked, and a bomb is known by
the size that it claims. What is no picture of these formats is the video passes' to judge.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from io import BufferedReader, BytesIO
from pathlib import Path
from typing import Literal

from curation.media.sandbox.handle import Reader, reading

Format = Literal["jpeg", "png", "webp", "avif", "heic"]
File = BufferedReader | BytesIO | Reader

_PNG = b"\x89PNG\r\n\x1a\n"
_HEVC = (b"heic", b"heix", b"heim", b"heis")
_MOST = 1000
"""Chunks or boxes that are looked at: those that matter come first."""

_MOST_OF_A_TABLE = 1 << 20
"""Bytes."""

_ANIMATED = 0x02
"""Of the flags of a WebP: it has frames."""


@dataclass(frozen=True, slots=True)
class Look:
    """A picture's format. `moves`: it has more than one frame. `transfer`: of its light, by the number of ITU-T H.273,
    None where the container does not tell. `pixels`: the most that the container claims of a picture in it, 0 where
    the library is to be asked.
    """

    format: Format
    moves: bool = False
    transfer: int | None = None
    pixels: int = 0


def look(path: Path) -> Look | None:
    """What the file at `path` is; None where it begins as no such picture."""
    with reading(path) as file:
        head = file.read(64)
        if head.startswith(b"\xff\xd8\xff"):
            return Look("jpeg")
        if head.startswith(_PNG):
            return _png(file)
        if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
            return Look("webp", _webp_moves(file, head))
        if head[4:8] == b"ftyp":
            return _iso(file, head)
    return None


def _png(file: File) -> Look:
    frames, transfer = 0, None
    for kind, at, size in _chunks(file, len(_PNG), "big"):
        if kind == b"IDAT":
            break
        if kind in (b"acTL", b"cICP"):
            file.seek(at)
            content = file.read(min(size, 8))
            if kind == b"acTL":
                frames = int.from_bytes(content[:4], "big")
            elif len(content) > 1:
                transfer = content[1]
    return Look("png", frames > 1, transfer)


def _webp_moves(file: File, head: bytes) -> bool:
    if head[12:16] != b"VP8X" or not (head[20:21] or b"\0")[0] & _ANIMATED:
        return False
    frames = (kind for kind, _, _ in _chunks(file, 12, "little") if kind == b"ANMF")
    return next(frames, None) is not None and next(frames, None) is not None


def _chunks(file: File, at: int, order: Literal["big", "little"]) -> Iterator[tuple[bytes, int, int]]:
    """The chunks of a PNG (length first, a checksum behind) or of a RIFF file (name first, padded to even): each one's
    name, where its content begins, and how long it says it is.
    """
    for _ in range(_MOST):
        file.seek(at)
        head = file.read(8)
        if len(head) < 8:
            return
        name, length = (head[4:], head[:4]) if order == "big" else (head[:4], head[4:])
        size = int.from_bytes(length, order)
        yield name, at + 8, size
        at += 8 + size + (4 if order == "big" else size % 2)


def _iso(file: File, head: bytes) -> Look | None:
    major, size = head[8:12], int.from_bytes(head[:4], "big")
    brands = {head[at : at + 4] for at in range(16, min(size, len(head)), 4)}
    if major == b"avis":
        return Look("avif", True, *_properties(file))
    if major == b"avif" or (major == b"mif1" and b"avif" in brands):
        return Look("avif", False, *_properties(file))
    if major in _HEVC or (major == b"mif1" and brands.intersection(_HEVC)):
        return Look("heic", False, *_properties(file))
    return None


def _properties(file: File) -> tuple[int | None, int]:
    """The transfer that a colour property says, and the pixels of the largest picture, of the items of an ISO file."""
    meta = _inside(file, (0, file.seek(0, 2)), b"meta", 4)
    iprp = meta and _inside(file, meta, b"iprp")
    ipco = iprp and _inside(file, iprp, b"ipco")
    if not meta or not iprp or not ipco:
        return None, 0
    pixels, said, coloured = 0, dict[int, int](), set[int]()
    for number, (kind, at, stop) in enumerate(_boxes(file, *ipco), 1):
        file.seek(at)
        content = file.read(min(stop - at, 16))
        if kind == b"ispe" and len(content) >= 12:
            width, height = (int.from_bytes(content[at : at + 4], "big") for at in (4, 8))
            pixels = max(pixels, width * height)
        elif kind == b"colr":
            coloured.add(number)
            if content[:4] == b"nclx" and len(content) >= 8:
                said[number] = int.from_bytes(content[6:8], "big")
    # Other items, such as a gain map, have a light of their own; tiles have it where their whole has none.
    wanted = _of_primary(file, meta, iprp) & coloured or coloured
    return max((said[number] for number in wanted if said.get(number)), default=None), pixels


def _of_primary(file: File, meta: tuple[int, int], iprp: tuple[int, int]) -> set[int]:
    """The properties of the primary item, numbered from 1; none where the file does not tell."""
    primary, table = _content(file, meta, b"pitm"), _content(file, iprp, b"ipma")
    item = int.from_bytes(primary[4 : 8 if primary[:1] > b"\0" else 6], "big")
    long, wide = 4 if table[:1] > b"\0" else 2, 2 if table[3:4] and table[3] & 1 else 1
    at = 8
    while at + long < len(table):
        number, many = int.from_bytes(table[at : at + long], "big"), table[at + long]
        at += long + 1
        if number == item and primary:
            found = (table[place : place + wide] for place in range(at, at + many * wide, wide))
            return {int.from_bytes(one, "big") & (0x7FFF if wide == 2 else 0x7F) for one in found}
        at += many * wide
    return set()


def _inside(file: File, place: tuple[int, int], name: bytes, skip: int = 0) -> tuple[int, int] | None:
    """Where the content of the first box of this name lies, between two places."""
    return next(((at + skip, stop) for kind, at, stop in _boxes(file, *place) if kind == name), None)


def _content(file: File, place: tuple[int, int], name: bytes) -> bytes:
    found = _inside(file, place, name)
    if found is None:
        return b""
    file.seek(found[0])
    return file.read(min(found[1] - found[0], _MOST_OF_A_TABLE))


def _boxes(file: File, at: int, end: int) -> Iterator[tuple[bytes, int, int]]:
    """The boxes between two places: each one's name, and where its content begins and ends."""
    for _ in range(_MOST):
        if at + 8 > end:
            return
        file.seek(at)
        head = file.read(16)
        size, begins = int.from_bytes(head[:4], "big"), at + 8
        if size == 1:
            size, begins = int.from_bytes(head[8:16], "big"), at + 16
        stop = end if size == 0 else at + size
        if stop < begins or stop > end:
            stop = end  # cut short: what is there is looked at
        yield head[4:8], begins, stop
        at = stop
