"""Frame rates: what the times of a source's pictures say of its rate, and which pictures a clip takes.

Between the scan of packets (`timeline`) and both passes. A *run* is a stretch of pictures with one rate and no gap in
time; a rate is never an average over a gap or over lost pictures. A *cadence* brings a run under the recipe's rate by
leaving out whole pictures, never by blending.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from curation.contract import Ending
from curation.media.plan import ClipPlan

GAP_S = 0.25
VARIABLE_GAP_S = 1.0
"""A pause longer than this, and than four pictures, ends a shot; a screen recording pauses when nothing changes."""

RETIME = 0.005
"""A rate this close above the allowed one is played that much slower instead of losing every second picture."""

_GAP_STEPS = 4.5
_WINDOW = 256
_BLOCK = 32
_ANOTHER_RATE = 0.03
_OFF_GRID = 0.75
"""Times within a window may stray from their grid by so many intervals in all: 2:3 pull-down and milliseconds do."""


@dataclass(frozen=True, slots=True)
class RateRun:
    """Pictures `first` up to `end` (exclusive) at one rate. `interval`: seconds from one picture to the next.

    `ticks`: each picture's place on the grid of `interval`, from 0, with a hole where one was lost; None where the
    rate varies. `times`: seconds of each picture, in the timeline's clock.
    """

    first: int
    end: int
    interval: float
    times: np.ndarray
    ticks: np.ndarray | None

    @property
    def rate(self) -> float:
        """Pictures a second: of the grid, or of a variable rate its usual one."""
        return 1.0 / self.interval

    @property
    def seconds(self) -> float:
        return float(self.times[-1] - self.times[0]) + self.interval

    @property
    def average(self) -> float:
        """What the rules compare with their minimum: the rate, of a variable one the mean."""
        return self.rate if self.ticks is not None else (self.end - self.first) / self.seconds


@dataclass(frozen=True, slots=True)
class Cadence:
    """Which pictures of a run a clip takes: the first one of each tick.

    `rate`: ticks a second of the source's time. `fps`: the clip's rate, below `rate` by at most `RETIME`.
    """

    first: int
    ticks: np.ndarray
    rate: float
    fps: Fraction

    def tick(self, index: int) -> int:
        """The tick of picture `index`."""
        return int(self.ticks[index - self.first])

    def leads(self, index: int) -> bool:
        """Whether picture `index` is the first one of its tick: only such a picture begins a clip."""
        at = index - self.first
        return at == 0 or bool(self.ticks[at] != self.ticks[at - 1])


def cadence(run: RateRun, plan: ClipPlan, least: float = 0.0) -> Cadence:
    """The cadence of a run under `plan`: at most its `max_fps`, near its `fps` where it names one.

    A regular stride is taken (every picture, every second, ...) unless the rate would fall below `least`; then single
    pictures are left out. A variable rate goes onto a constant grid.
    """
    least = min(least, plan.max_fps)
    if run.ticks is None:
        rate = min(run.rate, plan.max_fps, plan.fps or math.inf)
        ticks = np.floor((run.times - run.times[0]) * rate + 0.1).astype(np.int64)
        return Cadence(run.first, ticks, rate, ratio(rate))
    stride = _stride(run.rate, plan)
    if run.rate / stride < least <= run.rate:
        ticks = np.floor(run.ticks * (plan.max_fps / run.rate) + 1e-6).astype(np.int64)
        return Cadence(run.first, ticks, plan.max_fps, ratio(plan.max_fps))
    rate = run.rate / stride
    precision = rate * 0.001 / run.seconds  # containers count in milliseconds
    return Cadence(run.first, run.ticks // stride, rate, ratio(min(rate, plan.max_fps), max(2e-3, precision)))


def _stride(rate: float, plan: ClipPlan) -> int:
    least = max(1, math.ceil(rate / (plan.max_fps * (1 + RETIME))))
    if plan.fps is None:
        return least
    target = plan.fps
    return min(range(least, least + 64), key=lambda stride: abs(rate / stride - target))


def ratio(fps: float, slack: float = 2e-3) -> Fraction:
    """The usual fraction within `slack` of a rate (25, 24000/1001 and so on), else one with a small denominator."""
    whole = Fraction(round(fps))
    ntsc = Fraction(round(fps * 1.001) * 1000, 1001)
    near = min((whole, ntsc), key=lambda usual: abs(usual - fps))
    return near if abs(near - fps) < slack else Fraction(fps).limit_denominator(1000)


def rate_runs(times: np.ndarray, breaks: Sequence[int] = ()) -> list[tuple[RateRun, Ending | None]]:
    """The runs of a source, each with why the one before it ended there (None: at one of `breaks`, or at the start).

    `times`: seconds, rising. `breaks`: indices of pictures with which something else begins.
    """
    found: list[tuple[RateRun, Ending | None]] = []
    edges = sorted({0, len(times), *breaks})
    for start, end in itertools.pairwise(edges):
        for first, last, why in _pieces(times, start, end):
            found.append((_run(times[first:last], first), why))
    return found


def _pieces(times: np.ndarray, start: int, end: int) -> Iterator[tuple[int, int, Ending | None]]:
    """Stretches of `start`..`end` without a gap and with one rate."""
    steps = np.diff(times[start:end])
    gaps = (np.flatnonzero(steps > _longest_step(steps)) + 1 + start).tolist() if len(steps) else []
    for number, (first, last) in enumerate(zip([start, *gaps], [*gaps, end], strict=True)):
        changes = [first + at for at in _changes(times[first:last])]
        for which, (a, b) in enumerate(zip([first, *changes], [*changes, last], strict=True)):
            yield a, b, Ending.RATE if which else Ending.GAP if number else None


def _longest_step(steps: np.ndarray) -> float:
    """The longest step between pictures that is no gap, in seconds."""
    usual = typical(steps)
    places = steps / usual
    irregular = float(np.mean(np.abs(places - np.maximum(1, np.rint(places))) > 0.3)) > 0.1
    return max(_GAP_STEPS * usual, VARIABLE_GAP_S if irregular else GAP_S)


def typical(steps: np.ndarray) -> float:
    """The usual interval: the mean of the steps that skip no picture."""
    usual = float(np.median(steps))
    return float(steps[steps < 1.6 * usual].mean()) if usual > 0 else float(steps.mean())


def _changes(times: np.ndarray) -> list[int]:
    """Where a regular rate becomes another regular one."""
    found: list[int] = []
    same, usual = 0, 0.0  # the last block that had the rate of the run, and its interval
    for block in range((len(times) - 1) // _BLOCK):
        start = block * _BLOCK
        if (grid := _grid(times[start : start + _BLOCK + 1])) is None:
            continue
        away = abs(grid[0] / usual - 1) if usual else math.inf
        if usual and away > _ANOTHER_RATE:
            found.append(_parting(times, same, start + _BLOCK, usual, grid[0]))
        if away > _ANOTHER_RATE:
            same, usual = start, grid[0]
        elif away < _ANOTHER_RATE / 2:
            same = start
    return [at for at in found if 0 < at < len(times)]


def _parting(times: np.ndarray, start: int, end: int, old: float, new: float) -> int:
    """The picture between `start` and `end` from which on the steps are the new ones."""
    steps = np.diff(times[start : end + 1])
    before = np.concatenate([[0.0], np.cumsum(np.abs(steps - old))])
    after = np.concatenate([[0.0], np.cumsum(np.abs(steps - new)[::-1])])[::-1]
    return start + int(np.argmin(before + after))


def _run(times: np.ndarray, first: int) -> RateRun:
    if len(times) < 2:
        return RateRun(first, first + len(times), 1.0, times, None)
    found = _grid(times)
    interval = found[0] if found else typical(np.diff(times))
    return RateRun(first, first + len(times), interval, times, found[1] if found else None)


def _grid(times: np.ndarray) -> tuple[float, np.ndarray] | None:
    """The interval and the places of times that lie on a regular grid; None for others."""
    steps = np.diff(times)
    once = np.arange(len(times))
    mean = _slope(once, times)
    if steps.min() > 0.35 * mean and steps.max() < 1.65 * mean and _holds(times, once):
        return mean, once
    places = np.concatenate([[0], np.cumsum(np.maximum(1, np.rint(steps / typical(steps))).astype(np.int64))])
    if np.mean(np.diff(places) == 1) >= 0.5 and _holds(times, places):
        return _slope(places, times), places
    return None


def _holds(times: np.ndarray, places: np.ndarray) -> bool:
    """Whether times keep to their places within each window: over hours a clock may drift."""
    for start in range(0, len(times) - 1, _WINDOW):
        t, k = times[start : start + _WINDOW + 1], places[start : start + _WINDOW + 1]
        interval = _slope(k, t)
        if np.ptp(t - interval * k) > _OFF_GRID * interval:
            return False
    return True


def _slope(places: np.ndarray, times: np.ndarray) -> float:
    """The interval of the grid nearest to all times: the ends alone are off by a field in pull-down."""
    offset = places - places.mean()
    return float(offset @ (times - times[0]) / (offset @ offset))
