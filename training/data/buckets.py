"""Buckets: clips of one resolution, length and ratio, which can share a batch.

A clip is thinned to at most 24 frames a second, then walks the resolutions from large to small and takes the longest
length that it fills, with that bucket's probability; else it goes on to the next resolution (spec section 4.4).
`Assigner` does so for one sample after another and counts what found no bucket, by reason: a bucket table that does not
fit the data shows in `report`, not in a shorter epoch. `bucket_table` has the tables.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from math import ceil, floor
from typing import Any

import numpy as np

from curation.contract import Kind
from training.data.aspect import nearest, sizes
from training.data.bucket_table import BucketTable, Slot

FPS_LIMIT = 24.0
NEAR = 0.8
"""A clip may have this share of a resolution's pixels and still be enlarged to it."""

_OFF_RATE = 0.01
"""A rate 1 % over a multiple of the limit counts as that multiple: 24.02 is what a probe says of 24."""


@dataclass(frozen=True, slots=True)
class ClipShape:
    """What assignment needs to know of a clip, as it is stored. A still image has 1 frame; its rate does not count."""

    frames: int
    height: int
    width: int
    fps: float | None

    @classmethod
    def of(cls, row: Mapping[str, Any]) -> ClipShape:
        """From a row of `clips`: an image is one frame without a rate."""
        if row.get("kind") == Kind.IMAGE:
            return cls(1, row["height"], row["width"], None)
        return cls(row["frames"], row["height"], row["width"], row["fps"])


@dataclass(frozen=True, slots=True)
class Bucket:
    """Where a clip goes: take every `interval`th frame, `frames` of them, scaled and cropped to (height, width)."""

    resolution: str
    frames: int
    ratio: str
    height: int
    width: int
    batch: int
    interval: int
    fps: float | None


class Miss(StrEnum):
    """Why a clip has no bucket."""

    TOO_SMALL = "too small"
    TOO_SHORT = "too short"
    NO_STILLS = "no bucket for stills"
    NO_RATE = "no frame rate"
    NOT_DRAWN = "not drawn"


REMEDIES: Mapping[Miss, str] = {
    Miss.TOO_SMALL: "below 0.8 of the smallest resolution's pixels: add a smaller one",
    Miss.TOO_SHORT: "once thinned, fewer frames than any bucket of a size that it fills: add a shorter one",
    Miss.NO_STILLS: "no resolution that it fills has a bucket of 1 frame: add one",
    Miss.NO_RATE: "a video whose frames a second are not known: measure them",
    Miss.NOT_DRAWN: "left out by the probabilities of its buckets: raise p",
}


def thinned(clip: ClipShape) -> tuple[int, float | None, int]:
    """(frames, frames a second, interval) once every `interval`th frame is taken, so that at most 24 a second are left.

    Of n frames ceil(n / interval) are left. The rate stays what it is: 25 becomes 12.5, 29.97 becomes 14.985. A still
    image is left alone.
    """
    if clip.frames == 1 or clip.fps is None:
        return clip.frames, clip.fps, 1
    interval = max(1, ceil(clip.fps / FPS_LIMIT - _OFF_RATE))
    return -(-clip.frames // interval), clip.fps / interval, interval


def thinned_as_public(clip: ClipShape) -> tuple[int, float | None, int]:
    """`thinned` as the public code does it (golden README, "Oddities" 7).

    Counts and rates are rounded down: 25 becomes 12, and a still image whose file says 30 has no frame left.
    """
    if clip.fps is None or clip.fps <= FPS_LIMIT:
        return clip.frames, clip.fps, 1
    interval = ceil(clip.fps / FPS_LIMIT)
    return clip.frames // interval, floor(clip.fps / interval), interval


@dataclass
class Assigner:
    """Clips to buckets. Equal seeds give equal answers, whatever the order or the number of workers.

    An epoch that is to draw anew takes a seed of its own.
    `as_public`: thin clips by the public rule (`thinned_as_public`).
    """

    table: BucketTable
    seed: int = 42
    as_public: bool = False
    found: Counter[tuple[str, int]] = field(default_factory=Counter)
    missed: Counter[Miss] = field(default_factory=Counter)

    def __call__(self, sample: int, clip: ClipShape) -> Bucket | Miss:
        """The bucket of the sample of that number, which is counted."""
        got = self._assigned(sample, clip)
        if isinstance(got, Bucket):
            self.found[got.resolution, got.frames] += 1
        else:
            self.missed[got] += 1
        return got

    def _assigned(self, sample: int, clip: ClipShape) -> Bucket | Miss:
        if clip.fps is None and clip.frames > 1 and not self.as_public:
            return Miss.NO_RATE
        frames, fps, interval = (thinned_as_public if self.as_public else thinned)(clip)
        reason, draws = Miss.TOO_SMALL, None
        for resolution, budget, lengths in self.table.walk:
            if clip.height * clip.width < NEAR * budget:
                continue
            length, slot = _longest(lengths, frames)
            if slot is None:
                reason = _nearer(reason, Miss.NO_STILLS if frames == 1 else Miss.TOO_SHORT)
                continue
            if slot.p < 1:
                draws = draws or np.random.default_rng((self.seed, sample))
                if draws.random() >= slot.p:
                    reason = Miss.NOT_DRAWN
                    continue
            table = sizes(resolution, self.table.side_multiple)
            ratio = nearest(clip.height, clip.width, table)
            return Bucket(resolution, length, ratio, *table[ratio], slot.batch, interval, fps)
        return reason


def report(found: Counter[tuple[str, int]], missed: Counter[Miss]) -> str:
    """A table of what went where and what was left out, why, and what to do about it."""
    total = found.total() + missed.total()
    rows = [(f"{resolution}, {n} frames", count, "") for (resolution, n), count in sorted(found.items())]
    rows += [(f"left out: {miss}", count, REMEDIES[miss]) for miss, count in missed.most_common()]
    lines = [f"{total:,} samples, {missed.total():,} left out"]
    for name, count, remedy in rows:
        lines.append(f"{name:<32}{count:>12,}{100 * count / total:>7.1f} %  {remedy}".rstrip())
    return "\n".join(lines)


def _longest(lengths: list[tuple[int, Slot]], frames: int) -> tuple[int, Slot | None]:
    """The longest slot that `frames` fill. One frame is an image; more never fall to the bucket of images."""
    fits = ((length, slot) for length, slot in lengths if length <= frames and (length == 1) == (frames == 1))
    return next(fits, (0, None))


def _nearer(known: Miss, new: Miss) -> Miss:
    """The reason that says most: a clip that lost a draw did fit."""
    return known if known is Miss.NOT_DRAWN else new
