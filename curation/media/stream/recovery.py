"""Where a decoder can truly start: what a key packet of H.264 or HEVC really is.

Containers mark packets as key that are no clean start: recovery points of open GOPs, and of intra refresh, where right
pictures come only some frames later. The scan of packets (`timeline`) asks here, once a key packet.
"""

from __future__ import annotations

from collections.abc import Iterator

_IDR = 5
_SEI = 6
_RECOVERY_POINT = 6
_HEVC_RANDOM_ACCESS = range(16, 22)
_LOOKED_AT = 1 << 16
"""Bytes of a packet that are searched: what is wanted stands before the first slice."""


def pictures_until_clean(codec: str, packet: bytes, extradata: bytes | None) -> int | None:
    """After how many pictures a decoder that starts with this key packet shows right ones: 0 at once, None unknown.

    More than 0: intra refresh (`recovery_frame_cnt`, H.264 annex D.2.8). Codecs other than H.264 and HEVC give 0.
    """
    if codec not in ("h264", "hevc"):
        return 0
    recovery: int | None = None
    for unit in units(packet[:_LOOKED_AT], extradata or b"", codec):
        kind = unit[0] & 31 if codec == "h264" else unit[0] >> 1 & 63
        if codec == "hevc" and kind in _HEVC_RANDOM_ACCESS:
            return 0
        if codec == "h264" and kind == _IDR:
            return 0
        if codec == "h264" and kind == _SEI and recovery is None:
            recovery = _recovery_count(unit[1:].replace(b"\0\0\3", b"\0\0"))
    return recovery


def units(data: bytes, extradata: bytes, codec: str) -> Iterator[bytes]:
    """The NAL units of a packet, with length prefixes (avcC, hvcC) or start codes (annex B)."""
    if extradata[:1] != b"\1":
        yield from (unit for unit in data.split(b"\0\0\1")[1:] if unit)
        return
    place = 4 if codec == "h264" else 21
    width = (extradata[place] & 3) + 1 if len(extradata) > place else 4
    at = 0
    while at + width < len(data):
        size = int.from_bytes(data[at : at + width], "big")
        at += width
        if unit := data[at : at + size]:
            yield unit
        at += size


def _recovery_count(sei: bytes) -> int | None:
    """`recovery_frame_cnt` of the recovery point among the messages of an SEI, None where there is none."""
    at = 0
    while at + 1 < len(sei) and sei[at] != 0x80:
        kind = size = 0
        while at < len(sei) and sei[at] == 255:
            kind, at = kind + 255, at + 1
        kind, at = kind + (sei[at] if at < len(sei) else 0), at + 1
        while at < len(sei) and sei[at] == 255:
            size, at = size + 255, at + 1
        size, at = size + (sei[at] if at < len(sei) else 0), at + 1
        if kind == _RECOVERY_POINT:
            return _exp_golomb(sei[at : at + size])
        at += size
    return None


def _exp_golomb(data: bytes) -> int | None:
    bits = "".join(f"{byte:08b}" for byte in data)
    zeros = bits.find("1")
    if zeros < 0 or 2 * zeros + 1 > len(bits):
        return None
    return int(bits[zeros : 2 * zeros + 1], 2) - 1
