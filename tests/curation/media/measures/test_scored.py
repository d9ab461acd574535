"""The size at which scores are made: its short side whatever the clip's own, turned as coded."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from curation.contract import Crop, Facts
from curation.media.measures.blur import laplacian_variance
from curation.media.measures.motion import Motion
from curation.media.measures.scored import ScoredSize
from curation.media.pictures.geometry import clip_size, fit

FACTS = Facts("mov", "h264", "High", "yuv420p", 1920, 1080, 1920, 1080, 0, False, 1.0, 25.0, False, 10.0, 250, 1e6)


@given(
    st.integers(200, 8000),
    st.floats(1 / 3, 3),
    st.sampled_from([0, 90, 180, 270]),
    st.sampled_from([1.0, 0.5, 16 / 15]),
    st.integers(30, 1080).map(lambda n: 2 * n),
)
def test_a_clip_is_scored_at_the_side_whatever_its_own_size(
    width: int, aspect: float, rotation: int, sar: float, side: int
) -> None:
    crop, facts = Crop(0, 0, width, max(16, round(width / aspect))), replace(FACTS, rotation=rotation, sar=sar)
    size, own = ScoredSize.of(crop, facts, 1080, side), clip_size(crop, facts, 1080)
    coded = own[::-1] if rotation in (90, 270) else own
    assert min(size.width, size.height) == side
    assert size.width / size.height == pytest.approx(coded[0] / coded[1], rel=0.04)
    assert ScoredSize.of(crop, facts, 1080, 0) == ScoredSize(*coded, shared=False)


def scene(lines: int, at: int) -> np.ndarray:
    """A frame of a moving scene with detail at all scales, seen with so many lines."""
    rng = np.random.default_rng(7)
    whole = np.zeros((1260, 2240), np.float32)
    for n in (2, 5, 12, 30):
        noise = rng.normal(0, 10, (9 * n, 16 * n)).astype(np.float32)
        whole += cv2.resize(noise, (2240, 1260), interpolation=cv2.INTER_CUBIC)
    part = whole[at : at + 1080, 3 * at : 3 * at + 1920]
    small = cv2.resize(part, (lines * 16 // 9 // 2 * 2, lines), interpolation=cv2.INTER_AREA)
    return np.clip(small + 128, 0, 255).astype(np.uint8)


def scores(lines: int, side: int) -> tuple[float, float]:
    """Motion and the Laplacian's variance of that scene, at a side."""
    frames = [scene(lines, 4 * at) for at in range(6)]
    height, width = frames[0].shape
    facts = replace(FACTS, coded_width=width, coded_height=height)
    size, motion = ScoredSize.of(Crop(0, 0, width, height), facts, 2000, side), Motion()
    for frame in frames:
        motion.push(*size.for_motion(frame))
    return motion.mean(len(frames)), laplacian_variance(size.for_sharpness(frames[0]))


def test_a_side_in_common_makes_scores_of_one_scene_alike() -> None:
    """Over all sizes down to the side; motion also below it."""
    own, common = ({n: scores(n, side) for n in (1080, 720, 540, 450, 360)} for side in (0, 360))
    for index, within in ((0, 1.1), (1, 1.8)):
        spread = {kind: [found[index] for found in one.values()] for kind, one in (("own", own), ("common", common))}
        assert max(spread["common"]) / min(spread["common"]) < within
        assert max(spread["own"]) / min(spread["own"]) > 1.25 * max(spread["common"]) / min(spread["common"])
    for lines in (180, 240, 270, 340):
        assert scores(lines, 360)[0] == pytest.approx(common[1080][0], rel=0.1)


def test_at_its_own_size_a_clip_is_scored_as_it_is_encoded() -> None:
    plane = scene(720, 0)
    size = ScoredSize.of(Crop(0, 0, 1280, 720), replace(FACTS, coded_width=1280, coded_height=720), 640, 0)
    for_motion, scale = size.for_motion(plane)
    assert scale == 1.0
    for found in (for_motion, size.for_sharpness(plane)):
        assert np.array_equal(found, fit(plane, 640, 360))
