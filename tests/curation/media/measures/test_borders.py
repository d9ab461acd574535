"""Black borders: found where they are, and not where a scene is dark."""

import csv

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from curation.contract import Crop
from curation.media.measures.borders import Borders
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
    bright = picture(0, 0)
    assert found(picture(14, 14), bright) == Crop(0, 0, 160, 120)


@given(
    bars=st.tuples(st.integers(12, 40), st.integers(0, 5)),
    overlay=st.tuples(st.integers(0, 30), st.integers(2, 20), st.integers(0, 100), st.integers(10, 100)),
    upper=st.booleans(),
    upright=st.booleans(),
)
def test_what_lies_on_a_bar_does_not_keep_it(
    bars: tuple[int, int], overlay: tuple[int, int, int, int], upper: bool, upright: bool
) -> None:
    """A logo or a subtitle of any place and size that leaves half of the bar's lines black, and its edges."""
    width, more = bars
    plain = picture(width, width + more, height=240, width=320)
    from_edge, height, left, length = overlay
    height = min(height, (width - 4) // 2)
    top = 2 + from_edge % (width - height - 3)
    covered = plain.copy()
    rows = slice(top, top + height) if upper else slice(240 - top - height, 240 - top)
    covered[rows, left : left + length] = 235
    frames = [frame.T if upright else frame for frame in (plain, covered, plain)]
    crop = found(*map(np.ascontiguousarray, frames))
    start, size = (crop.x, crop.width) if upright else (crop.y, crop.height)
    assert start == width + width % 2
    assert 240 - start - size in (width + more, width + more + 1)


def test_bars_of_unlike_width_are_bars_where_they_are_one_even_black() -> None:
    assert found(picture(30, 40, height=240)) == Crop(0, 30, 160, 170)
    uneven = picture(30, 40, height=240)
    uneven[200:] = np.linspace(23, 16, 40).astype(np.uint8)[:, None]
    uneven[:30] = np.linspace(16, 23, 30).astype(np.uint8)[:, None]
    assert found(uneven) == Crop(0, 0, 160, 240)


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
