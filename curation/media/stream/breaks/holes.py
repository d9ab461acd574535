"""Where the clock says that pictures are missing: what follows may be predicted from them, whatever its decoder says.

A pause that the source made looks like a loss by the clock alone. So the file is asked first (`Pauses`): one whose own
tables say that it is whole has lost nothing. Asked by `timeline`; `losses` brings it to the decoder of both passes.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from typing import Literal

import numpy as np

from curation.media.stream.odd_steps import LOST_FROM
from curation.media.stream.rates import GAP_S, GAP_STEPS, RateRun

Pauses = Literal["own", "doubtful", "lost"]
"""What a pause is: the source's `own`, for nothing is missing from the file or its clock cannot tell; `doubtful`, for
the file does not say; `lost`, for something is missing from the file.
"""


def missing(times: np.ndarray, runs: Sequence[RateRun], pauses: Pauses) -> dict[int, int]:
    """By the picture before which the clock leaves room for others: for how many.

    At a regular rate each place tells. A variable one pauses of itself: there a step tells from a second on, as it ends
    a run, and from `GAP_S` on where something is known to be missing.
    """
    if pauses == "own":
        return {}
    found: dict[int, int] = {}
    for run in runs:
        found |= dict(_within(run, pauses))
    for before, after in itertools.pairwise(runs):
        interval = max((run.interval for run in (before, after) if run.end - run.first > 1), default=0.0)
        step = float(times[after.first] - times[after.first - 1])
        if step > LOST_FROM * interval:
            found[after.first] = max(1, round(step / interval) - 1) if interval else 1
    return found


def _within(run: RateRun, pauses: Pauses) -> Iterator[tuple[int, int]]:
    steps = np.diff(run.times) / run.interval
    if run.ticks is not None:
        holes = (np.diff(run.ticks) > 1) & (steps > LOST_FROM)
    elif pauses == "lost":
        holes = steps > max(GAP_STEPS, GAP_S / run.interval)
    else:
        return
    for at in np.flatnonzero(holes).tolist():
        yield run.first + at + 1, max(1, round(float(steps[at])) - 1)
