"""Lost packets of H.264: `frame_num` tells them, sound files show no sign, and no wrong picture is handed out."""

from __future__ import annotations

import random
from dataclasses import dataclass, replace
from pathlib import Path

import av
import pytest
from hypothesis import given
from hypothesis import strategies as st

from curation.media.frames import Decoder
from curation.media.probe import open_media, timeline_of
from curation.media.stream.frame_num import FrameNumbers
from tests.support import numbered
from tests.support.numbered import KINDS, Kind
from tests.support.shared import VIDEOS, need

_X264 = ("-c:v", "libx264", "-preset", "veryfast", "-crf", "20", "-pix_fmt", "yuv420p", "-threads", "1")
_PLAIN = (*_X264, "-g", "60", "-bf", "0")
_PYRAMID = (*_X264, "-g", "60", "-bf", "3", "-x264-params", "b-adapt=0:b-pyramid=normal")
_ODD = {
    "interlaced": ("-flags", "+ildct+ilme", "-x264-params", "tff=1:bframes=3"),
    "16 references": ("-g", "60", "-bf", "8", "-refs", "16", "-x264-params", "b-pyramid=normal:b-adapt=0"),
    "open gop": ("-g", "20", "-x264-params", "open-gop=1:bframes=5:b-pyramid=strict:b-adapt=0"),
    "slices, weights": ("-x264-params", "slices=4:weightp=2:bframes=3:weightb=1"),
    "delimiters": ("-g", "25", "-x264-params", "aud=1:repeat-headers=1"),
    "baseline": ("-profile:v", "baseline"),
}
SOUND = {name: kind for name, kind in KINDS.items() if "libx264" in kind.encode} | {
    f"{name} {suffix}": Kind(suffix, (*_X264, *options)) for name, options in _ODD.items() for suffix in (".mp4", ".ts")
}


def checks_of(path: Path) -> list[int]:
    with open_media(path) as (container, stream):
        timeline = timeline_of(path, container, stream, lambda packets: None)
    with open_media(path) as (container, stream):
        return [picture.check for picture in Decoder(container, stream, timeline)]


def gaps_of(path: Path) -> list[int]:
    """The packets, by number in decoding order, before which a picture is said to be missing."""
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        numbers = FrameNumbers(stream.codec_context.extradata)
        packets = (packet for packet in container.demux(stream) if packet.size)
        told = [numbers.gap(memoryview(packet)) or numbers.half for packet in packets]  # pyright: ignore[reportArgumentType]
        return [number for number, gap in enumerate(told) if gap]


def without(source: Path, target: Path, lost: int) -> bool:
    """`source` without packet `lost` in decoding order; False where that is a key packet."""
    with av.open(str(source)) as old, av.open(str(target), "w") as new:
        stream = old.streams.video[0]
        copied = new.add_stream_from_template(stream)
        for number, packet in enumerate(packet for packet in old.demux(stream) if packet.size):
            if number == lost and packet.is_keyframe:
                return False
            if number != lost:
                packet.stream = copied
                new.mux(packet)
    return True


@pytest.mark.parametrize("name", SOUND)
def test_a_sound_file_shows_no_gap(name: str, tmp_path: Path) -> None:
    assert gaps_of(numbered.write(tmp_path / "source", SOUND[name], 100, (40,))) == []


def test_real_files_show_no_gap() -> None:
    judged = 0
    for path in sorted(need(VIDEOS).glob("*.mp4")):
        with av.open(str(path)) as container:
            judged += container.streams.video[0].codec_context.name == "h264"
        assert gaps_of(path) == [], path.name
    assert judged


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".ts", ".flv"])
@pytest.mark.parametrize("encode", [_PLAIN, _PYRAMID], ids=["no B", "B pyramid"])
def test_after_any_lost_packet_only_pictures_of_the_sound_file_are_handed_out(
    suffix: str, encode: tuple[str, ...], tmp_path: Path
) -> None:
    source = numbered.write(tmp_path / "source", Kind(suffix, encode), 100, (), seed=7)
    sound, target = checks_of(source), tmp_path / f"lost{suffix}"
    assert len(set(sound)) == 100
    for lost in random.Random(f"{suffix}{encode}").sample(range(2, 98), 12):
        if without(source, target, lost):
            left = checks_of(target)
            assert set(left) <= set(sound), f"a wrong picture after packet {lost} was lost"
            assert len(left) >= 38, "what comes after the next clean start is handed out"


def test_what_is_lost_of_a_transport_stream_leads_to_no_wrong_picture(tmp_path: Path) -> None:
    """16 packets of 188 bytes: their counter is as it should be, so no demuxer sees it."""
    source = numbered.write(tmp_path / "source", Kind(".ts", _PLAIN), 100, (), seed=9)
    data, sound = source.read_bytes(), set(checks_of(source))
    packets = [data[at : at + 188] for at in range(0, len(data), 188)]
    video = [number for number, packet in enumerate(packets) if packet[1] & 31 == 1]
    for first in random.Random(4).sample(range(40, len(video) - 16), 10):
        lost = set(video[first : first + 16])
        target = tmp_path / "lost.ts"
        target.write_bytes(b"".join(packet for number, packet in enumerate(packets) if number not in lost))
        wrong = [check for check in checks_of(target) if check not in sound]
        assert not wrong, f"{len(wrong)} wrong pictures after video packet {first}"


@pytest.mark.parametrize("first", range(1, 4))
def test_a_lost_field_leads_to_no_wrong_picture_and_costs_no_more_than_its_group(first: int, tmp_path: Path) -> None:
    """Each packet of this file holds one field; a decoder pairs what is left across pictures, and calls them keys."""
    source, target = need(VIDEOS / "odd" / "file-type__fixture-raw.mts"), tmp_path / "lost.ts"
    sound, packets = checks_of(source), 62
    assert gaps_of(source) == [] and len(sound) == packets // 2
    for lost in {*range(first, packets, 6), (28, 30, 33)[first - 1]}:
        if without(source, target, lost):
            left = checks_of(target)
            assert set(left) <= set(sound), f"a wrong picture after field {lost} was lost"
            assert len(left) >= 13, "there are two groups of pictures"


@dataclass(frozen=True)
class Header:
    """What a made-up picture says."""

    number: int
    reference: bool = True
    idr: bool = False
    reset: bool = False


def _ue(value: int) -> str:
    code = f"{value + 1:b}"
    return "0" * (len(code) - 1) + code


def _unit(first: int, bits: str) -> bytes:
    bits += "1"
    bits += "0" * (-len(bits) % 8)
    data = bytes([first]) + int(bits, 2).to_bytes(len(bits) // 8, "big")
    for last in range(4):
        data = data.replace(bytes([0, 0, last]), bytes([0, 0, 3, last]) if last != 3 else bytes([0, 0, 3]))
    return b"\0\0\1" + data


def stream_sets(gaps: bool = False) -> bytes:
    """Baseline, `frame_num` of 4 bits, order of decoding is order of display."""
    sps = f"{66:08b}{0:08b}{30:08b}" + _ue(0) + _ue(0) + _ue(2) + _ue(4) + str(int(gaps)) + _ue(9) + _ue(9) + "1"
    pps = _ue(0) + _ue(0) + "00" + _ue(0) + _ue(0) + _ue(0) + "000" + 3 * _ue(0) + "000"
    return _unit(0x67, sps) + _unit(0x68, pps)


def picture(header: Header) -> memoryview:
    """The header of a slice: I where it is IDR, else P with one reference."""
    bits = _ue(0) + _ue(7 if header.idr else 5) + _ue(0) + f"{header.number % 16:04b}"
    bits += _ue(0) if header.idr else "00"  # its number; no other count of references, lists as they are
    if header.reference:
        bits += "00" if header.idr else "1" + _ue(5) + _ue(0) if header.reset else "0"
    return memoryview(_unit((0x60 if header.reference else 0) | (5 if header.idr else 1), bits + "0" * 40))


def gaps(headers: list[Header], allowed: bool = False) -> list[int]:
    numbers = FrameNumbers(stream_sets(allowed))
    return [at for at, header in enumerate(headers) if numbers.gap(picture(header))]


@st.composite
def coded(draw: st.DrawFn) -> list[Header]:
    """Pictures as section 7.4.3 numbers them."""
    headers, last = [Header(0, idr=True)], 0
    for kind in draw(st.lists(st.sampled_from(["reference", "reference", "other", "idr", "reset"]), min_size=3)):
        number = 0 if kind == "idr" else last + 1
        headers.append(Header(number, kind != "other", kind == "idr", kind == "reset"))
        last = {"idr": 0, "reset": 0, "other": last}.get(kind, number)
    return headers


@given(coded())
def test_sound_numbers_have_no_gap_whatever_resets_them(headers: list[Header]) -> None:
    assert gaps(headers) == []


@given(coded(), st.data())
def test_a_lost_reference_is_a_gap_at_the_next_picture(headers: list[Header], data: st.DataObject) -> None:
    """Unless that is IDR, or numbers are reset just before or at the lost one: then it need not be known."""
    lost = data.draw(st.integers(1, len(headers) - 1))
    left = headers[:lost] + headers[lost + 1 :]
    last = next(header for header in reversed(headers[:lost]) if header.reference)
    told = lost < len(left) and not left[lost].idr and headers[lost].reference
    found = gaps(left)
    # After a reset the next picture may say the numbers again or not, by what the last one happened to be.
    assert (lost in found) == told or last.reset or headers[lost].reset or headers[lost].idr
    assert [at for at in found if at < lost] == []


def test_nothing_is_judged_where_gaps_are_allowed_nor_at_the_first_packet() -> None:
    assert gaps([Header(0, idr=True), Header(1), Header(3)]) == [2]
    assert gaps([Header(0, idr=True), Header(1), Header(3)], allowed=True) == []
    assert gaps([Header(9), Header(10)]) == []
    assert gaps([Header(0, idr=True), Header(2), Header(3)]) == [1], "a gap is told once"


@given(st.binary(max_size=200), st.binary(max_size=200), st.booleans())
def test_any_bytes_are_followed_without_a_fault(extradata: bytes, packet: bytes, prefixed: bool) -> None:
    numbers = FrameNumbers((b"\1" if prefixed else b"") + extradata)
    numbers.gap(memoryview(packet))
    numbers.gap(memoryview(b"\0\0\1\x67" + packet), extradata)
    numbers = FrameNumbers(stream_sets())
    assert not numbers.gap(picture(replace(Header(3), idr=True)))
    numbers.gap(memoryview(b"\0\0\1\x65" + packet))
