"""Each sample video is what its name says, read back by PyAV: a test that uses one can believe it."""

from __future__ import annotations

import itertools
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from tests.support import media

# name: (codec, pixel format, width, height, frames, fps), as coded
FACTS = {
    "plain.mp4": ("h264", "yuv420p", 320, 180, 96, 24),
    "sound.mp4": ("h264", "yuv420p", 320, 180, 96, 24),
    "scenes.mp4": ("h264", "yuv420p", 320, 180, 240, 24),
    "long_shot.mp4": ("h264", "yuv420p", 320, 180, 456, 24),
    "still.mp4": ("h264", "yuv420p", 320, 180, 72, 24),
    "noise.mp4": ("h264", "yuv420p", 320, 180, 72, 24),
    "letterboxed.mp4": ("h264", "yuv420p", 320, 240, 96, 24),
    "pillarboxed.mp4": ("h264", "yuv420p", 320, 180, 96, 24),
    "rotated.mp4": ("h264", "yuv420p", 320, 180, 96, 24),
    "anamorphic.mp4": ("h264", "yuv420p", 240, 180, 96, 24),
    "variable_rate.mp4": ("h264", "yuv420p", 320, 180, 72, 18.13),
    "ten_bit.mp4": ("h264", "yuv420p10le", 320, 180, 96, 24),
    "mpeg2.mpg": ("mpeg2video", "yuv420p", 320, 180, 100, 25),
    "vp9.webm": ("vp9", "yuv420p", 320, 180, 96, 24),
    "hevc.mp4": ("hevc", "yuv420p", 320, 180, 96, 24),
    "constrained_baseline.mp4": ("h264", "yuv420p", 320, 180, 96, 24),
    "low_bpp.mp4": ("h264", "yuv420p", 640, 360, 96, 24),
    "fps12.mp4": ("h264", "yuv420p", 320, 180, 48, 12),
    "fps2997.mp4": ("h264", "yuv420p", 320, 180, 120, 29.97),
    "fps50.mp4": ("h264", "yuv420p", 320, 180, 200, 50),
    "fps60.mp4": ("h264", "yuv420p", 320, 180, 240, 60),
    "short.mp4": ("h264", "yuv420p", 320, 180, 36, 24),
    "wide.mp4": ("h264", "yuv420p", 640, 160, 96, 24),
    "tall.mp4": ("h264", "yuv420p", 160, 640, 96, 24),
    "burned_text.mp4": ("h264", "yuv420p", 640, 360, 96, 24),
}


def times(path: Path) -> tuple[list[float], int]:
    """Sorted presentation times of the video packets in seconds, and their bytes."""
    with av.open(str(path)) as container:
        packets = [packet for packet in container.demux(video=0) if packet.size]
        seconds = [float((packet.pts or 0) * (packet.time_base or 0)) for packet in packets]
        return sorted(seconds), sum(packet.size for packet in packets)


def grey(path: Path) -> list[np.ndarray]:
    with av.open(str(path)) as container:
        return [frame.to_ndarray(format="gray") for frame in container.decode(video=0)]


def distance(one: np.ndarray, other: np.ndarray) -> float:
    """Mean absolute difference of the pixels."""
    return float(np.abs(one.astype(int) - other.astype(int)).mean())


def stream(container: Any) -> Any:
    return container.streams.video[0]


def test_the_facts_of_every_sample_are_listed_here() -> None:
    assert set(FACTS) | {"audio_only.m4a"} == set(media.SAMPLES)


@pytest.mark.parametrize("name", FACTS)
def test_codec_size_and_rate_are_as_listed(name: str) -> None:
    codec, pix_fmt, width, height, frames, fps = FACTS[name]
    at, _ = times(media.sample(name))
    with av.open(str(media.sample(name))) as container:
        video = stream(container)
        assert (video.codec_context.name, video.format.name) == (codec, pix_fmt)
        assert (video.width, video.height) == (width, height)
    assert len(at) == frames
    assert (frames - 1) / (at[-1] - at[0]) == pytest.approx(fps, rel=0.002)


@pytest.mark.parametrize("name", FACTS)
def test_only_the_two_named_samples_have_too_few_bits_per_pixel(name: str) -> None:
    _, _, width, height, frames, _ = FACTS[name]
    _, size = times(media.sample(name))
    assert (size * 8 / (width * height * frames) < 0.02) == (name in {"low_bpp.mp4", "still.mp4"})


@pytest.mark.parametrize("name", media.SAMPLES)
def test_making_a_sample_again_gives_the_same_bytes(name: str, tmp_path: Path) -> None:
    assert media.SAMPLES[name](tmp_path / name).read_bytes() == media.sample(name).read_bytes()


def test_profile_rotation_and_sample_aspect() -> None:
    with av.open(str(media.sample("constrained_baseline.mp4"))) as container:
        assert stream(container).profile == "Constrained Baseline"
    with av.open(str(media.sample("plain.mp4"))) as container:
        assert stream(container).profile == "High"
    with av.open(str(media.sample("anamorphic.mp4"))) as container:
        assert stream(container).sample_aspect_ratio == Fraction(4, 3)
    with av.open(str(media.sample("rotated.mp4"))) as container:
        assert next(container.decode(video=0)).rotation == -90  # PyAV counts anticlockwise


def test_audio_only_has_no_video_and_sound_has_both() -> None:
    with av.open(str(media.sample("audio_only.m4a"))) as container:
        assert not container.streams.video
        assert container.streams.audio
    with av.open(str(media.sample("sound.mp4"))) as container:
        assert container.streams.video
        assert container.streams.audio


def test_cuts_are_where_cut_frames_says_and_nowhere_else() -> None:
    frames = grey(media.sample("scenes.mp4"))
    change = [distance(a, b) for a, b in itertools.pairwise(frames)]
    cuts = media.cut_frames((2.5, 3, 2, 2.5))
    assert cuts == [60, 132, 180]
    assert sorted(np.argsort(change)[-3:] + 1) == cuts
    assert min(change[cut - 1] for cut in cuts) > 30


@pytest.mark.parametrize(("kind", "rows", "columns"), [("letterboxed", 50, 0), ("pillarboxed", 0, 60)])
def test_borders_are_black_and_the_inside_is_not(kind: str, rows: int, columns: int) -> None:
    frame = grey(media.sample(f"{kind}.mp4"))[10]
    height, width = frame.shape
    inside = frame[rows : height - rows, columns : width - columns].copy()
    frame[rows : height - rows, columns : width - columns] = 16
    assert frame.max() <= 24
    assert min(inside[0].max(), inside[-1].max(), inside[:, 0].max(), inside[:, -1].max()) > 60


def test_variable_rate_halves_in_the_middle() -> None:
    at, _ = times(media.sample("variable_rate.mp4"))
    steps = np.diff(at)
    assert steps[:40] == pytest.approx(1 / 24, abs=1e-3)
    assert steps[-20:] == pytest.approx(1 / 12, abs=1e-3)


def test_text_is_there_and_a_still_does_not_move() -> None:
    assert (grey(media.sample("burned_text.mp4"))[5][140:220] > 200).mean() > 0.02
    still = grey(media.sample("still.mp4"))
    assert distance(still[1], still[70]) < 0.5


def test_a_failing_graph_reports_ffmpegs_words(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="no_such_encoder"):
        media.make(tmp_path / "x.mp4", vcodec="no_such_encoder")
