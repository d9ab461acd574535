"""Batches: a pure function of (manifest, seed, step). Nothing is counted, so nothing can be lost by a restart.

    Frozen -> Batches -> step -> micro-batches -> rank

A step has `per_step` micro-batches, whatever the number of ranks; rank r of R takes those numbered r, r + R, ... So
another number of GPUs changes who computes what, and not what a step learns from.

An epoch shuffles each bucket's samples, cuts them into batches of the bucket's size, and puts batches of about the same
cost into one step, for the ranks of a step wait for the slowest. Cost is FLOPs, not tokens: balancing by tokens left
39 % between ranks where cost left 19 % (AdaptiveLoad, arXiv 2605.17923). Steps are then shuffled. Orders come of hashes
of sample numbers, not of NumPy's generators, whose streams may change with a version.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from curation.errors import UserError
from curation.shards.manifest import Bucket
from training.cost.formulas import TEXT_TOKENS, Transformer, sample_cost
from training.models.base import LatentSpec

ALIKE = 1.1
"""Batches whose costs are within this factor are mixed at random: sorting them further would let a step see one bucket
alone and save nothing that can be measured."""

Cost = Callable[[Bucket], float]
"""FLOPs of a bucket's batch."""


@dataclass(frozen=True, slots=True)
class MicroBatch:
    """Samples of one bucket that go through the network together. `number`: its place in the step."""

    number: int
    bucket: Bucket
    samples: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class LeftOut:
    """What an epoch does not train on. `rest`: samples short of a full batch, other ones each epoch; `never`: samples
    of buckets that do not fill one batch; `batches`: full ones short of a whole step, other ones each epoch."""

    rest: Mapping[Bucket, int]
    never: Mapping[Bucket, int]
    batches: int

    @property
    def samples(self) -> int:
        """Samples that no batch took."""
        return sum(self.rest.values()) + sum(self.never.values())

    def lines(self) -> list[str]:
        """What is left out, for a person: nothing where nothing is."""
        found = []
        if self.never:
            found.append(f"{_many(sum(self.never.values()), 'sample')} never trained on: {_short_of(self.never)}")
        if self.rest:
            found.append(f"{_many(sum(self.rest.values()), 'sample')} left over each epoch, short of a full batch")
        if self.batches:
            found.append(f"{_many(self.batches, 'batch', 'batches')} left over each epoch, short of a whole step")
        return found


def cost_of(spec: LatentSpec, model: Transformer, text: int = TEXT_TOKENS) -> Cost:
    """FLOPs of training on a bucket's batch: forward and backward of the transformer (`training.cost.formulas`)."""

    def cost(bucket: Bucket) -> float:
        return bucket.batch * sample_cost(spec, bucket.frames, bucket.height, bucket.width, model, text).train

    return cost


class Batches:
    """The micro-batches of every step. UserError: not one step an epoch."""

    def __init__(
        self, samples: pa.Table, *, seed: int, per_step: int, cost: Cost, without: Collection[int] = ()
    ) -> None:
        """`samples`: a table of `manifest.SAMPLES`; `without`: rows that are held out."""
        members = _members(samples, without)
        self.seed, self.per_step = seed, per_step
        self.buckets = tuple(sorted(members, key=_key))
        self._members = [members[bucket] for bucket in self.buckets]
        self._counts = np.array([len(members[bucket]) // bucket.batch for bucket in self.buckets], dtype=np.int64)
        self._classes = _classes([cost(bucket) for bucket in self.buckets])
        self._epoch = lru_cache(maxsize=2)(self._planned)
        if not self.steps_per_epoch:
            never = self.left_out.never
            away = (
                f"; of {samples.num_rows} samples {len(without)} are held out, taken down or without latents"
                if without
                else ""
            )
            raise UserError(
                f"an epoch has no step: it has {self._counts.sum()} full batches and a step takes {per_step}{away}"
                + (f"; too few samples: {_short_of(never)}" if never else ""),
                "freeze more clips or a bucket table with smaller batches, or lower batches.per_step"
                + (" or validation.samples" if without else ""),
            )

    @property
    def steps_per_epoch(self) -> int:
        return int(self._counts.sum()) // self.per_step

    @property
    def left_out(self) -> LeftOut:
        """What one epoch does not train on."""
        sizes = {bucket: len(rows) for bucket, rows in zip(self.buckets, self._members, strict=True)}
        never = {bucket: size for bucket, size in sizes.items() if size < bucket.batch}
        rest = {bucket: size % bucket.batch for bucket, size in sizes.items() if size >= bucket.batch}
        batches = int(self._counts.sum()) % self.per_step
        return LeftOut({bucket: size for bucket, size in rest.items() if size}, never, batches)

    def step(self, step: int) -> tuple[MicroBatch, ...]:
        """All micro-batches of a step, counted from 0 over all epochs."""
        epoch, place = divmod(step, self.steps_per_epoch)
        plan = self._epoch(epoch)
        return tuple(self._micro_batch(plan, number, plan.steps[place, number]) for number in range(self.per_step))

    def share(self, step: int, rank: int, ranks: int) -> tuple[MicroBatch, ...]:
        """Those of a step that rank `rank` of `ranks` takes. UserError: they cannot be shared out evenly."""
        check_ranks(self.per_step, ranks)
        return self.step(step)[rank::ranks]

    def _micro_batch(self, plan: _Epoch, number: int, batch: int) -> MicroBatch:
        index, start = int(plan.bucket[batch]), int(plan.start[batch])
        bucket = self.buckets[index]
        return MicroBatch(number, bucket, tuple(plan.rows[index][start : start + bucket.batch].tolist()))

    def _planned(self, epoch: int) -> _Epoch:
        rows = [
            members[_order(members, self.seed, epoch, "samples", *_key(bucket))]
            for bucket, members in zip(self.buckets, self._members, strict=True)
        ]
        bucket = np.repeat(np.arange(len(self.buckets)), self._counts)
        sizes = np.array([one.batch for one in self.buckets])
        start = np.concatenate([np.arange(count) * size for count, size in zip(self._counts, sizes, strict=True)])
        shuffled = _order(np.arange(len(bucket)), self.seed, epoch, "batches")
        taken = shuffled[: self.steps_per_epoch * self.per_step]
        by_cost = taken[np.argsort(self._classes[bucket[taken]], kind="stable")]
        steps = by_cost.reshape(self.steps_per_epoch, self.per_step)
        return _Epoch(rows, bucket, start, steps[_order(np.arange(len(steps)), self.seed, epoch, "steps")])


@dataclass(frozen=True, slots=True)
class _Epoch:
    """`rows`: each bucket's samples in their order; `bucket`, `start`: of each batch, its bucket and place in `rows`;
    `steps` (steps, per_step): batches."""

    rows: list[NDArray[np.int64]]
    bucket: NDArray[np.int64]
    start: NDArray[np.int64]
    steps: NDArray[np.int64]


def check_ranks(per_step: int, ranks: int, context: int = 1) -> None:
    """UserError where a step's micro-batches cannot be shared out evenly. `context`: ranks that take one together."""
    if per_step % ranks:
        near = max(1, round(per_step / ranks)) * ranks
        who = "ranks" if context == 1 else f"groups of {context} ranks"
        raise UserError(
            f"{per_step} micro-batches a step cannot be shared among {ranks} {who}",
            f"--set batches.per_step={near}, or start a number of {who} that divides {per_step}",
        )


def held_out(samples: int, count: int, seed: int, without: Collection[int] = ()) -> tuple[int, ...]:
    """`count` of so many samples, chosen by hash of `seed` among all but `without`: what validation keeps from
    training."""
    order = _order(np.arange(samples), seed, "validation")
    return tuple(sorted(order[_others(order, without)][:count].tolist()))


def _others(rows: NDArray[np.int64], without: Collection[int]) -> NDArray[np.bool_]:
    """Which rows are none of `without`."""
    return np.isin(rows, np.fromiter(without, dtype=np.int64, count=len(without)), invert=True)


def _members(samples: pa.Table, without: Collection[int]) -> dict[Bucket, NDArray[np.int64]]:
    """The rows of each bucket, in ascending order."""
    names = samples["resolution"].combine_chunks().dictionary_encode()
    columns = ("bucket_frames", "bucket_height", "bucket_width", "batch")
    numbers = [np.asarray(names.indices), *(samples[name].to_numpy() for name in columns)]
    rows = np.arange(samples.num_rows, dtype=np.int64)
    kept = _others(rows, without)
    kinds, kind_of = np.unique(np.stack(numbers, axis=1)[kept], axis=0, return_inverse=True)
    words = names.dictionary.to_pylist()
    by_kind = np.argsort(kind_of, kind="stable")
    parts = np.split(rows[kept][by_kind], np.cumsum(np.bincount(kind_of, minlength=len(kinds)))[:-1])
    made = [Bucket(words[name], *(int(number) for number in numbers)) for name, *numbers in kinds.tolist()]
    return dict(zip(made, parts, strict=True)) if len(kinds) else {}


def _key(bucket: Bucket) -> tuple[str, int, int, int, int]:
    return bucket.resolution, bucket.frames, bucket.height, bucket.width, bucket.batch


def _classes(costs: list[float]) -> NDArray[np.int64]:
    """A number for each bucket, by cost: those within `ALIKE` of the cheapest of a class share one."""
    classes, number, first = np.zeros(len(costs), dtype=np.int64), 0, None
    for index in sorted(range(len(costs)), key=costs.__getitem__):
        if first is not None and costs[index] > first * ALIKE:
            number, first = number + 1, costs[index]
        first = costs[index] if first is None else first
        classes[index] = number
    return classes


def _order(numbers: NDArray[np.int64], *key: object) -> NDArray[np.int64]:
    """A permutation of so many places: sorted by a hash of each number and the key (splitmix64's finaliser)."""
    start = int.from_bytes(hashlib.sha256(repr(key).encode()).digest()[:8], "little")
    with np.errstate(over="ignore"):
        x = numbers.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15) + np.uint64(start)
        x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return np.argsort(x ^ (x >> np.uint64(31)), kind="stable")


def _many(count: int, one: str, more: str | None = None) -> str:
    return f"{count:,} {one} is" if count == 1 else f"{count:,} {more or one + 's'} are"


def _short_of(never: Mapping[Bucket, int], most: int = 3) -> str:
    named = [f"{bucket} has {count} of {bucket.batch}" for bucket, count in list(never.items())[:most]]
    more = len(never) - most
    return ", ".join(named) + (f" and {more} buckets more" if more > 0 else "")
