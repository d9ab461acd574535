"""The default detector's promises, over families of pictures: every cut at its exact frame, and none inside a shot."""

from collections.abc import Iterable, Sequence
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curation.media.shots import scene_rule
from curation.media.shots.base import Boundary
from curation.media.shots.scene_score import SceneScore
from curation.media.shots.table import make
from tests.support.moving import HEIGHT, WIDTH, Planes, holds, lit, mixed, noisy, texture, view

WHITE, BLACK, RED, BLUE = (235, 128, 128), (16, 128, 128), (81, 90, 240), (41, 240, 110)
FAMILY = settings(max_examples=25, deadline=None, derandomize=True)
SEEDS = st.permutations(range(1, 6))
"""Textures whose means of luma all differ."""


def found(frames: Iterable[Planes], fps: float = 25.0) -> list[tuple[int, int]]:
    """The boundaries as (end, start)."""
    scene, detector, boundaries = SceneScore(), make("scene", fps=fps), list[Boundary]()
    for planes in frames:
        boundaries += detector.push(scene.push(*planes), None)
    return [(boundary.end, boundary.start) for boundary in boundaries + detector.finish()]


def cut_at(*frames: int) -> list[tuple[int, int]]:
    return [(frame, frame) for frame in frames]


@FAMILY
@given(
    seeds=SEEDS,
    pattern=st.one_of(
        st.sampled_from([[1], [2], [3], [4], [2, 3], [1, 1, 1, 2]]), st.lists(st.integers(1, 5), min_size=3, max_size=9)
    ),
    speed=st.floats(0, 24),
    lengths=st.lists(st.integers(26, 60), min_size=1, max_size=3),
    noise=st.sampled_from([0.0, 1.0, 3.0]),
    coding=st.sampled_from([0.0, 0.7]),
)
def test_repeated_pictures(
    seeds: list[int], pattern: list[int], speed: float, lengths: list[int], noise: float, coding: float
) -> None:
    random, frames = np.random.default_rng(1), list[Planes]()
    for seed, length in zip(seeds, lengths, strict=False):
        shown, picture = -1, view(seed, 0)
        for number in holds(pattern, length):
            if number != shown:
                shown, picture = number, noisy(view(seed, 100 + number * speed, number * speed / 3, 60), noise, random)
            frames.append(noisy(picture, coding, random))
    assert found(frames) == cut_at(*np.cumsum(lengths)[:-1])


@FAMILY
@given(
    seeds=SEEDS,
    parts=st.one_of(
        st.floats(0.12, 0.88).map(lambda part: [part]),
        st.tuples(st.floats(0.12, 0.45), st.floats(0.55, 0.88)).map(list),
    ),
    gamma=st.sampled_from([1.0, 2.2]),
    speed=st.floats(0, 6),
    noise=st.sampled_from([0.0, 2.0]),
)
def test_a_cut_through_mixed_frames(
    seeds: list[int], parts: list[float], gamma: float, speed: float, noise: float
) -> None:
    random, end = np.random.default_rng(2), 40
    start = end + len(parts)
    frames = []
    for at in range(start + 40):
        old, new = view(seeds[0], 200 + at * speed), view(seeds[1], 200 + at * speed)
        picture = old if at < end else new if at >= start else mixed(old, new, parts[at - end], gamma)
        frames.append(noisy(picture, noise, random))
    assert found(frames) == [(end, start)]


@FAMILY
@given(
    seed=st.integers(1, 5),
    colour=st.sampled_from([WHITE, BLACK, RED, BLUE]),
    parts=st.lists(st.floats(0.5, 1), min_size=1, max_size=3),
    speed=st.floats(0, 6),
    fps=st.sampled_from([12, 25, 30, 60, 120]),
)
def test_a_flash_is_no_cut(seed: int, colour: Sequence[int], parts: list[float], speed: float, fps: int) -> None:
    frames = [view(seed, 200 + at * speed * min(1, 30 / fps)) for at in range(90)]
    # At high rates each lasts as long; there, of one strength.
    lights = parts if fps <= 30 else [parts[0]] * (len(parts) * fps // 30)
    for at, part in enumerate(lights, start=45):
        frames[at] = lit(frames[at], colour, part)
    assert found(frames, fps) == []


@FAMILY
@given(seeds=SEEDS, speed=st.floats(0, 6), noise=st.sampled_from([0.0, 2.0]), parts=st.sampled_from([[], [0.5]]))
def test_a_cut_between_pictures_of_one_brightness(
    seeds: list[int], speed: float, noise: float, parts: list[float]
) -> None:
    def picture(seed: int, at: int) -> Planes:
        return view(seeds[0], 200 + at * speed)[0], *view(seed, 200 + at * speed)[1:]

    random, end = np.random.default_rng(3), 40
    frames = [picture(seeds[at >= end + len(parts)], at) for at in range(80)]
    for at, part in enumerate(parts, start=end):
        frames[at] = mixed(picture(seeds[0], at), picture(seeds[1], at), part)
    assert found([noisy(frame, noise, random) for frame in frames]) == [(end, end + len(parts))]


@pytest.mark.parametrize("fps", [12, 16, 24, 25, 30, 48, 50, 60, 100, 120, 144, 240])
@pytest.mark.parametrize("filmed", [None, 12, 24])
def test_rates(fps: int, filmed: int | None) -> None:
    """The same content at any rate, seen anew in every frame or filmed at a low rate and repeated."""
    frames = []
    for at in range(6 * fps):
        time = at / fps if filmed is None else int(at / fps * filmed) / filmed
        frames.append(view(1 + int(time // 2), 100 + time * 110, 40 * np.sin(time * 3), 60))
    assert found(frames, fps) == cut_at(2 * fps, 4 * fps)


@FAMILY
@given(seeds=SEEDS, speed=st.floats(10, 40), shake=st.floats(0, 5), start=st.integers(0, 30))
def test_a_fast_pan_and_a_shaken_camera(seeds: list[int], speed: float, shake: float, start: int) -> None:
    random, frames, x = np.random.default_rng(4), [], 100.0
    for at in range(120):
        x += speed if at % 60 >= start else 0
        dx, dy = random.normal(0, shake, 2)
        frames.append(view(seeds[at >= 60], x + dx, 300 + dy, 60))
    assert found(frames) == cut_at(60)


@FAMILY
@given(
    seed=st.integers(1, 5),
    on=st.integers(1, 3),
    off=st.integers(1, 6),
    colours=st.sampled_from([[WHITE], [BLACK], [RED, BLUE], [WHITE, BLACK]]),
    part=st.floats(0.3, 1),
)
def test_a_strobe_light(seed: int, on: int, off: int, colours: list[Sequence[int]], part: float) -> None:
    frames = []
    for at in range(120):
        turn, phase = divmod(at, on + off)
        picture = view(seed, 200 + at)
        frames.append(lit(picture, colours[turn % len(colours)], part) if 20 <= at < 100 and phase < on else picture)
    assert found(frames) == []


def test_the_textures_differ() -> None:
    """Else the families above would hold no cut."""
    y = [texture(seed)[0][:HEIGHT, :WIDTH].astype(int) for seed in range(1, 6)]
    assert min(np.abs(a - b).mean() for a in y for b in y if a is not b) > 20


@FAMILY
@given(seeds=SEEDS, mixes=st.lists(st.integers(0, 3), min_size=4, max_size=4), fog=st.floats(0, 0.98))
def test_what_is_passed_over_unseen_is_no_boundary(seeds: list[int], mixes: list[int], fog: float) -> None:
    """Steps that are too short for a jump spare the look at the pictures, and change nothing."""
    frames = list[Planes]()
    for (old, new), count in zip(pairwise(seeds), mixes, strict=True):
        before, after = (lit(view(seed, 0), WHITE, fog) for seed in (old, new))
        frames += [before] * 20 + [mixed(before, after, k / (count + 1)) for k in range(1, count + 1)] + [after] * 20
    usual = found(frames)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(scene_rule, "_ROUNDING", float("inf"))
        assert found(frames) == usual
