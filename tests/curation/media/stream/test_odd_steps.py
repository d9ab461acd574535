"""Rates where some timestamps are wrong: runs hold every picture once, and an odd step moves no rate."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from curation.contract import Ending
from curation.media.plan import ClipPlan
from curation.media.stream.rates import RateRun, cadence, rate_runs

RATES = st.sampled_from([16.0, 23.976, 24.0, 25.0, 29.97, 30.0, 50.0, 59.94, 60.0, 120.0])
TICKS = st.sampled_from([1 / 90_000, 1 / 1000])
ALL, LIMITED = ClipPlan(max_fps=1000), ClipPlan()
"""The first plan leaves out no picture for its rate."""


def hopped(fps: float, pictures: int, hops: dict[int, float]) -> np.ndarray:
    """Seconds of a constant rate in which all pictures from each of these on are later by so many intervals."""
    places = np.arange(pictures, dtype=float)
    for at, hop in hops.items():
        places[at:] += hop
    return places / fps


def rounded(times: np.ndarray, tick: float) -> np.ndarray:
    return np.round(times / tick) * tick


def parted(found: list[tuple[RateRun, Ending | None]]) -> list[tuple[int, int]]:
    return [(run.first, run.end) for run, _ in found]


def check_parts(times: np.ndarray, found: list[tuple[RateRun, Ending | None]]) -> None:
    """Runs hold the pictures in order, each once, and none is empty."""
    edges = parted(found)
    assert edges[0][0] == 0
    assert edges[-1][1] == len(times)
    assert all(first < end for first, end in edges)
    assert all(before[1] == after[0] for before, after in itertools.pairwise(edges))
    for run, _ in found:
        assert len(run.times) == run.end - run.first
        assert run.interval > 0
        assert run.seconds > 0
        ticks = cadence(run, ALL).ticks
        assert len(ticks) == len(run.times)
        assert ticks[0] == 0
        assert np.all(np.diff(ticks) >= 0)


@pytest.mark.parametrize(
    ("fps", "pictures", "hops"),
    [
        (59.94, 312, {111: -0.70}),
        (25, 184, {80: -0.70, 178: 0.52}),
        (50, 263, {176: 0.70}),
        (120, 305, {147: -0.73, 60: -0.47}),
        (59.94, 120, {50: -0.63, 37: 0.57, 73: 0.85, 100: 0.80}),
    ],
)
def test_hops_leave_no_run_empty(fps: float, pictures: int, hops: dict[int, float]) -> None:
    times = hopped(fps, pictures, hops)
    found = rate_runs(times)
    check_parts(times, found)
    assert len(found) == 1


PIECES = st.lists(
    st.tuples(st.integers(1, 90), st.floats(8, 130), st.floats(0, 0.6), st.floats(0.02, 6)), min_size=1, max_size=6
)


@settings(max_examples=60)
@given(PIECES, TICKS, st.randoms(use_true_random=False))
def test_runs_hold_every_picture_once_in_any_timeline(
    pieces: list[tuple[int, float, float, float]], tick: float, random_: np.random.Generator
) -> None:
    """Stretches of any rate and jitter, with any pause between them."""
    steps = [
        max(tick, (1 + jitter * random_.uniform(-1, 1)) * (pause if at == 0 else 1) / fps)
        for pictures, fps, jitter, pause in pieces
        for at in range(pictures)
    ]
    times = rounded(np.cumsum(steps), tick)
    times = times[np.concatenate([[True], np.diff(times) > 0])]
    check_parts(times, rate_runs(times, tick=tick))


def test_runs_hold_every_picture_once_whatever_the_odd_steps() -> None:
    random_ = np.random.default_rng(1)
    for _ in range(600):
        steps = np.full(random_.integers(2, 500), 1 / random_.choice([16, 25, 29.97, 50, 120]))
        odd = random_.integers(0, len(steps), random_.integers(0, len(steps) // 10 + 1))
        steps[odd] *= random_.uniform(0.01, 3, len(odd))
        times = rounded(np.cumsum(steps), random_.choice([1e-3, 1e-6]))
        times = times[np.concatenate([[True], np.diff(times) > 0])]
        check_parts(times, rate_runs(times))


@given(RATES, TICKS, st.integers(100, 400), st.floats(0.02, 0.98), st.floats(-0.9, 0.9))
@example(25.0, 1 / 1000, 200, 0.99, -0.95)
@example(25.0, 1 / 1000, 200, 0.75, 0.5)
@example(120.0, 1 / 1000, 100, 0.5, 0.1875)
def test_one_hop_changes_no_rate_and_loses_no_picture(
    fps: float, tick: float, pictures: int, place: float, hop: float
) -> None:
    times = rounded(hopped(fps, pictures, {round(place * pictures): hop}), tick)
    ((run, _),) = rate_runs(times, tick=tick)
    assert run.ticks is not None
    # A hop of less than a quarter of a step is no hop: a line through all stamps, 1.5 of it steeper over their number.
    assert run.rate == pytest.approx(fps, rel=2e-3 + 1.5 * 0.25 / pictures)
    steps = np.diff(run.ticks)
    if hop < 0.5:  # else it may as well be a lost picture
        assert steps.tolist() == [1] * (pictures - 1)
    assert steps.min() == 1
    assert steps.sum() <= pictures


@given(RATES, TICKS, st.integers(100, 400), st.floats(0.02, 0.98), st.floats(-0.9, 0.9))
def test_one_displaced_stamp_changes_nothing(fps: float, tick: float, pictures: int, place: float, by: float) -> None:
    at = round(place * (pictures - 2))
    times = rounded(hopped(fps, pictures, {at: by, at + 1: -by}), tick)
    ((run, _),) = rate_runs(times, tick=tick)
    assert run.ticks is not None
    assert run.rate == pytest.approx(fps, rel=1e-3)
    assert run.ticks.tolist() == list(range(pictures))


@given(
    RATES, TICKS, st.integers(200, 600), st.lists(st.tuples(st.floats(0.02, 0.98), st.floats(-0.5, 0.5)), max_size=3)
)
def test_a_few_hops_change_no_rate(fps: float, tick: float, pictures: int, hops: list[tuple[float, float]]) -> None:
    places = {round(place * pictures): hop for place, hop in hops}
    ((run, _),) = rate_runs(rounded(hopped(fps, pictures, places), tick), tick=tick)
    assert run.ticks is not None
    assert run.rate == pytest.approx(fps, rel=2e-3)
    if abs(np.cumsum(list(dict(sorted(places.items())).values()))).max(initial=0) < 1.4:
        assert run.ticks.tolist() == list(range(pictures))


@pytest.mark.parametrize("hop", [-0.4, 0.4])
def test_ticks_follow_the_time_over_many_hops(hop: float) -> None:
    """Sound keeps its place beside the pictures."""
    times = hopped(25, 2000, dict.fromkeys(range(50, 2000, 50), hop))
    ((run, _),) = rate_runs(times)
    assert run.ticks is not None
    assert run.rate == pytest.approx(25, rel=1e-3)
    assert np.abs(run.ticks - times * 25).max() < 2
    assert np.count_nonzero(np.diff(run.ticks) != 1) == pytest.approx(39 * 0.4, abs=2)


@pytest.mark.parametrize("hop", [-0.7, -0.4, 0.4, 0.7])
@pytest.mark.parametrize("fields", [(2, 3), (1, 1, 1, 2)])
def test_a_hop_in_pull_down_is_no_change_of_rate(fields: tuple[int, ...], hop: float) -> None:
    places = np.cumsum([0, *(fields * 100)])[:200] * len(fields) / sum(fields)
    for at in range(60, 100):
        late = places + hop * (np.arange(200) >= at)
        found = rate_runs(late / 24)
        assert len(found) == 1
        if fields == (2, 3):  # the other one with a hop is 30 a second as well, with pictures left out
            assert cadence(found[0][0], ALL).rate == pytest.approx(24, rel=1e-2)


@pytest.mark.parametrize(("before", "after"), [(30, 30.5), (25, 24.5), (30, 29.5), (60, 59), (24, 24.6)])
@pytest.mark.parametrize("at", [90, 100, 200])
@pytest.mark.parametrize("tick", [1 / 1000, 1 / 90_000])
def test_a_small_change_of_rate_loses_no_picture_beside_one_repeated(
    before: float, after: float, at: int, tick: float
) -> None:
    times = np.concatenate([np.arange(at) / before, at / before + np.arange(300 - at) / after])
    for run, plan in itertools.product([run for run, _ in rate_runs(rounded(times, tick), tick=tick)], [ALL, LIMITED]):
        if run.rate > 40 and plan is LIMITED:
            continue
        steps = np.diff(cadence(run, plan, 16).ticks)
        assert steps.max() <= 2
        odd = np.flatnonzero(steps != 1)
        assert np.all(np.diff(odd) > 20), f"{odd} are too near to each other"
        assert len(odd) <= 9


@pytest.mark.parametrize("share", [0.05, 0.5, 0.95])
def test_another_rate_is_not_taken_for_hops(share: float) -> None:
    """However short the part of the other rate is."""
    at = round(1600 * share)
    times = np.concatenate([np.arange(at) / 25, at / 25 + np.arange(1600 - at) / 40])
    found = rate_runs(times)
    assert parted(found) == [(0, found[1][0].first), (found[1][0].first, 1600)]
    assert abs(found[1][0].first - at) <= 1
    assert [run.rate for run, _ in found] == pytest.approx([25, 40], rel=1e-3)
