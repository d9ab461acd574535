"""Chunks that are missing from an AVI file whose own index lists them: they leave no hole in its clock.

Asked by `probe.timeline_of`. The index (`idx1`) has an entry of 16 bytes for each chunk: its name, flags, place, size.
A place says nothing where bytes are missing before it, so chunks are told by their sizes, in turn.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Protocol

_TAIL = 1 << 24
"""Bytes at the end of a file in which its index is looked for: a million chunks."""

_ENTRY = 16
_ALIKE = 3
"""Chunks in a row that must have the listed sizes, for those before them to count as missing."""

_MOST = 4096
"""Chunks in a row that may be missing."""


class File(Protocol):
    """What is read from."""

    def read(self, size: int, /) -> bytes: ...
    def seek(self, offset: int, /) -> int: ...


def listed(file: File, size: int, stream: int) -> list[int]:
    """The sizes of a stream's chunks in a file of `size` bytes, as its index has them; empty ones left out."""
    file.seek(max(0, size - _TAIL))
    tail = file.read(min(size, _TAIL))
    at = tail.rfind(b"idx1")
    if at < 0 or len(tail) < at + 8:
        return []
    (length,) = struct.unpack_from("<I", tail, at + 4)
    entries = tail[at + 8 : at + 8 + length]
    names = {f"{stream:02d}{kind}".encode() for kind in ("dc", "db")}
    whole = range(0, len(entries) - _ENTRY + 1, _ENTRY)
    chunks = ((entries[place : place + 4], struct.unpack_from("<I", entries, place + 12)[0]) for place in whole)
    return [chunk for name, chunk in chunks if name in names and chunk]


def lost_before(there: Sequence[int], listed_: Sequence[int]) -> list[int]:
    """Before which of the chunks that are there others are missing. Both are sizes, in the order of the file.

    Nothing more from where the two cannot be brought together: one of them is not to be trusted.
    """
    found: list[int] = []
    ahead = 0
    for at, size in enumerate(there):
        if at + ahead >= len(listed_):
            break
        if listed_[at + ahead] == size:
            continue
        here = list(there[at : at + _ALIKE])
        places = range(at + ahead + 1, min(at + ahead + _MOST, len(listed_) - len(here)) + 1)
        after = next((place for place in places if list(listed_[place : place + len(here)]) == here), None)
        if after is None:
            break
        found.append(at)
        ahead = after - at
    return found
