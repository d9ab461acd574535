"""Black borders: found where they are, and not where a scene is dark."""

import csv

import numpy as np
import pytest

from curation.contract import Crop
from curation.media.borders import Borders
from tests.support.measuring import measured
from tests.support.shared import VIDEOS, need

LIMIT = 24.0


def found(*frames: np.ndarray) -> Crop:
    borders = Borders(LIMIT)
    for frame in frames:
        borders.push(frame)
    return borders.crop()


def picture(top: int = 0, bottom: int = 0, left: int = 0, right: int = 0, height: int = 120, width: int = 160):
    frame = np.full((height, width), 16, np.uint8)
    frame[top : height - bottom, left : width - right] = 90
    return frame


def test_letterbox_and_pillarbox() -> None:
    assert found(picture(top=14, bottom=14)) == Crop(0, 14, 160, 92)
    assert found(picture(left=20, right=20)) == Crop(20, 0, 120, 120)
    assert found(picture(14, 14, 20, 20)) == Crop(20, 14, 120, 92)


def test_the_crop_is_even_and_holds_no_border_line() -> None:
    crop = found(picture(top=13, bottom=13, left=7, right=9))
    assert (crop.x, crop.y) == (8, 14)
    assert crop.x + crop.width <= 160 - 9
    assert crop.y + crop.height <= 120 - 13
    assert all(value % 2 == 0 for value in (crop.x, crop.y, crop.width, crop.height))


@pytest.mark.parametrize("frame", [picture(left=40), picture(top=30, bottom=4), picture(top=55, bottom=55)])
def test_a_dark_side_without_a_twin_is_scene(frame: np.ndarray) -> None:
    assert found(frame) == Crop(0, 0, 160, 120)


def test_a_border_must_be_black_in_every_frame() -> None:
    subtitle = picture(14, 14)
    subtitle[108:116, 20:140] = 235
    assert found(picture(14, 14), subtitle) == Crop(0, 0, 160, 120)


def test_black_frames_say_nothing() -> None:
    black = np.full((120, 160), 16, np.uint8)
    assert found(black) == Crop(0, 0, 160, 120)
    assert found(black, picture(14, 14)) == Crop(0, 14, 160, 92)


def test_odd_sizes_lose_a_line() -> None:
    assert found(np.full((81, 121), 90, np.uint8)) == Crop(0, 0, 120, 80)


def test_labelled_borders_of_real_clips() -> None:
    rows = csv.DictReader(need(VIDEOS / "labels.csv").open())
    labelled = {row["file"]: row["black_borders"] for row in rows}
    boxed = {name for name, text in labelled.items() if text.startswith(("top", "left .113", "left/right"))}
    assert len(boxed) == 3
    for name in boxed | {"torchcodec__nasa_13013.mp4", "media__sowt-with-video.mov", "sam2__04_coffee.mp4"}:
        result = measured(need(VIDEOS / name))
        whole = (result.facts.coded_width, result.facts.coded_height)
        cropped = [(c.crop.width, c.crop.height) != whole for c in result.clips]
        assert all(cropped) if name in boxed else not any(cropped), name
