"""Whether a Matroska or WebM file is whole, by the sizes that its own elements tell: then its pauses are the source's.

Asked by `probe.timeline_of` where the clock leaves room for lost pictures. RFC 9559, section 5.1 (the elements), and
RFC 8794, sections 4 to 6 (ids and sizes).
"""

from __future__ import annotations

from typing import Protocol

from curation.media.stream.breaks.holes import Pauses

_HEADER, _SEGMENT, _CLUSTER = 0x1A45DFA3, 0x18538067, 0x1F43B675
_TOP = {
    0x114D9B74: "SeekHead",
    0x1549A966: "Info",
    0x1654AE6B: "Tracks",
    _CLUSTER: "Cluster",
    0x1C53BB6B: "Cues",
    0x1941A469: "Attachments",
    0x1043A770: "Chapters",
    0x1254C367: "Tags",
}
_IN_CLUSTER = {
    0xE7: "Timestamp",
    0x5854: "SilentTracks",
    0xA7: "Position",
    0xAB: "PrevSize",
    0xA3: "SimpleBlock",
    0xA0: "BlockGroup",
    0xAF: "EncryptedBlock",
}
_ANYWHERE = {0xEC: "Void", 0xBF: "CRC-32"}
_LONGEST = 12
"""Bytes of an element's id and size."""


class File(Protocol):
    """What is read from."""

    def read(self, size: int, /) -> bytes: ...
    def seek(self, offset: int, /) -> int: ...


class _Torn(Exception):
    """Something is missing, or another thing stands in its place."""


class _Unsized(Exception):
    """An element of unknown size, as live recorders write it: nothing tells what should be there."""


def pauses(file: File, size: int) -> Pauses:
    """What pauses in a file of `size` bytes are."""
    try:
        kind, start, end = _element(file, 0)
        if kind != _HEADER:
            raise _Torn
        kind, start, end = _element(file, end)
        if kind != _SEGMENT or end != size:
            raise _Torn
        while start < end:
            kind, content, after = _element(file, start)
            if after > end or kind not in _TOP | _ANYWHERE:
                raise _Torn
            if kind == _CLUSTER:
                _check_cluster(file, content, after)
            start = after
    except _Unsized:
        return "doubtful"
    except _Torn:
        return "lost"
    return "own"


def _check_cluster(file: File, at: int, end: int) -> None:
    while at < end:
        kind, _, after = _element(file, at)
        if after > end or kind not in _IN_CLUSTER | _ANYWHERE:
            raise _Torn
        at = after


def _element(file: File, at: int) -> tuple[int, int, int]:
    """The id of the element at this place, where its content begins, and where it ends."""
    file.seek(at)
    head = file.read(_LONGEST)
    id_bytes = _width(head[:1])
    size_bytes = _width(head[id_bytes : id_bytes + 1])
    if id_bytes > 4 or len(head) < id_bytes + size_bytes:
        raise _Torn
    mask = (1 << 7 * size_bytes) - 1
    length = int.from_bytes(head[id_bytes : id_bytes + size_bytes], "big") & mask
    if length == mask:
        raise _Unsized
    start = at + id_bytes + size_bytes
    return int.from_bytes(head[:id_bytes], "big"), start, start + length


def _width(first: bytes) -> int:
    """The length of a number that begins with this byte."""
    if not first or not first[0]:
        raise _Torn
    return 9 - first[0].bit_length()
