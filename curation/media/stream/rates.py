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
from curation.media.stream.odd_steps import LOST_FROM, MILLISECOND, followed, straightened

GAP_S = 0.25
VARIABLE_GAP_S = 1.0
"""A pause longer than this, and than four pictures, ends a shot; a screen recording pauses when nothing changes."""

RETIME = 0.005
"""A rate this close above the allowed one is played that much slower instead of losing every second picture."""

GAP_STEPS = 4.5
_WINDOW = 256
_BLOCK = 32
_ANOTHER_RATE = 0.03
_OFF_GRID = 0.75
"""Times within a window may stray from their grid by so many intervals in all: 2:3 pull-down and milliseconds do."""

_HOP_SLACK = 1.0
_VARIABLE_SLACK = 0.45
"""Pictures that times may run ahead or late of their ticks, and half a one, before one is repeated or left out."""


@dataclass(frozen=True, slots=True)
class RateRun:
    """Pictures `first` up to `end` (exclusive) at one rate. `interval`: seconds from one picture to the next.

    `ticks`: each picture's place on the grid of `interval`, from 0, with a hole where one was lost; two share one where
    many came too early. None where the rate varies. `times`: seconds of each picture, in the timeline's clock.
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


_STRIDES = 256
"""From the fastest source to a picture a second."""


def cadence(run: RateRun, plan: ClipPlan, least: float = 0.0) -> Cadence:
    """The cadence of a run under `plan`: at most its `max_fps`, near its `fps` where it names one.

    A regular stride is taken (every picture, every second, ...) that does not lead below `least`; where `max_fps`
    allows none, single pictures are left out. A variable rate goes onto a constant grid.
    """
    if run.ticks is None:
        rate = min(run.rate, plan.max_fps, plan.fps or math.inf)
        finer = max(1, round(run.rate / rate))  # a grid near the source's own rate, from which every n-th tick is taken
        once = np.arange(len(run.times))
        ticks = once + followed((run.times - run.times[0]) * (rate * finer) - once, _VARIABLE_SLACK)
        return Cadence(run.first, ticks // finer, rate, ratio(rate))
    stride = _stride(run.rate, plan, min(least, plan.max_fps, run.rate))
    if stride is None:
        ticks = np.floor(run.ticks * (plan.max_fps / run.rate) + 1e-6).astype(np.int64)
        return Cadence(run.first, ticks, plan.max_fps, ratio(plan.max_fps))
    rate = run.rate / stride
    precision = rate * 0.001 / run.seconds  # containers count in milliseconds
    return Cadence(run.first, run.ticks // stride, rate, ratio(min(rate, plan.max_fps), max(2e-3, precision)))


def _stride(rate: float, plan: ClipPlan, least: float) -> int | None:
    """The stride that comes nearest to `plan.fps`, or the shortest, of those that lead to `least` or more."""
    shortest = max(1, math.ceil(rate / (plan.max_fps * (1 + RETIME))))
    strides = [stride for stride in range(shortest, shortest + _STRIDES) if rate / stride >= least * (1 - 1e-9)]
    target = math.inf if plan.fps is None else plan.fps
    return min(strides, key=lambda stride: (abs(rate / stride - target), stride), default=None)


def ratio(fps: float, slack: float = 2e-3) -> Fraction:
    """The usual fraction within `slack` of a rate (25, 24000/1001 and so on), else one with a small denominator."""
    whole = Fraction(round(fps))
    ntsc = Fraction(round(fps * 1.001) * 1000, 1001)
    near = min((whole, ntsc), key=lambda usual: abs(usual - fps))
    return near if abs(near - fps) < slack else Fraction(fps).limit_denominator(1000)


def rate_runs(
    times: np.ndarray, breaks: Sequence[int] = (), tick: float = MILLISECOND
) -> list[tuple[RateRun, Ending | None]]:
    """The runs of a source, each with why the one before it ended there (None: at one of `breaks`, or at the start).

    `times`: seconds, rising. `breaks`: indices of pictures with which something else begins. `tick`: seconds to which
    the times are rounded.
    """
    found: list[tuple[RateRun, Ending | None]] = []
    edges = sorted({0, len(times), *breaks})
    for start, end in itertools.pairwise(edges):
        for first, last, why in _pieces(times, start, end, tick):
            found.append((_run(times[first:last], first, tick), why))
    return found


def _pieces(times: np.ndarray, start: int, end: int, tick: float) -> Iterator[tuple[int, int, Ending | None]]:
    """Stretches of `start`..`end` without a gap and with one rate."""
    steps = np.diff(times[start:end])
    gaps = (np.flatnonzero(steps > _longest_step(steps)) + 1 + start).tolist() if len(steps) else []
    for number, (first, last) in enumerate(zip([start, *gaps], [*gaps, end], strict=True)):
        changes = [first + at for at in _changes(straightened(times[first:last], tick).times)]
        for which, (a, b) in enumerate(zip([first, *changes], [*changes, last], strict=True)):
            yield a, b, Ending.RATE if which else Ending.GAP if number else None


def _longest_step(steps: np.ndarray) -> float:
    """The longest step between pictures that is no gap, in seconds."""
    usual = typical(steps)
    places = steps / usual
    irregular = float(np.mean(np.abs(places - np.maximum(1, np.rint(places))) > 0.3)) > 0.1
    return max(GAP_STEPS * usual, VARIABLE_GAP_S if irregular else GAP_S)


def typical(steps: np.ndarray) -> float:
    """The usual interval: the mean of the steps that neither skip a picture nor are far too short."""
    usual = float(np.partition(steps, (len(steps) - 1) // 2)[(len(steps) - 1) // 2])
    if usual <= 0:
        return float(steps.mean())
    return float(steps[(steps > 0.4 * usual) & (steps < LOST_FROM * usual)].mean())


def _changes(times: np.ndarray) -> list[int]:
    """Where a regular rate becomes another regular one, rising: no two are the same, and none is the start."""
    found: list[int] = []
    same, usual = 0, 0.0  # the last block that had the rate of the run, and its interval
    for start, interval in _blocks(times):
        away = abs(interval / usual - 1) if usual else math.inf
        if usual and away > _ANOTHER_RATE:
            if not _is_nearer(times[start : start + _BLOCK + 1], interval, usual):
                continue
            least = max(same, found[-1] if found else 0) + 1
            found.append(_parting(times, least, start + _BLOCK, usual, interval))
        if away > _ANOTHER_RATE:
            same, usual = start, interval
        elif away < _ANOTHER_RATE / 2:
            same = start
    return found


def _blocks(times: np.ndarray) -> Iterator[tuple[int, float]]:
    """Blocks of pictures whose rate is regular: the first one, and the interval."""
    for start in range(0, len(times) - _BLOCK, _BLOCK):
        if (grid := _grid(times[start : start + _BLOCK + 1])) is not None:
            yield start, grid[0]


def _is_nearer(times: np.ndarray, new: float, old: float) -> bool:
    """Whether both halves of a block have the new interval: a hop, or the end of the old rate, is in one of them."""
    half = len(times) // 2
    grids = _grid(times[: half + 1]), _grid(times[half:])
    return all(grid is not None and abs(grid[0] - new) < abs(grid[0] - old) for grid in grids)


def _parting(times: np.ndarray, start: int, end: int, old: float, new: float) -> int:
    """The picture from `start` to `end` from which on the steps are the new ones."""
    steps = np.diff(times[start : end + 1])
    before = np.concatenate([[0.0], np.cumsum(np.abs(steps - old))])
    after = np.concatenate([[0.0], np.cumsum(np.abs(steps - new)[::-1])])[::-1]
    return start + int(np.argmin(before + after))


def _run(times: np.ndarray, first: int, tick: float) -> RateRun:
    if len(times) < 2:
        return RateRun(first, first + len(times), 1.0, times, None)
    straight = straightened(times, tick)
    found = _grid(straight.times)
    if found is None:
        return RateRun(first, first + len(times), _usual_interval(times), times, None)
    interval, ticks = found
    if straight.drift is not None:
        ticks = ticks + followed(straight.drift / interval, _HOP_SLACK)
    return RateRun(first, first + len(times), interval, times, ticks)


def _usual_interval(times: np.ndarray) -> float:
    """The interval of times that lie on no grid: that of most of their blocks, where most of them do."""
    blocks = [interval for _, interval in _blocks(times)]
    regular = len(blocks) > (len(times) - 1) // _BLOCK / 2
    return float(np.median(blocks)) if regular else typical(np.diff(times))


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
