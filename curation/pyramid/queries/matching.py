"""Which clips of two pyramids are the same pieces of the same sources: by content of videos and source frames.

Used by `comparison`. Ids do not tell: they carry the plan, so that another recipe gives every clip another one.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

ALONE, CHANGED, SAME = 0, 1, 2
"""What a clip is beside the other pyramid's: nothing like it there; one of other bounds; the very same frames."""

_SHARE = 0.5
"""Two clips are the same piece, with other bounds, where they share so much of the shorter one."""


@dataclass(frozen=True, slots=True)
class Spans:
    """Clips as arrays (int64): a number for the video, the same in both pyramids, and source frames `start` to `end`
    (exclusive).
    """

    video: np.ndarray
    start: np.ndarray
    end: np.ndarray

    def __len__(self) -> int:
        return len(self.video)


@dataclass(frozen=True, slots=True)
class Matched:
    """For each clip of A and of B what it is. `pairs` (count, 2): indices of an A and a B clip that are the same, or
    the same piece with other bounds; for each clip of A at most one, the nearest.
    """

    a: np.ndarray
    b: np.ndarray
    pairs: np.ndarray


def match(a: Spans, b: Spans) -> Matched:
    """Compare two sets of clips; memory is that of a few arrays of their length."""
    reach = int(max([1, *(int(spans.end.max()) + 1 for spans in (a, b) if len(spans))]))
    first, last = a.video * reach + a.start, a.video * reach + a.end
    left, right = _candidates(first, last, b.video * reach + b.start, b.video * reach + b.end)
    shared = np.minimum(a.end[left], b.end[right]) - np.maximum(a.start[left], b.start[right])
    shorter = np.minimum(a.end[left] - a.start[left], b.end[right] - b.start[right])
    near = (shared > 0) & (shared >= _SHARE * shorter)
    left, right, shared = left[near], right[near], shared[near]
    same = (a.start[left] == b.start[right]) & (a.end[left] == b.end[right])
    of_a, of_b = np.full(len(a), ALONE, np.int8), np.full(len(b), ALONE, np.int8)
    for what, which in ((CHANGED, ~same), (SAME, same)):  # the same frames weigh more than a neighbour's
        of_a[left[which]] = what
        of_b[right[which]] = what
    order = np.lexsort((-shared, ~same, left))
    left, right = left[order], right[order]
    nearest = np.unique(left, return_index=True)[1]
    return Matched(of_a, of_b, np.stack([left[nearest], right[nearest]], axis=1))


def _candidates(
    a_first: np.ndarray, a_last: np.ndarray, b_first: np.ndarray, b_last: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Indices of all pairs of intervals that may overlap, on one line."""
    order = np.argsort(b_first, kind="stable")
    begin = np.searchsorted(np.maximum.accumulate(b_last[order]), a_first, side="right")
    count = np.maximum(0, np.searchsorted(b_first[order], a_last, side="left") - begin)
    left = np.repeat(np.arange(len(a_first)), count)
    within = np.arange(len(left)) - np.repeat(np.cumsum(count) - count, count)
    return left, order[np.repeat(begin, count) + within]
