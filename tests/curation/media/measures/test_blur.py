"""Blur: the variance of the Laplacian, and why its median is the report's majority vote."""

import cv2
import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from curation.media.measures.blur import laplacian_variance, sharpness


def test_the_variance_is_opencvs() -> None:
    picture = np.random.default_rng(0).integers(0, 256, (90, 160), np.uint8)
    expected = cv2.Laplacian(picture, cv2.CV_64F).var()
    assert abs(laplacian_variance(picture) - expected) < 1e-6 * expected


def test_blurring_lowers_it_and_flat_is_zero() -> None:
    picture = np.random.default_rng(0).integers(0, 256, (90, 160), np.uint8)
    assert laplacian_variance(cv2.GaussianBlur(picture, (9, 9), 3)) < 0.01 * laplacian_variance(picture)
    assert laplacian_variance(np.full((90, 160), 7, np.uint8)) == 0.0


@given(st.lists(st.floats(0, 1e4), min_size=5, max_size=5), st.floats(0, 1e4))
def test_the_median_is_below_exactly_when_the_majority_is(variances: list[float], threshold: float) -> None:
    majority = sum(v < threshold for v in variances) >= 3
    assert (sharpness(tuple(variances)) < threshold) == majority
