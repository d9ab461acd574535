"""Pictures that damage has reached are not handed out, also where they are shown before the one that was hit."""

from __future__ import annotations

import random
from pathlib import Path

import av
import numpy as np
import pytest
import xxhash
from av.video.frame import PictureType

from curation.media.frames import Decoder
from curation.media.probe import open_media, timeline_of
from curation.media.stream.suspicion import Suspicion
from tests.support import numbered
from tests.support.numbered import Kind

EVERY = 60
B_PICTURES = ("-g", f"{EVERY}", "-bf", "3")
X264 = ("-c:v", "libx264", "-preset", "veryfast", "-crf", "20", "-pix_fmt", "yuv420p", "-threads", "1")
SOURCES = {
    "h264": Kind(".mp4", (*X264, *B_PICTURES)),
    "h264 pyramid": Kind(".mp4", (*X264, *B_PICTURES, "-x264-params", "b-pyramid=normal:b-adapt=0:ref=4")),
    "h264 in mkv": Kind(".mkv", (*X264, *B_PICTURES)),
    "mpeg4 without times of its own": Kind(".avi", ("-c:v", "mpeg4", "-q:v", "3", "-g", f"{EVERY}", "-bf", "2")),
    "mpeg2": Kind(".mkv", ("-c:v", "mpeg2video", "-q:v", "3", "-g", f"{EVERY}", "-bf", "2")),
}
TOTAL = 150


def shown(path: Path) -> tuple[dict[int, str], bool]:
    """A checksum of each picture handed out, and whether the decoder told of any damage."""
    with open_media(path) as (container, stream):
        timeline = timeline_of(path, container, stream, lambda frames: None)
    with open_media(path) as (container, stream):
        decoder = Decoder(container, stream, timeline)
        found = {picture.index: digest(picture.frame) for picture in decoder}
        return found, bool(decoder.tally.suspect or decoder.tally.damaged)


def digest(frame: av.VideoFrame) -> str:
    return xxhash.xxh3_64_hexdigest(np.ascontiguousarray(frame.to_ndarray(format="gray")).data)


def positions(path: Path) -> list[tuple[int, int]]:
    """Place and size in the file of each packet that is no key packet."""
    with av.open(str(path)) as container:
        packets = [packet for packet in container.demux(video=0) if packet.size]
    return [(int(packet.pos), packet.size) for packet in packets if not packet.is_keyframe and packet.pos is not None]


@pytest.mark.parametrize("name", SOURCES)
def test_no_picture_that_a_damaged_one_may_have_reached_is_handed_out(name: str, tmp_path: Path) -> None:
    source = numbered.write(tmp_path / "source", SOURCES[name], TOTAL, (), 25)
    sound, _ = shown(source)
    assert len(sound) == TOTAL
    content, places = source.read_bytes(), positions(source)
    random_, told = random.Random(name), 0
    for at, size in random_.sample(places, 24):
        data = bytearray(content)
        for byte in range(at + size // 3, min(at + size // 3 + 40, at + size)):
            data[byte] ^= 0x5A
        damaged = tmp_path / f"damaged{source.suffix}"
        damaged.write_bytes(data)
        found, is_told = shown(damaged)
        wrong = [index for index, value in found.items() if value != sound[index]]
        told += is_told
        # What no decoder notices nobody can leave out.
        assert not wrong or not is_told, f"packet at {at}: pictures {wrong} are not what they were"
        assert len(found) >= TOTAL - EVERY - 8, "more than the rest of a group is left out"
    assert told >= 8, "the decoder tells of hardly any damage: nothing is tested"


def test_a_packet_that_gives_no_picture_is_not_waited_for_without_end(tmp_path: Path) -> None:
    """As before a clock that goes back, where what was lost stays the latest of all."""
    source = numbered.write(tmp_path / "source", SOURCES["h264"], TOTAL, (), 25)
    with open_media(source) as (container, stream):
        suspicion = Suspicion(timeline_of(source, container, stream, lambda frames: None))
    frame = av.VideoFrame(16, 16, "yuv420p")
    opened = []
    for pts in (10**9, *range(100)):
        packet = av.Packet(b"x")
        packet.pts = pts
        suspicion.send(packet, 1.0, 0)
        if pts < 10**9:
            frame.pts = pts
            opened.append(suspicion.is_open(frame, suspicion.land(frame, 0), None))
    assert opened[0] and not any(opened[40:])


def test_where_stamps_tell_no_order_b_pictures_wait_for_the_next_other_one(tmp_path: Path) -> None:
    """In AVI a packet's stamp is its place in the file."""
    source = numbered.write(tmp_path / "source", SOURCES["mpeg4 without times of its own"], TOTAL, (), 25)
    with open_media(source) as (container, stream):
        timeline = timeline_of(source, container, stream, lambda frames: None)
    assert timeline.by_order
    suspicion, shown_ = Suspicion(timeline), {}
    for place, kind in enumerate((PictureType.I, PictureType.P, PictureType.B, PictureType.B, PictureType.P)):
        packet = av.Packet(b"x")
        packet.pts = place
        suspicion.send(packet, 1.0, 0)
        shown_[place] = av.VideoFrame(16, 16, "yuv420p")
        shown_[place].pts, shown_[place].pict_type = place, kind
    sent, opened = {}, {}
    for place in (0, 2, 3, 1, 4):  # both B pictures are predicted from the P picture before them in the file
        sent[place] = suspicion.land(shown_[place], 0)
        opened[place] = suspicion.is_open(shown_[place], sent[place], None)
    assert opened == {0: False, 2: True, 3: True, 1: False, 4: False}
    assert suspicion.is_open(shown_[2], sent[2], shown_[3])
    assert not suspicion.is_open(shown_[2], sent[2], shown_[1])
