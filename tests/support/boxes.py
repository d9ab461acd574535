"""Just enough of the ISO base media format to forge MP4 files: read boxes, change one, repeat frames.

Only `poison.py` uses it. Files must hold one track and have `moov` behind `mdat`, so that chunk offsets stay
true whatever `moov` grows to.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator

Change = Callable[[bytes], bytes]

_TABLES = ("moov", "trak", "mdia", "minf", "stbl")


def pack(kind: str, body: bytes) -> bytes:
    return struct.pack(">I4s", 8 + len(body), kind.encode()) + body


def boxes(data: bytes) -> Iterator[tuple[str, int, bytes]]:
    """(kind, offset of the body, body) of every box at this level."""
    at = 0
    while at < len(data):
        size, kind = struct.unpack_from(">I4s", data, at)
        if size == 0 or size == 1:
            raise ValueError(f"box {kind!r} has an open or a 64-bit size")
        yield kind.decode(), at + 8, data[at + 8 : at + size]
        at += size


def find(data: bytes, kind: str) -> tuple[int, bytes]:
    """(offset of the body, body) of the first box of this kind at the top level."""
    return next((at, body) for found, at, body in boxes(data) if found == kind)


def edit(data: bytes, path: str, change: Change) -> bytes:
    """The file with the body of the box at `path` ("moov/trak/tkhd") put through `change`."""
    head, _, rest = path.partition("/")
    out, hits = b"", 0
    for kind, _, body in boxes(data):
        if kind == head:
            hits += 1
            body = edit(body, rest, change) if rest else change(body)
        out += pack(kind, body)
    if not hits:
        raise KeyError(f"no box {head}")
    return out


def drop(data: bytes, path: str) -> bytes:
    """The file without the box at `path`; nothing happens where there is none."""
    head, _, rest = path.partition("/")
    out = b""
    for kind, _, body in boxes(data):
        if kind == head and not rest:
            continue
        out += pack(kind, drop(body, rest) if kind == head else body)
    return out


def put(offset: int, layout: str, *values: int) -> Change:
    """A change that overwrites numbers at an offset of the body."""

    def change(body: bytes) -> bytes:
        forged = bytearray(body)
        struct.pack_into(layout, forged, offset, *values)
        return bytes(forged)

    return change


def timescales(data: bytes) -> tuple[int, int]:
    """Ticks a second of the movie and of its track."""
    _, moov = find(data, "moov")
    _, trak = find(moov, "trak")
    _, mdia = find(trak, "mdia")
    movie, track = find(moov, "mvhd")[1], find(mdia, "mdhd")[1]
    return struct.unpack_from(">I", movie, 12)[0], struct.unpack_from(">I", track, 12)[0]


def claim_duration(data: bytes, seconds: float) -> bytes:
    """All three headers say `seconds`; the sample tables still tell the truth."""
    movie, track = timescales(data)
    data = edit(data, "moov/mvhd", put(16, ">I", round(seconds * movie)))
    data = edit(data, "moov/trak/tkhd", put(20, ">I", round(seconds * movie)))
    data = edit(data, "moov/trak/mdia/mdhd", put(16, ">I", round(seconds * track)))
    return drop(data, "moov/trak/edts")


def repeat_frame(data: bytes, frames: int, ticks: int, per_chunk: int = 20) -> bytes:
    """Turn a one-frame file into `frames` frames: every chunk of the table points at the same few copies."""
    at, frame = find(data, "mdat")
    table = "/".join(_TABLES) + "/"
    for kind in ("moov/trak/edts", table + "ctts", table + "stss", table + "sdtp"):
        data = drop(data, kind)
    data = edit(data, "mdat", lambda body: body * per_chunk)
    chunks = frames // per_chunk
    forged = {
        "stts": struct.pack(">4I", 0, 1, chunks * per_chunk, ticks),
        "stsz": struct.pack(">3I", 0, len(frame), chunks * per_chunk),
        "stsc": struct.pack(">5I", 0, 1, 1, per_chunk, 1),
        "stco": struct.pack(f">{chunks + 2}I", 0, chunks, *[at] * chunks),
    }
    for kind, body in forged.items():
        data = edit(data, table + kind, lambda _, body=body: body)
    return claim_duration(data, frames * ticks / timescales(data)[1])
