"""Joined transport streams: the last pictures before a join are whole, unless packets of theirs are missing."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from curation.contract import Ending
from curation.media.stream.transport import is_whole
from tests.curation.media.stream.test_suspicion import shown
from tests.support import numbered
from tests.support.measuring import measured
from tests.support.numbered import KINDS

CODECS = ["ts", "ts open gop", "ts mpeg2", "ts hevc", "m2ts"]
PID = 256
FIRST, SECOND = 60, 50


def parts(folder: Path, name: str) -> tuple[bytes, bytes]:
    return (
        numbered.write(folder / "a", KINDS[name], FIRST, ()).read_bytes(),
        numbered.write(folder / "b", KINDS[name], SECOND, (), seed=3).read_bytes(),
    )


@pytest.mark.parametrize("name", CODECS)
def test_all_pictures_before_a_join_are_whole(name: str, tmp_path: Path) -> None:
    path = tmp_path / f"joined{KINDS[name].suffix}"
    first, second = parts(tmp_path, name)
    path.write_bytes(first + second + first)
    found, told = shown(path)
    assert not told
    assert list(found) == list(range(FIRST + SECOND + FIRST))
    ends = [(clip.end_frame, clip.ended_by) for clip in measured(path).clips]
    assert ends == [(60, Ending.JOIN), (110, Ending.JOIN), (170, Ending.END)]


@pytest.mark.parametrize("name", ["ts", "ts mpeg2", "ts hevc"])
def test_no_picture_is_handed_out_that_lost_packets_before_a_join(name: str, tmp_path: Path) -> None:
    """One packet is lost, or all from there on."""
    first, second = parts(tmp_path, name)
    path = tmp_path / "joined.ts"
    path.write_bytes(first + second)
    right = set(shown(path)[0].values())
    ours = [at for at in range(0, len(first), 188) if first[at + 1] & 31 == PID >> 8 and first[at + 2] == PID & 255]
    for at in ours[-1:-10:-1]:
        for rest in (first[at + 188 :], b""):
            path.write_bytes(first[:at] + rest + second)
            found, _ = shown(path)
            assert set(found.values()) <= right, f"{(len(first) - at) // 188} packets before the join"
            assert len(found) >= FIRST + SECOND - 12


def packet(counter: int, payload: int, pid: int = PID) -> bytes:
    """A transport packet with so many bytes of payload."""
    head = bytes([0x47, pid >> 8, pid & 255, (0x10 if payload == 184 else 0x30) | counter & 15])
    stuffing = b"" if payload == 184 else bytes([183 - payload, *([0] if payload < 183 else [])])
    return (head + stuffing).ljust(188 - payload, b"\xff") + bytes(payload)


@pytest.mark.parametrize("around", [(b"", b""), (b"time", b""), (b"", bytes(16))])
def test_a_stretch_is_whole_if_no_packet_is_missing(around: tuple[bytes, bytes]) -> None:
    sound = [packet(13, 184), packet(0, 90, 257), packet(14, 184), packet(15, 184), packet(16, 20), packet(0, 184, 0)]
    joined = [around[0] + one + around[1] for one in sound]
    assert is_whole(b"".join(joined), PID)
    for lost in (2, 3, 4):
        assert not is_whole(b"".join(joined[:lost] + joined[lost + 1 :]), PID), lost
    assert not is_whole(b"".join(joined[:4]), PID), "the end may be missing"
    assert not is_whole(b"".join(joined), 300)
    assert not is_whole(b"", PID)


def test_any_bytes_are_read_without_a_fault() -> None:
    random_ = random.Random(5)
    for _ in range(300):
        data = bytearray(random_.randbytes(random_.randint(0, 6) * 188 + random_.choice([0, 0, 7])))
        data[::188] = b"\x47" * len(data[::188])
        is_whole(bytes(data), random_.choice([PID, data[2] if len(data) > 2 else 0]))
