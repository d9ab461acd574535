"""MP4 files with any edit list: which stretches of the material a player shows, in which order, and when nothing."""

from __future__ import annotations

import struct
from collections.abc import Sequence

NOTHING = -1.0
"""The start of an edit in which nothing is shown."""


def edited(mp4: bytes, edits: Sequence[tuple[float, float]], movie: int = 1000) -> bytes:
    """A copy of a file of one track whose edit list is this one. `edits`: seconds shown, and the second they begin at.

    `mp4` has an edit list of its own, by which its first picture is at second 0. `movie`: ticks a second of durations.
    """
    data = bytearray(mp4)
    at = data.find(b"elst") - 4
    scale = struct.unpack_from(">I", data, data.find(b"mdhd") + 16)[0]
    first = struct.unpack_from(">i", data, at + 20)[0]  # the shift of presentation times by reordering

    def entry(seconds: float, start: float) -> bytes:
        ticks = -1 if start == NOTHING else first + round(start * scale)
        return struct.pack(">IiI", round(seconds * movie), ticks, 0x10000)

    body = struct.pack(">II", 0, len(edits)) + b"".join(entry(*edit) for edit in edits)
    box = struct.pack(">I4s", 8 + len(body), b"elst") + body
    grown = len(box) - struct.unpack_from(">I", data, at)[0]
    data[at : len(box) - grown + at] = box
    for name in (b"edts", b"trak", b"moov"):
        place = data.rfind(name, 0, at) - 4
        struct.pack_into(">I", data, place, struct.unpack_from(">I", data, place)[0] + grown)
    if data.find(b"moov") < data.find(b"mdat"):
        table = data.find(b"stco") + 8
        for place in range(table + 4, table + 4 + 4 * struct.unpack_from(">I", data, table)[0], 4):
            struct.pack_into(">I", data, place, struct.unpack_from(">I", data, place)[0] + grown)
    return bytes(data)
