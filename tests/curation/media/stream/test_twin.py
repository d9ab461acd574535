"""Damaged VP8: pictures that show what lay in memory are in no clip, and both passes agree on all others."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import av
import pytest

from curation.media import frames
from curation.media.frames import checksum
from tests.support import light
from tests.support.measuring import LENIENT, as_clips, cuts, measured

PLAN = replace(LENIENT, clips=replace(LENIENT.clips, min_s=0.2))
VP8 = (
    "-c:v",
    "libvpx",
    "-b:v",
    "2M",
    "-g",
    "20",
    "-keyint_min",
    "20",
    "-auto-alt-ref",
    "0",
    "-deadline",
    "good",
    "-cpu-used",
    "8",
)
HURT = 30


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three seconds with a key picture every 20."""
    folder = tmp_path_factory.mktemp("vp8")
    return light.write(folder / "a.webm", light.moving(75, 320, 180), *VP8)


@pytest.fixture(scope="module")
def hurt(whole: Path) -> Path:
    """The same with the second half of one packet written over."""
    with av.open(str(whole)) as container:
        packet = [bytes(packet) for packet in container.demux(video=0) if packet.size][HURT]
    content, half = whole.read_bytes(), len(packet) // 2
    end = content.index(packet) + len(packet)
    path = whole.with_name("hurt.webm")
    path.write_bytes(content[: end - half] + b"\xff" * half + content[end:])
    return path


def checks(path: Path, keep: bool) -> list[int]:
    """Of all pictures, of which none are marked: decoded while all are kept, or none."""
    kept, made = [], []
    with av.open(str(path)) as container:
        container.streams.video[0].thread_type = "NONE"
        for frame in container.decode(video=0):
            assert not frame.is_corrupt
            made.append(checksum(frame))
            if keep:
                kept.append(frame)
    return made


def test_pictures_that_come_out_otherwise_each_time_are_in_no_clip(hurt: Path) -> None:
    unlike = [at for at, (a, b) in enumerate(zip(checks(hurt, True), checks(hurt, False), strict=True)) if a != b]
    assert unlike, "libav's decoder has been mended: the twin is no longer needed"
    result = measured(hurt, PLAN)
    held = {number for clip in result.clips for number in range(clip.start_frame, clip.end_frame)}
    assert not held & set(unlike)
    assert held >= {*range(HURT), *range(40, 75)}, "more is left out than damage can have reached"
    assert [clip.ended_by for clip in result.clips] == ["damage", "end"]
    clips = as_clips(result)
    for some in (clips, clips[1:], clips[:1]):
        assert len(cuts(hurt, some, PLAN)[0]) == len(some)


def test_what_was_measured_is_not_decoded_twice_to_be_cut(whole: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clips = as_clips(measured(whole, PLAN))
    made: list[int] = []
    monkeypatch.setattr(frames, "Twin", lambda *_: made.append(1))
    assert len(cuts(whole, clips, PLAN)[0]) == 1 and not made
    measured(whole, PLAN)
    assert made


def test_a_whole_film_is_one_clip(whole: Path) -> None:
    result = measured(whole, PLAN)
    assert [(clip.start_frame, clip.end_frame) for clip in result.clips] == [(0, 75)]
    assert result.tally.suspect == 0
    assert len(cuts(whole, as_clips(result), PLAN)[0]) == 1
