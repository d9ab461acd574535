"""Small pictures are the planes made small by OpenCV's linear interpolation, however they are made."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curation.media.pictures.small import WIDTH, small_bgr


def by_interpolation(y: np.ndarray, u: np.ndarray, v: np.ndarray) -> np.ndarray:
    width = min(WIDTH, y.shape[1]) // 2 * 2
    height = max(2, round(y.shape[0] * width / y.shape[1])) // 2 * 2
    size, half = (width, height), (width // 2, height // 2)
    small = [cv2.resize(y, size), cv2.resize(u, half), cv2.resize(v, half)]
    return cv2.cvtColor(np.concatenate([p.ravel() for p in small]).reshape(-1, width), cv2.COLOR_YUV2BGR_I420)


@settings(max_examples=30, deadline=None)
@given(st.sampled_from([1, 2, 3, 4, 5, 7.5]), st.integers(4, 90), st.integers(-2, 2), st.integers(0, 6))
def test_equals_what_interpolation_gives(step: float, lines: int, off: int, padding: int) -> None:
    """Of whole and broken ratios, of rows that are padded."""
    height, width = max(4, int(2 * lines * step) + 2 * off), int(WIDTH * step)
    random = np.random.default_rng(lines)
    y, u, v = (
        random.integers(0, 256, (rows, columns + padding), np.uint8)[:, :columns]
        for rows, columns in ((height, width), (height // 2, width // 2), (height // 2, width // 2))
    )
    assert np.array_equal(small_bgr(y, u, v), by_interpolation(y, u, v))


@pytest.mark.parametrize("size", [(720, 1280), (1080, 1920), (2160, 3840), (360, 640), (144, 256), (90, 160)])
def test_equals_it_at_the_usual_sizes(size: tuple[int, int]) -> None:
    height, width = size
    random = np.random.default_rng(0)
    y, u, v = (random.integers(0, 256, (height // n, width // n), np.uint8) for n in (1, 2, 2))
    assert np.array_equal(small_bgr(y, u, v), by_interpolation(y, u, v))
