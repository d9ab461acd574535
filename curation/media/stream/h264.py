"""Headers of H.264 (ITU-T H.264, section 7.3): what must be read of parameter sets and slices to follow `frame_num`.

Pure functions over the bytes of NAL units; `frame_num` feeds them. Each raises `Unreadable` for bytes that end early or
that hold what is not read here.
"""

from __future__ import annotations

from dataclasses import dataclass

_HIGH = (44, 83, 86, 100, 110, 118, 122, 128, 134, 135, 138, 139, 244)
"""Profiles whose sequence parameter sets say a chroma format (section 7.3.2.1.1)."""

_IDR = 5
_B, _I, _SI = 1, 2, 4  # slice types modulo 5; P is 0, SP is 3
_PARAMETERS = 1024
_SLICE = 256
"""Bytes in which a parameter set's, or a slice's, header ends."""


class Unreadable(Exception):
    """A header that ends early, or that is of a kind that is not read."""


class Bits:
    """Reads a NAL unit after its first byte, without emulation prevention, from the first bit on."""

    def __init__(self, unit: bytes, most: int) -> None:
        data = unit[1 : most + 1].replace(b"\0\0\3", b"\0\0")
        self._value, self._left = int.from_bytes(data, "big"), 8 * len(data)

    def u(self, width: int = 1) -> int:
        """An unsigned number of `width` bits."""
        self._left -= width
        if self._left < 0:
            raise Unreadable
        return self._value >> self._left & (1 << width) - 1

    def ue(self) -> int:
        """An unsigned Exp-Golomb number."""
        rest = self._value & (1 << self._left) - 1
        zeros = self._left - rest.bit_length()
        return self.u(2 * zeros + 1) - 1

    def skip(self, count: int = 1) -> None:
        """Pass over Exp-Golomb numbers; signed ones are as long."""
        for _ in range(count):
            self.ue()

    def se(self) -> int:
        """A signed Exp-Golomb number."""
        code = self.ue()
        return (code + 1) // 2 if code & 1 else -code // 2


@dataclass(frozen=True, slots=True)
class Sps:
    """A sequence parameter set; widths in bits. `chroma`: ChromaArrayType is not 0."""

    frame_num_width: int
    gaps_allowed: bool
    separate_planes: bool
    frames_only: bool
    chroma: bool
    poc_type: int
    poc_width: int
    poc_deltas: bool


@dataclass(frozen=True, slots=True)
class Pps:
    """A picture parameter set: its `sps`, and what stands between `frame_num` and the reference marking of a slice."""

    sps: int
    both_pocs: bool
    references: tuple[int, int]
    weighted_p: bool
    weighted_b: bool
    redundant: bool


@dataclass(frozen=True, slots=True)
class Slice:
    """The beginning of a slice, and the unit that it was read from (shortened). `field`: 0 frame, 1 top, 2 bottom."""

    pps: int
    frame_num: int
    is_reference: bool
    is_idr: bool
    field: int
    unit: bytes


def read_sps(unit: bytes) -> tuple[int, Sps]:
    """The number of a sequence parameter set, and the set."""
    bits = Bits(unit, _PARAMETERS)
    profile = bits.u(8)
    bits.u(16)
    number, chroma, separate = bits.ue(), 1, False
    if profile in _HIGH:
        chroma = bits.ue()
        separate = chroma == 3 and bool(bits.u())
        _skip_depths(bits, 12 if chroma == 3 else 8)
    frame_num_width = bits.ue() + 4
    poc_type, poc_width, poc_deltas = bits.ue(), 0, False
    if poc_type == 0:
        poc_width = bits.ue() + 4
    elif poc_type == 1:
        poc_deltas = not bits.u()
        bits.skip(2)
        bits.skip(bits.ue())
    bits.skip()
    gaps = bool(bits.u())
    bits.skip(2)
    if frame_num_width > 16 or poc_width > 16:
        raise Unreadable
    has_chroma = bool(chroma) and not separate
    return number, Sps(frame_num_width, gaps, separate, bool(bits.u()), has_chroma, poc_type, poc_width, poc_deltas)


def _skip_depths(bits: Bits, lists: int) -> None:
    """Bit depths and scaling lists."""
    bits.skip(2)
    bits.u()
    if not bits.u():
        return
    for number in range(lists):
        if bits.u():
            last = following = 8
            for _ in range(16 if number < 6 else 64):
                if following:
                    following = (last + bits.se()) % 256
                last = following or last


def read_pps(unit: bytes) -> tuple[int, Pps]:
    """The number of a picture parameter set, and the set. Those with slice groups are not read."""
    bits = Bits(unit, _PARAMETERS)
    number, sps = bits.ue(), bits.ue()
    bits.u()
    both_pocs = bool(bits.u())
    if bits.ue():
        raise Unreadable
    references = (bits.ue() + 1, bits.ue() + 1)
    weighted_p, weighted_b = bool(bits.u()), bits.u(2) == 1
    bits.skip(3)
    bits.u(2)
    return number, Pps(sps, both_pocs, references, weighted_p, weighted_b, bool(bits.u()))


def read_slice(unit: bytes, sets: dict[int, Sps], pictures: dict[int, Pps]) -> tuple[Slice, Sps]:
    """The beginning of a slice, and the sequence parameter set that holds for it."""
    bits = Bits(unit, 32)
    bits.skip(2)
    number = bits.ue()
    pps = pictures.get(number)
    sps = sets.get(pps.sps) if pps is not None else None
    if sps is None:
        raise Unreadable
    if sps.separate_planes:
        bits.u(2)
    frame_num = bits.u(sps.frame_num_width)
    field = 1 + bits.u() if not sps.frames_only and bits.u() else 0
    return Slice(number, frame_num, bool(unit[0] >> 5 & 3), unit[0] & 31 == _IDR, field, unit[: _SLICE + 1]), sps


def resets_numbers(slice_: Slice, sps: Sps, pps: Pps) -> bool:
    """Whether a picture that is not IDR forgets all references (memory_management_control_operation 5)."""
    bits = Bits(slice_.unit, _SLICE)
    bits.skip()
    kind = bits.ue() % 5
    bits.skip()
    bits.u(sps.frame_num_width + 2 * sps.separate_planes)
    is_field = not sps.frames_only and bool(bits.u())
    if is_field:
        bits.u()
    _skip_order(bits, sps, pps, is_field)
    if kind == _B:
        bits.u()
    counts = _references(bits, kind, pps)
    for _ in counts:
        _skip_changes(bits)
    if (pps.weighted_b if kind == _B else pps.weighted_p) and counts:
        _skip_weights(bits, sum(counts), sps.chroma)
    return bool(bits.u()) and _has_reset(bits)


def _skip_order(bits: Bits, sps: Sps, pps: Pps, is_field: bool) -> None:
    """Picture order counts, and the count of redundant pictures."""
    both = pps.both_pocs and not is_field
    if sps.poc_type == 0:
        bits.u(sps.poc_width)
    if sps.poc_type == 1 and sps.poc_deltas:
        bits.skip()
    if both and (sps.poc_type == 0 or (sps.poc_type == 1 and sps.poc_deltas)):
        bits.skip()
    if pps.redundant:
        bits.skip()


def _references(bits: Bits, kind: int, pps: Pps) -> list[int]:
    """How many references each list of the slice has: no list, one, or two."""
    if kind in (_I, _SI):
        return []
    lists = 2 if kind == _B else 1
    return [bits.ue() + 1 for _ in range(lists)] if bits.u() else list(pps.references[:lists])


def _skip_changes(bits: Bits) -> None:
    """Changes of one list of references."""
    if bits.u():
        while bits.ue() != 3:
            bits.skip()


def _skip_weights(bits: Bits, references: int, chroma: bool) -> None:
    """The table of prediction weights."""
    for _ in range(1 + chroma):
        bits.skip()
    for _ in range(references):
        for numbers in (2, 4)[: 1 + chroma]:
            if bits.u():
                bits.skip(numbers)


def _has_reset(bits: Bits) -> bool:
    """Whether the operations on the memory of references hold number 5."""
    while operation := bits.ue():
        if operation == 5:
            return True
        bits.skip(2 if operation == 3 else 1)
    return False
