"""MPEG-4 part 2: which packets hold a picture that is not coded, as encoders write a dropped one. No decoder shows it.

The scan of packets (`timeline`) leaves them out, so that they are neither missing nor counted. ISO/IEC 14496-2, section
6.2.3 (the header of the layer) and 6.2.5 (that of the picture).
"""

from __future__ import annotations

_LAYER = range(0x20, 0x30)
_PICTURE = 0xB6
_EXTENDED_ASPECT = 15
_VBV_BITS = 79
_HEAD = 512
"""Bytes of a header that are looked at."""


class NotCoded:
    """Follows the packets of one stream; `extradata` may hold its header, as may any packet."""

    def __init__(self, extradata: bytes | None) -> None:
        self._time_bits: int | None = None
        self._owed = 0
        self._read_layer(extradata or b"")

    def holds(self, packet: bytes) -> bool:
        """Whether the packet shows no picture. False where no header has said how to read it.

        A packet may hold two pictures ("packed"); one that is not coded then stands in for the second, which is shown.
        """
        self._read_layer(packet[:_HEAD])
        found = [at for at in _starts(packet) if packet[at] == _PICTURE]
        self._owed += max(0, len(found) - 1)
        if self._time_bits is None or len(found) != 1 or self._is_coded(packet[found[0] + 1 : found[0] + 1 + _HEAD]):
            return False
        self._owed, stands_in = max(0, self._owed - 1), self._owed > 0
        return not stands_in

    def _is_coded(self, picture: bytes) -> bool:
        assert self._time_bits is not None
        bits = _Bits(picture)
        bits.take(2)
        while bits.take(1) and bits.left:
            pass
        bits.take(1 + self._time_bits + 1)
        return bits.left == 0 or bits.take(1) == 1

    def _read_layer(self, data: bytes) -> None:
        for at in _starts(data):
            if data[at] in _LAYER and (resolution := _resolution(_Bits(data[at + 1 :]))):
                self._time_bits = max(1, (resolution - 1).bit_length())


class _Bits:
    """Reads bits, high ones first; zeros after the end."""

    def __init__(self, data: bytes) -> None:
        self._value, self.left = int.from_bytes(data, "big"), 8 * len(data)

    def take(self, count: int) -> int:
        taken = min(count, self.left)
        self.left -= taken
        value = self._value >> self.left & (1 << taken) - 1
        return value << (count - taken)


def _starts(data: bytes) -> list[int]:
    """Where the byte after each start code lies."""
    found, at = [], data.find(b"\0\0\1")
    while 0 <= at < len(data) - 3:
        found.append(at + 3)
        at = data.find(b"\0\0\1", at + 3)
    return found


def _resolution(bits: _Bits) -> int:
    """`vop_time_increment_resolution`, 0 where the header is cut short."""
    bits.take(9)
    if bits.take(1):
        bits.take(7)
    if bits.take(4) == _EXTENDED_ASPECT:
        bits.take(16)
    if bits.take(1):
        bits.take(3)
        if bits.take(1):
            bits.take(_VBV_BITS)
    bits.take(2 + 1)
    return bits.take(16) if bits.left >= 16 else 0
