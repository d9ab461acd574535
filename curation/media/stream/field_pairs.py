"""Two fields are one picture, where packets hold half a picture each: by their places in time, for one may be lost."""

from __future__ import annotations

import numpy as np

from curation.media.stream.rates import typical


def _pictures_of(fields: np.ndarray) -> np.ndarray:
    """The number of the picture that each of these fields (stamps, two a picture) is of."""
    if len(fields) < 2:
        return np.zeros(len(fields), np.int64)
    steps = np.diff(fields)
    places = np.cumsum(np.maximum(1, np.rint(steps / (typical(steps) or 1)).astype(np.int64)))
    return np.concatenate([[0], places]) // 2


def leading_fields(stamps: np.ndarray) -> np.ndarray:
    """Which of these fields is the first one that is there of its picture."""
    return np.unique(_pictures_of(stamps), return_index=True)[1]


def lone_fields(stamps: np.ndarray) -> list[int]:
    """The stamps of those that are the only one of their picture."""
    _, first, count = np.unique(_pictures_of(stamps), return_index=True, return_counts=True)
    return stamps[first[count == 1]].tolist()
