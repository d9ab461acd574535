"""Joins of MPEG-1 and MPEG-2 video, told by the time codes of its groups of pictures: no clock need show them.

The pictures shown before a group's first key picture refer to the group before it, which is another one where streams
were cut and glued. ISO/IEC 13818-2, section 6.3.8 (group of pictures header) and 6.3.3 (frame rate). Part of `losses`.
"""

from __future__ import annotations

from dataclasses import dataclass

CODECS = ("mpeg1video", "mpeg2video")

_SEQUENCE, _GROUP = b"\0\0\1\xb3", b"\0\0\1\xb8"
_HEAD = 4096
"""Bytes of a packet that are searched: the headers stand before the picture."""

_RATES = {1: 24, 2: 24, 3: 25, 4: 30, 5: 30, 6: 50, 7: 60, 8: 60}
_MOST, _SLACK = 1.5, 4
"""Time codes count fields that are repeated (2:3 pull-down: 1.25) and leave out two numbers in most minutes."""

_DAY_S = 24 * 3600


@dataclass(frozen=True, slots=True)
class _Group:
    """A header: its time in pictures (`rate` of them a second), and what it says of the pictures before its key one."""

    at: int
    rate: int
    is_closed: bool
    is_broken: bool


class Groups:
    """Follows the packets of one stream.

    Time codes are believed once they have counted the pictures of a group, and while they do so more often than not:
    some encoders write none.
    """

    def __init__(self) -> None:
        self._rate = _RATES[3]
        self._last: _Group | None = None
        self._pictures = self._agreed = self._disagreed = 0

    def breaks(self, packet: memoryview) -> bool:
        """Whether a group begins with this packet that does not go on with the one before it."""
        group = self._read(bytes(packet[:_HEAD]))
        last, pictures = self._last, self._pictures
        self._pictures += 1
        if group is None:
            return False
        self._last, self._pictures = group, 1
        believed = self._agreed > self._disagreed
        goes_on = last is None or _goes_on(last, group, pictures)
        self._agreed += last is not None and goes_on
        self._disagreed += not goes_on
        return not group.is_closed and (group.is_broken or (believed and not goes_on))

    def _read(self, head: bytes) -> _Group | None:
        if (at := head.find(_SEQUENCE)) >= 0 and len(head) > at + 7:
            self._rate = _RATES.get(head[at + 7] & 15, self._rate)
        if (at := head.find(_GROUP)) < 0 or len(head) < at + 8:
            return None
        bits = int.from_bytes(head[at + 4 : at + 8], "big")
        hours, minutes, seconds, pictures = bits >> 26 & 31, bits >> 20 & 63, bits >> 13 & 63, bits >> 7 & 63
        at_s = hours * 3600 + minutes * 60 + seconds
        return _Group(at_s * self._rate + pictures, self._rate, bool(bits >> 6 & 1), bool(bits >> 5 & 1))


def _goes_on(before: _Group, after: _Group, pictures: int) -> bool:
    """Whether the time between two groups is that of the pictures of the first one."""
    passed = (after.at - before.at) % (_DAY_S * after.rate)
    return pictures - 1 <= passed <= _MOST * pictures + _SLACK
