"""Lost packets of H.264, told by `frame_num`: a decoder makes up a missing reference without a mark.

The decoder of both passes (`frames`) feeds packets in decoding order; a gap makes pictures suspicious (`suspicion`).
By ITU-T H.264, section 7.4.3: `frame_num` is that of the last reference picture or one more, and 0 at an IDR picture;
the two fields of a frame share it.
"""

from __future__ import annotations

from collections.abc import Iterator

from curation.media.stream.h264 import Pps, Slice, Sps, Unreadable, read_pps, read_slice, read_sps, resets_numbers
from curation.media.stream.recovery import units

_SLICES = (1, 2, 5)
_SPS, _PPS = 7, 8
_HEADS = (512, 4096, 1 << 16)
"""Bytes of a packet that are looked at, in turn until there is a slice: messages may stand before it."""


class FrameNumbers:
    """Follows the packets of one stream, from the beginning or from where a seek leads.

    `cycle`: a loss of fewer pictures before the last packet would have shown; 0 where the numbers say nothing.
    """

    def __init__(self, extradata: bytes | None) -> None:
        self._sets: dict[int, Sps] = {}
        self._pictures: dict[int, Pps] = {}
        self._last: int | None = None
        self._reference: Slice | None = None
        self._half: Slice | None = None
        self._in_fields = self._is_half = False
        self.cycle = 0
        self._begin(extradata or b"")

    @property
    def half(self) -> bool:
        """Whether the packet before the last one held a field whose other field is missing."""
        return self._is_half

    def gap(self, packet: memoryview, extradata: bytes | None = None) -> bool:
        """Whether a reference picture is missing before this packet; `extradata`: new one, from this packet on.

        False where that cannot be known: at the first packet, where a parameter set allows gaps or cannot be read, and
        after a picture that resets the numbers.
        """
        if extradata:
            self._begin(extradata)
        try:
            return self._judge(*read_slice(self._first_slice(packet), self._sets, self._pictures))
        except Unreadable:
            self._last = self._half = None
            self._is_half, self.cycle = False, 0
            return False

    def _begin(self, extradata: bytes) -> None:
        self._extradata = extradata
        for unit in _sets_of(extradata):
            self._take_set(unit)

    def _first_slice(self, packet: memoryview) -> bytes:
        """The first slice of a packet; takes the parameter sets that stand before it."""
        for most in _HEADS:
            head = bytes(packet[:most])
            prefixed = b"" if _has_start_code(head) else self._extradata
            for unit in units(head, prefixed, "h264"):
                if unit[0] & 31 in _SLICES:
                    return unit
                self._take_set(unit)
            if len(head) < most:
                break
        raise Unreadable

    def _take_set(self, unit: bytes) -> None:
        """Keep a parameter set. After one that cannot be read, none of its kind holds."""
        kind = unit[0] & 31
        try:
            if kind == _SPS:
                self._sets.update([read_sps(unit)])
            elif kind == _PPS:
                self._pictures.update([read_pps(unit)])
        except Unreadable:
            (self._sets if kind == _SPS else self._pictures).clear()

    def _judge(self, slice_: Slice, sps: Sps) -> bool:
        self._pair(slice_)
        modulus = 1 << sps.frame_num_width
        number, last = slice_.frame_num, self._last
        follows = last is None or number in (last, (last + 1) % modulus)
        gap = not (follows or slice_.is_idr or sps.gaps_allowed or self._was_reset(sps))
        self.cycle = modulus if follows and last is not None and not sps.gaps_allowed else 0
        if slice_.is_reference:
            self._last, self._reference = number, slice_
        elif not follows:
            self._last, self._reference = (number - 1) % modulus, None
        return gap

    def _pair(self, slice_: Slice) -> None:
        """Match two fields of a frame. Only where packets hold one field each: so once two have been matched."""
        half = self._half
        second = half is not None and slice_.field == 3 - half.field and slice_.frame_num == half.frame_num
        self._in_fields = self._in_fields or second
        self._is_half = half is not None and not second and self._in_fields
        self._half = slice_ if slice_.field and not second else None

    def _was_reset(self, sps: Sps) -> bool:
        """Whether the last reference picture reset the numbers, or cannot be read."""
        if self._reference is None or self._reference.is_idr:
            return False
        try:
            return resets_numbers(self._reference, sps, self._pictures[self._reference.pps])
        except Unreadable:
            return True


def _has_start_code(head: bytes) -> bool:
    """Whether a packet has start codes, whatever its header says: no unit of these kinds is one byte long."""
    return head[:4] == b"\0\0\0\1" and len(head) > 4 and head[4] & 31 in (*_SLICES, 6, _SPS, _PPS, 9)


def _sets_of(extradata: bytes) -> Iterator[bytes]:
    """The parameter sets of a stream's header: avcC (ISO/IEC 14496-15, section 5.3.3.1), or with start codes."""
    if extradata[:1] != b"\1":
        yield from units(extradata, b"", "h264")
        return
    at = 5
    for mask in (31, 255):
        count, at = (extradata[at] & mask if at < len(extradata) else 0), at + 1
        for _ in range(count):
            size = int.from_bytes(extradata[at : at + 2], "big")
            if unit := extradata[at + 2 : at + 2 + size]:
                yield unit
            at += 2 + size
