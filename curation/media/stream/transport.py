"""Transport streams: whether what stands before a join is whole.

Where two files were joined, the counters of the second begin anew. A demuxer cannot tell that from packets lost on the
way, and marks the last picture before it. Asked by `probe.timeline_of` where a mark stands just before a join. ISO/IEC
13818-1, section 2.4.3.
"""

from __future__ import annotations

from collections.abc import Iterator

MOST = 1 << 24
"""Bytes before a join that are looked at."""

_SYNC = 0x47
_SIZE = 188
_STRIDES = (188, 192, 204)
_PCR, _OTHER_FIELDS = 0x10, 0x0F
_PCR_BYTES = 6


def is_whole(data: bytes, pid: int) -> bool:
    """Whether these bytes, from the first packet of a picture up to a join, hold all packets of stream `pid`.

    The last one has to be stuffed, as the last of a picture is, but for one in 184 that is full by chance: else the end
    of the picture may be missing. False where that cannot be known.
    """
    last: bytes | None = None
    for packet in _packets(data):
        if (packet[1] & 0x1F) << 8 | packet[2] != pid or not packet[3] & 0x10:
            continue
        if packet[1] & 0x80 or (last is not None and packet[3] & 15 != (last[3] + 1) & 15):
            return False
        last = packet
    return last is not None and _is_stuffed(last)


def _packets(data: bytes) -> Iterator[bytes]:
    """The packets of 188 bytes, whatever stands between them; none where that is unclear."""
    for stride in _STRIDES:
        for first in (0, stride - _SIZE):
            places = range(first, len(data) - _SIZE + 1, stride)
            if places and all(data[place] == _SYNC for place in places):
                yield from (data[place : place + _SIZE] for place in places)
                return


def _is_stuffed(packet: bytes) -> bool:
    """Whether the adaptation field is longer than what it says is in it."""
    if not packet[3] & 0x20:
        return False
    length = packet[4]
    if length == 0:
        return True
    flags = packet[5]
    return not flags & _OTHER_FIELDS and length > 1 + (_PCR_BYTES if flags & _PCR else 0)
