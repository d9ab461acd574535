"""Rates: what times say, whatever was lost, rounded or paused; and cadences that lose no more frames than needed."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from curation.contract import Ending
from curation.media.plan import ClipPlan
from curation.media.stream.rates import Cadence, RateRun, cadence, rate_runs

PLAN = ClipPlan()
RATES = st.sampled_from(
    [12.0, 15.0, 23.976, 24.0, 25.0, 29.97, 30.0, 30.05, 48.0, 50.0, 59.94, 60.0, 60.15, 90.0, 120.0, 240.0]
)
TICKS = st.sampled_from([1 / 90_000, 1 / 1000, 1 / 600])


def only(times: np.ndarray, tick: float = 1e-3) -> RateRun:
    ((run, why),) = rate_runs(times, tick=tick)
    assert why is None
    return run


def paced(fps: float, plan: ClipPlan = PLAN, least: float = 16.0) -> Cadence:
    return cadence(only(np.arange(600) / fps), plan, least)


@given(RATES, TICKS, st.integers(120, 900), st.sets(st.integers(1, 118), max_size=3))
def test_the_rate_is_the_grids_whatever_is_rounded_or_lost(
    fps: float, tick: float, frames: int, lost: set[int]
) -> None:
    numbers = np.setdiff1d(np.arange(frames), list(lost))
    run = only(np.round(numbers / fps / tick) * tick, tick)
    assert run.ticks is not None
    assert run.ticks.tolist() == numbers.tolist()
    assert run.rate == pytest.approx(fps, rel=2e-3)


@given(RATES, st.lists(st.tuples(st.integers(40, 200), st.floats(1.1, 1e4)), min_size=1, max_size=4))
def test_a_pause_parts_runs_and_changes_no_rate(fps: float, pieces: list[tuple[int, float]]) -> None:
    times, edges, now = [], [], 0.0
    for frames, pause in pieces:
        edges.append(sum(map(len, times)))
        times.append(now + np.arange(frames) / fps)
        now = times[-1][-1] + pause
    found = rate_runs(np.concatenate(times))
    assert [run.first for run, _ in found] == edges
    assert [why for _, why in found] == [None] + [Ending.GAP] * (len(pieces) - 1)
    for run, _ in found:
        assert run.rate == pytest.approx(fps, rel=1e-6)


@pytest.mark.parametrize(("before", "after"), [(25, 30), (30, 25), (24, 25), (50, 25), (23.976, 59.94)])
@pytest.mark.parametrize("at", [64, 100, 177])
def test_another_rate_begins_where_it_begins(before: float, after: float, at: int) -> None:
    first = np.arange(at + 1) / before
    found = rate_runs(np.concatenate([first[:-1], first[-1] + np.arange(200) / after]))
    assert [why for _, why in found] == [None, Ending.RATE]
    assert found[1][0].first == at
    assert [run.rate for run, _ in found] == pytest.approx([before, after], rel=1e-3)


@pytest.mark.parametrize("tick", [1e-6, 1e-3])
@pytest.mark.parametrize(("fields", "base"), [((2, 3), 60_000 / 1001), ((1, 1, 1, 2), 30.0), ((3, 2), 60.0)])
def test_pull_down_is_the_films_rate_and_every_picture_once(fields: tuple[int, ...], base: float, tick: float) -> None:
    shown = np.cumsum([0, *(fields * 60)])[:200]
    run = only(np.round(shown / base / tick) * tick)
    assert run.rate == pytest.approx(base * len(fields) / sum(fields), rel=1e-4)
    pace = cadence(run, PLAN, 16)
    assert pace.ticks.tolist() == list(range(len(shown)))
    assert float(pace.fps) == pytest.approx(base * len(fields) / sum(fields), rel=1e-4)


def test_an_irregular_rate_is_put_on_a_constant_grid() -> None:
    steps = np.random.default_rng(3).uniform(0.02, 0.08, 300)
    run = only(np.cumsum(steps))
    assert run.ticks is None
    pace = cadence(run, PLAN, 16)
    at = run.times - run.times[0]
    assert np.all(np.abs(pace.ticks / pace.rate - at) <= 1 / pace.rate)


@pytest.mark.parametrize(
    ("fps", "stride", "clip_fps"),
    [
        (23.976, 1, Fraction(24000, 1001)),
        (25.0, 1, Fraction(25)),
        (30.0, 1, Fraction(30000, 1001)),
        (30.05, 1, Fraction(30000, 1001)),
        (48.0, 2, Fraction(24)),
        (50.0, 2, Fraction(25)),
        (59.94, 2, Fraction(30000, 1001)),
        (60.15, 2, Fraction(30000, 1001)),
        (90.0, 3, Fraction(30000, 1001)),
        (120.0, 4, Fraction(30000, 1001)),
        (240.0, 8, Fraction(30000, 1001)),
    ],
)
def test_a_constant_rate_is_brought_under_30_by_whole_frames(fps: float, stride: int, clip_fps: Fraction) -> None:
    pace = paced(fps)
    assert pace.ticks.tolist() == [index // stride for index in range(600)]
    assert pace.fps == clip_fps
    assert [index for index in range(10 * stride) if pace.leads(index)] == list(range(0, 10 * stride, stride))


@given(st.floats(16, 240), st.sampled_from([16.0, 24.0, 25.0, 30000 / 1001, 60.0]))
def test_no_clip_is_below_the_least_rate_or_above_the_most(fps: float, most: float) -> None:
    pace = paced(fps, ClipPlan(max_fps=most))
    assert 16 - 1e-2 <= pace.fps <= most + 1e-9
    taken = len(set(pace.ticks.tolist()))
    stride = math.ceil(fps / (most * 1.005))
    regular = 600 / stride
    assert taken >= min(regular, 600 * most / fps) - 1, "more frames are lost than needed"


@pytest.mark.parametrize(
    ("source", "target", "made"),
    [(24, 24, 24), (29.97, 24, 29.97), (60, 24, 20), (120, 24, 24), (25, 30, 25), (48, 24, 24)],
)
def test_a_target_rate_takes_the_nearest_regular_stride(source: float, target: float, made: float) -> None:
    assert float(paced(source, ClipPlan(fps=target)).fps) == pytest.approx(made, rel=2e-3)


@given(st.floats(16, 240), st.floats(1, 240), st.floats(0, 60), st.sampled_from([16.0, 25.0, 30000 / 1001, 60.0]))
def test_a_target_never_leads_above_the_source_or_below_the_least_rate(
    source: float, target: float, least: float, most: float
) -> None:
    pace = paced(source, ClipPlan(fps=min(target, most), max_fps=most), least)
    assert pace.fps <= min(source * 1.002, most + 1e-9)
    assert pace.fps >= min(least, most, source) * 0.995
    taken = len(set(pace.ticks.tolist()))
    assert taken == pytest.approx(600 * float(pace.fps) / source, abs=2 + 600 * 0.005), "a picture is shown twice"


@given(RATES.filter(lambda fps: fps <= 30), st.floats(0.5, 10), st.floats(0, 5))
def test_a_clip_length_is_within_the_recipe_or_the_nearest_number_of_frames(
    fps: float, low: float, more: float
) -> None:
    least, most = ClipPlan(min_s=low, max_s=low + more).lengths(fps)
    assert 1 <= least <= most
    if least < most:
        assert low - 1e-3 <= least / fps <= most / fps <= low + more + 1e-3
    else:
        assert abs(least / fps - (low + more / 2)) <= max(1 / fps, more)


def test_a_length_in_frames_is_exactly_that() -> None:
    assert ClipPlan(frames=129).lengths(24) == ClipPlan(frames=129).lengths(29.97) == (129, 129)
    assert ClipPlan(min_s=5.0, max_s=5.0).lengths(30000 / 1001) == (150, 150)
