"""What a filter is: it measures scores of a clip from the clip's sample frames, and decides nothing.

The filters of this protocol (those of `table`, and a user's own) come after the measuring pass, which leaves three
sample frames of every future clip: first, middle, last; of an image, the one. The frame scores (motion, sharpness,
jitter) are measured inside that pass and need no sample. Thresholds live in tiers; who runs a filter, and where, is the
pipeline's business.

This module is imported in environments that hold little (PaddleOCR's own, for one): numpy and the standard
library.
"""

from __future__ import annotations

import functools
import math
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import numpy as np

from curation.identity import content_id

NO_SAMPLES = "no sample frames"
"""Why a score is null when the measuring pass left no picture of the clip."""

WEIGHTS_MISSING = "weights missing"
"""Why a score is null when the filter lacked its weights and the recipe lets the run go on without it."""


@dataclass(frozen=True, slots=True)
class ScoreValue:
    """What a filter says of a clip: a finite value, or None and why. A score never stands for an error.

    `embedding`: what the filter computed on the way, a vector of `contract.CLIP_SPACE`; float32, unit length, or None.
    Of a filter with several scores the first one's counts.
    """

    value: float | None
    why: str | None = None
    embedding: np.ndarray | None = field(default=None, compare=False, repr=False)

    def __post_init__(self) -> None:
        assert (self.value is None) == bool(self.why), "a score has a value or a reason, and not both"
        assert self.value is None or math.isfinite(self.value), "a score is a finite number"


class SampleFilter(Protocol):
    """Measures scores from sample frames. Make it once (it loads weights), call it many times."""

    @property
    def name(self) -> str:
        """The filter's name in recipes and logs."""
        ...

    @property
    def scores(self) -> tuple[str, ...]:
        """The score columns that it fills: of `contract.SCORES`, or the pyramid's own."""
        ...

    @property
    def fingerprint(self) -> str:
        """How values are made: method, version, parameters, weights. Goes into `<score>_by`."""
        ...

    def measure(self, clips: Sequence[Sequence[np.ndarray]]) -> Sequence[ScoreValue | tuple[ScoreValue, ...]]:
        """Measure clips: for each, in order, its value; of a filter with several `scores`, its values in their order.

        A clip is its sample frames in order of time, normally (first, middle, last), of an image one: BGR, uint8,
        (height, width, 3), longer side <= 640. A clip without frames gets None and `NO_SAMPLES`.
        """
        ...


def check_frame(frame: np.ndarray) -> None:
    """Assert that `frame` is what the pipeline promises: BGR uint8 of shape (height, width, 3)."""
    assert (frame.dtype, frame.ndim, frame.shape[-1]) == (np.uint8, 3, 3), "a frame is uint8, (h, w, 3)"


def weights_hash(path: Path) -> str:
    """The content hash of a weights file, as `identity.content_id`; read once while it stays the same."""
    stat = os.stat(path)
    return _hash_once(str(path), stat.st_size, stat.st_mtime_ns)


@functools.lru_cache(maxsize=32)
def _hash_once(path: str, size: int, modified_ns: int) -> str:
    # Size and time of change are in the key, so that a replaced file is read anew.
    with open(path, "rb") as stream:
        return content_id(stream)[0]
