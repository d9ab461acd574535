"""Geometry: sizes, orientation, and the one function that fits a plane."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from curation.contract import Crop, Facts
from curation.media.pictures.geometry import clip_size, fit, upright, view

FACTS = Facts("mov", "h264", "High", "yuv420p", 1920, 1080, 1920, 1080, 0, False, 1.0, 25.0, False, 10.0, 250, 1e6)


@given(
    st.integers(16, 8000),
    st.integers(16, 8000),
    st.sampled_from([0, 90, 180, 270]),
    st.sampled_from([1.0, 1.005, 0.5, 2.0, 16 / 15]),
)
def test_a_clip_is_even_and_never_longer_than_the_limit(width: int, height: int, rotation: int, sar: float) -> None:
    size = clip_size(Crop(0, 0, width, height), replace(FACTS, rotation=rotation, sar=sar), 1080)
    assert all(side % 2 == 0 and 2 <= side <= 1080 for side in size)
    shown = (width * (sar if abs(sar - 1) > 0.01 else 1), height)
    shown = shown[::-1] if rotation in (90, 270) else shown
    if min(size) > 20:
        assert size[0] / size[1] == pytest.approx(shown[0] / shown[1], rel=0.1)


def test_known_sizes() -> None:
    assert clip_size(Crop(0, 0, 1920, 1080), FACTS, 1080) == (1080, 608)
    assert clip_size(Crop(0, 0, 640, 360), FACTS, 1080) == (640, 360)
    assert clip_size(Crop(0, 0, 1920, 1080), replace(FACTS, rotation=90), 1080) == (608, 1080)
    assert clip_size(Crop(0, 0, 720, 576), replace(FACTS, sar=16 / 15), 1080) == (768, 576)


def test_fit_leaves_a_fitting_plane_alone_and_averages_strong_reductions() -> None:
    plane = np.random.default_rng(0).integers(0, 256, (64, 96), np.uint8)
    assert fit(plane, 96, 64) is plane
    checker = np.indices((256, 256)).sum(0).astype(np.uint8) % 2 * 255
    assert abs(int(fit(checker, 32, 32).mean()) - 127) <= 1
    assert fit(checker, 32, 32).std() < 2, "aliasing"


def test_upright_turns_clockwise_and_view_copies_nothing() -> None:
    plane = np.array([[1, 2], [3, 4]], np.uint8)
    assert upright(plane, 90).tolist() == [[3, 1], [4, 2]]
    assert upright(plane, 180).tolist() == [[4, 3], [2, 1]]
    assert upright(plane, 270).tolist() == [[2, 4], [1, 3]]
    whole = np.zeros((20, 30), np.uint8)
    assert np.shares_memory(view(whole, Crop(4, 2, 10, 8)), whole)
    assert view(whole, Crop(4, 2, 10, 8), 2).shape == (4, 5)
