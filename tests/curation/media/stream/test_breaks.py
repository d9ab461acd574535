"""What tells a break of the material that no decoder tells: the clock, the file's own sizes, time codes."""

from __future__ import annotations

import io
import struct
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from curation.contract import Ending
from curation.media.frames import Decoder
from curation.media.probe import open_media, timeline_of
from curation.media.stream.breaks import avi, matroska
from curation.media.stream.breaks.groups import Groups
from curation.media.stream.breaks.holes import missing
from curation.media.stream.rates import rate_runs
from curation.media.stream.timeline import Part, Timeline
from tests.support import numbered
from tests.support.numbered import KINDS


def element(id_: int, content: bytes) -> bytes:
    size = (len(content) | 1 << 56).to_bytes(8, "big")
    return id_.to_bytes((id_.bit_length() + 7) // 8, "big") + size + content


BLOCK = element(0xA3, b"\x81" + bytes(40))
CLUSTER = element(0x1F43B675, element(0xE7, b"\0") + BLOCK + element(0xA0, BLOCK) + element(0xEC, bytes(9)))
HEADER = element(0x1A45DFA3, b"")
FILE = HEADER + element(0x18538067, element(0x1549A966, b"") + 3 * CLUSTER + element(0x1C53BB6B, bytes(5)))
LIVE = HEADER + b"\x18\x53\x80\x67\x01" + b"\xff" * 7 + CLUSTER


@pytest.mark.parametrize(
    ("content", "pauses"),
    [
        (FILE, "own"),
        (LIVE, "doubtful"),
        (FILE.replace(CLUSTER, b"", 1), "lost"),
        (FILE[:-1], "lost"),
        (FILE.replace(BLOCK, bytes(len(BLOCK)), 1), "lost"),
        (FILE + HEADER, "lost"),
        (b"", "lost"),
    ],
)
def test_a_matroska_file_is_whole_where_its_sizes_fill_it(content: bytes, pauses: str) -> None:
    assert matroska.pauses(io.BytesIO(content), len(content)) == pauses


def test_every_byte_that_is_missing_from_a_matroska_file_is_missed() -> None:
    for at in range(len(FILE)):
        torn = FILE[:at] + FILE[at + 1 :]
        assert matroska.pauses(io.BytesIO(torn), len(torn)) != "own"


@pytest.mark.parametrize("name", ["webm pause", "flv pause", "mp4 pause"])
def test_a_pause_of_the_source_costs_no_picture(name: str, tmp_path: Path) -> None:
    path = numbered.write(tmp_path / "source", KINDS[name], 130, ())
    with open_media(path) as (container, stream):
        timeline = timeline_of(path, container, stream, lambda packets: None)
    with open_media(path) as (container, stream):
        pictures = list(Decoder(container, stream, timeline))
    assert [picture.index for picture in pictures] == list(range(130))
    assert [picture.index for picture in pictures if picture.broken_by is Ending.GAP] == [90]


def regular(*gaps: tuple[int, int], total: int = 200) -> np.ndarray:
    """Times at 25 pictures a second; after picture N so many are missing."""
    steps = np.full(total - 1, 1)
    for after, count in gaps:
        steps[after] += count
    return np.concatenate([[0], np.cumsum(steps)]) / 25


def test_at_a_regular_rate_each_missing_picture_is_seen() -> None:
    times = regular((20, 1), (60, 3), (120, 40))
    runs = [run for run, _ in rate_runs(times)]
    assert missing(times, runs, "doubtful") == {21: 1, 61: 3, 121: 40}
    assert not missing(times, runs, "own")


def test_a_variable_rate_pauses_of_itself_unless_something_is_known_to_be_missing() -> None:
    times = np.cumsum(np.random.default_rng(1).uniform(0.02, 0.07, 200))
    times[100:] += 0.6
    times[150:] += 2
    runs = [run for run, _ in rate_runs(times)]
    assert all(run.ticks is None for run in runs)
    assert list(missing(times, runs, "doubtful")) == [150]
    assert sorted(missing(times, runs, "lost")) == [100, 150]


def timeline(stamps: list[int], filled: tuple[int, ...] = ()) -> Timeline:
    """A timeline of packets that come in this order, at 25 ticks a second."""
    times = np.sort(np.array(stamps, np.int64))
    sent = np.column_stack([np.array(stamps, np.int64), 1000 + np.arange(len(stamps))])
    return Timeline(
        parts=(Part(0, times),),
        times=(times - times[0]) / 25,
        starts=np.zeros(1, np.int64),
        tick=1 / 25,
        bytes=0,
        packets=len(stamps),
        announced=len(stamps),
        untimed=0.0,
        by_order=False,
        sent=(sent,),
        filled=np.array(filled, np.int64),
    )


def test_a_hole_lies_before_the_first_packet_that_comes_after_it() -> None:
    reordered = [*range(40), 58, 55, 56, 57, *range(59, 90)]
    found = timeline(reordered)
    assert found.holes == {(58, 1040): 15}
    assert not replace(found, pauses="own").holes


def test_pictures_that_are_shown_on_are_not_missing() -> None:
    stamps = [*range(40), *range(50, 90)]
    assert timeline(stamps).holes == {(50, 1040): 10}
    assert timeline(stamps, tuple(range(40, 47))).holes == {(50, 1040): 3}
    assert not timeline(stamps, tuple(range(40, 50))).holes


def group(picture: int, closed: bool = False, broken: bool = False) -> memoryview:
    """A packet of MPEG-2 that begins a group, with its time code at 25 pictures a second."""
    seconds, rest = divmod(picture, 25)
    code = (seconds // 3600) << 26 | (seconds // 60 % 60) << 20 | 1 << 19 | (seconds % 60) << 13 | rest << 7
    bits = code | closed << 6 | broken << 5
    return memoryview(b"\0\0\1\xb3" + bytes([0, 0, 0, 0x13]) + bytes(8) + b"\0\0\1\xb8" + bits.to_bytes(4, "big"))


def told(*groups: memoryview, size: int = 15) -> list[bool]:
    """For each of these groups of so many pictures, whether the material breaks before it."""
    followed, picture = Groups(), memoryview(b"\0\0\1\0" + bytes(20))
    found: list[bool] = []
    for one in groups:
        found.append(followed.breaks(one))
        assert not any(followed.breaks(picture) for _ in range(size - 1))
    return found


def test_time_codes_tell_where_groups_were_glued() -> None:
    assert told(*map(group, (0, 15, 30, 45))) == [False] * 4
    assert told(*map(group, (0, 15, 30, 15, 30))) == [False, False, False, True, False]
    assert told(*map(group, (0, 15, 60, 75))) == [False, False, True, False]
    assert told(*map(group, (0, 15, 15))) == [False, False, True]
    day = 24 * 3600 * 25
    assert told(*map(group, (day - 30, day - 15, 0, 15))) == [False] * 4


def test_time_codes_that_count_repeated_fields_go_on_and_those_that_do_not_count_tell_nothing() -> None:
    assert told(*map(group, range(0, 400, 19))) == [False] * 22
    assert told(*map(group, [0] * 8)) == [False] * 8
    assert told(*map(group, [0, 0, 25, 25, 50, 50, 75])) == [False] * 7


def test_a_closed_group_refers_to_nothing_and_a_broken_link_is_told_by_the_header() -> None:
    assert told(group(0), group(15), group(600, closed=True)) == [False] * 3
    assert told(group(0), group(15, broken=True)) == [False, True]


def test_chunks_are_missing_where_the_sizes_that_are_listed_go_on_further_down() -> None:
    listed = [900, 3, 3, 250, 260, 240, 255, 3, 3, 610, 620, 630]
    assert avi.lost_before(listed, listed) == []
    assert avi.lost_before(listed[:3] + listed[5:], listed) == [3]
    assert avi.lost_before(listed[:2] + listed[3:6] + listed[8:], listed) == [2, 5]
    assert avi.lost_before(listed, []) == []
    assert avi.lost_before([1, 2, 3, 4], listed) == []


def test_an_index_lists_the_chunks_of_one_stream() -> None:
    entries = [(b"00dc", 900), (b"01wb", 64), (b"00dc", 0), (b"00db", 77), (b"00dc", 12)]
    index = b"".join(name + struct.pack("<III", 16, 0, size) for name, size in entries)
    content = b"RIFF....idx1" + struct.pack("<I", len(index)) + index
    assert avi.listed(io.BytesIO(content), len(content), 0) == [900, 77, 12]
    assert avi.listed(io.BytesIO(content[:-20]), len(content) - 20, 0) == [900]
    assert avi.listed(io.BytesIO(b"RIFF"), 4, 0) == []
    assert avi.listed(io.BytesIO(b"idx1\0"), 5, 0) == []
