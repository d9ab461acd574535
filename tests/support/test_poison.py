"""Each poison file is what it says, and would do harm if nobody stopped it, or it would test nothing.

What the sandbox makes of the corpus is tested beside the sandbox.
"""

from __future__ import annotations

import hashlib
import itertools
import stat
from pathlib import Path

import av
import pytest
from av.error import FFmpegError, InvalidDataError
from av.stream import Disposition

from curation.contract import Reason
from tests.support import media, poison

GUARD = {"format_whitelist": "mov,matroska,mpegts,h264", "protocol_whitelist": "file"}


@pytest.fixture(scope="module")
def corpus() -> dict[str, Path]:
    return poison.corpus()


def decode(path: Path, **options: str) -> tuple[int, int, tuple[int, int]]:
    """Packets, frames and picture size by a decoder that trusts the file; a broken packet is passed over."""
    packets = frames = 0
    with av.open(str(path), options=options) as container:
        video = container.streams.video[0]
        for packet in container.demux(video):
            packets += packet.size > 0
            try:
                frames += len(packet.decode())
            except InvalidDataError:
                continue
        return packets, frames, (video.width, video.height)


def pts(path: Path) -> list[int | None]:
    with av.open(str(path)) as container:
        return [packet.pts for packet in container.demux(video=0) if packet.size]


def files(folder: dict[str, Path]) -> dict[str, str]:
    regular = {name: path for name, path in folder.items() if path.is_file() and not path.is_symlink()}
    return {name: hashlib.sha256(path.read_bytes()).hexdigest() for name, path in regular.items()}


def test_builders_are_deterministic_and_no_two_are_equal(corpus: dict[str, Path], tmp_path: Path) -> None:
    hashes = files(corpus)
    assert files(poison.build(tmp_path / "again")) == hashes
    assert len(set(hashes.values())) == len(hashes) == len(corpus) - 4  # pipe, folder, two links


def test_names_are_unique_and_nothing_else_lies_in_the_folder(corpus: dict[str, Path]) -> None:
    assert len(poison.EXPECTED) == len(poison.POISON)
    assert {path.name for path in corpus["zero-bytes.mp4"].parent.iterdir()} == set(corpus)


def test_every_reason_that_a_file_alone_can_cause_is_in_the_corpus() -> None:
    by_rule = {Reason.LOW_BPP, Reason.LOW_FPS, Reason.BAD_ASPECT, Reason.BANNED_PROFILE, Reason.INTERLACED, Reason.HDR}
    by_rule |= {Reason.TOO_SMALL}  # of images; tests/curation/media/still has them
    by_service = {Reason.WORKER_LOST, Reason.INTERNAL, Reason.OTHER_FRAMES, Reason.TAKEN_DOWN}
    assert set(Reason) - by_rule - by_service == set(poison.EXPECTED.values()) - {None}


@pytest.mark.parametrize("name", ["ffconcat.mp4", "playlist.m3u8"])
def test_a_trusting_decoder_would_decode_the_neighbour(corpus: dict[str, Path], name: str) -> None:
    assert decode(corpus[name])[1:] == (96, poison.NEIGHBOUR_SIZE)
    with pytest.raises(FFmpegError):
        decode(corpus[name], protocol_whitelist="file", format_whitelist=GUARD["format_whitelist"])


def test_a_protocol_list_alone_does_not_stop_a_playlist(corpus: dict[str, Path]) -> None:
    assert decode(corpus["ffconcat.mp4"], protocol_whitelist="file")[2] == poison.NEIGHBOUR_SIZE


def test_references_follow_the_neighbour_only_when_drefs_are_on(corpus: dict[str, Path]) -> None:
    assert decode(corpus["alias-reference.mov"], enable_drefs="1")[1] == 96
    assert decode(corpus["alias-reference.mov"])[1] == 0
    assert decode(corpus["url-reference.mov"])[1] == 0
    assert b"url \0\0\0\0neighbour.mp4" in corpus["url-reference.mov"].read_bytes()


@pytest.mark.parametrize("kind", ["playlist", "session", "image", "random-bytes", "no-moov"])
def test_does_not_open_under_guard(corpus: dict[str, Path], kind: str) -> None:
    with pytest.raises(FFmpegError):
        av.open(str(corpus[f"{kind}.mp4"]), options=dict(GUARD))


# name: packets, frames that a plain decode gives. Exact: a build of libav that differs should be looked at.
DECODED = {
    "truncated.mp4": (30, 29),
    "last-frames-cut.mp4": (93, 92),
    "bits-flipped.mp4": (96, 96),
    "garbage-payload.mp4": (96, 19),
    "header-only.mp4": (0, 0),
    "negative-timestamps.mp4": (108, 72),
    "third-untimed.mkv": (108, 108),
    "no-timestamps.h264": (96, 96),
    "clock-wraps.ts": (96, 96),
    "equal-timestamps.mkv": (96, 96),
    "backward-timestamps.mkv": (96, 96),
    "says-3-hours.mkv": (96, 96),
    "says-100-ms.mp4": (96, 96),
    "neighbour.mp4": (96, 96),
    "neighbour.ts": (96, 96),
    "single-frame.mp4": (1, 1),
    "one-pixel.mkv": (72, 72),
    "fault-hang.mp4": (72, 72),
}


@pytest.mark.parametrize("name", DECODED)
def test_packets_and_frames(corpus: dict[str, Path], name: str) -> None:
    assert decode(corpus[name])[:2] == DECODED[name]


def test_timestamps_are_as_named(corpus: dict[str, Path]) -> None:
    assert (pts(corpus["negative-timestamps.mp4"])[0] or 0) < 0
    assert (pts(corpus["clock-wraps.ts"])[0] or 0) < 0 < (pts(corpus["clock-wraps.ts"])[-1] or 0)
    assert set(pts(corpus["no-timestamps.h264"])) == {None}
    third = pts(corpus["third-untimed.mkv"])
    assert (third.count(None), len(third), third[-1] is None) == (36, 108, False)
    assert set(pts(corpus["equal-timestamps.mkv"])) == {0}
    backward = [value for value in pts(corpus["backward-timestamps.mkv"]) if value is not None]
    assert backward == sorted(backward, reverse=True)
    assert len(set(backward)) == 96


@pytest.mark.parametrize(("name", "claim"), [("says-3-hours.mkv", 10800), ("says-100-ms.mp4", 0.1)])
def test_the_header_lies(corpus: dict[str, Path], name: str, claim: float) -> None:
    with av.open(str(corpus[name])) as container:
        assert (container.duration or 0) / av.time_base == pytest.approx(claim, rel=0.01)


def test_streams_are_as_named(corpus: dict[str, Path]) -> None:
    with av.open(str(corpus["audio-only.m4a"])) as container:
        assert not container.streams.video
    with av.open(str(corpus["cover-art.m4a"])) as container:
        (picture,) = container.streams.video
        assert picture.disposition & Disposition.attached_pic
    with av.open(str(corpus["unknown-codec.mp4"])) as container:
        assert container.streams.video[0].codec_context is None
    assert decode(corpus["one-pixel.mkv"])[2] == (1, 1)


def test_bombs_are_small_and_claim_much(corpus: dict[str, Path]) -> None:
    assert corpus["pixel-bomb.mp4"].stat().st_size < 1 << 20
    with av.open(str(corpus["pixel-bomb.mp4"])) as container:
        video = container.streams.video[0]
        assert (video.width, video.height, video.frames) == (16384, 8192, 72)
    assert corpus["frame-bomb.mp4"].stat().st_size < 1 << 19
    with av.open(str(corpus["frame-bomb.mp4"])) as container:
        assert container.streams.video[0].frames == poison.HOURS_OF_FRAMES
        first = itertools.islice(container.decode(video=0), 50)
        sums = [frame.to_ndarray(format="gray").sum() for frame in first]
        assert len(sums) == 50
        assert len(set(sums)) == 1


def test_what_is_no_file(corpus: dict[str, Path]) -> None:
    assert corpus["zero-bytes.mp4"].stat().st_size == 0
    assert stat.S_ISFIFO(corpus["pipe.mp4"].stat().st_mode)
    assert corpus["folder.mp4"].is_dir()
    assert corpus["link-broken.mp4"].is_symlink()
    assert not corpus["link-broken.mp4"].exists()
    link = corpus["link-outside.mp4"]
    assert link.is_file()
    assert not link.resolve().is_relative_to(link.parent.resolve())


def test_fault_files_are_otherwise_valid(corpus: dict[str, Path]) -> None:
    faults = [name for name in corpus if name.startswith("fault-")]
    assert len(faults) == 4
    plain = media.make(corpus["zero-bytes.mp4"].parents[1] / "plain.mp4", seconds=3)
    assert {decode(corpus[name]) for name in faults} == {decode(plain)}
