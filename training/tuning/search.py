"""Batch sizes for a bucket table: in every bucket as many samples as fit, but no step slower than the largest's.

Each data-parallel rank may draw another bucket for the same step and all wait for the slowest, so steps of all buckets
are to take equal time (spec section 6, "Search", after the paper's appendix D). The bucket with most tokens sets it:
its largest batch without running out of memory. Every other one takes the largest batch whose forward time (with the
autoencoder's encoding), backward time (where ranks wait for each other) and step time stay within the reference's.

The search is logic alone: `measure` runs the steps. The table that comes out goes to a file (`BucketTable.to_toml`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from curation.errors import UserError
from training.data.aspect import sizes
from training.data.bucket_table import BucketTable, Slot
from training.models.base import LatentSpec

SPAN = 32
"""Lengths of one span share a batch: 5-33, 37-65, ... or 16-32, 36-64, ... (section 4.4)."""


@dataclass(frozen=True, slots=True)
class Shape:
    """What is measured for one span of lengths: its longest, with the resolution's largest picture."""

    resolution: str
    lengths: tuple[int, ...]
    height: int
    width: int
    tokens: int

    @property
    def frames(self) -> int:
        return self.lengths[-1]


@dataclass(frozen=True, slots=True)
class StepTimes:
    """Seconds of one training step; `forward` has the autoencoder's encoding in it."""

    forward: float
    backward: float
    step: float

    def within(self, limit: StepTimes, slack: float) -> bool:
        pairs = ((self.forward, limit.forward), (self.backward, limit.backward), (self.step, limit.step))
        return all(mine <= theirs * (1 + slack) for mine, theirs in pairs)


@dataclass(frozen=True, slots=True)
class OutOfMemory:
    """The batch does not fit."""


Measure = Callable[[Shape, int], StepTimes | OutOfMemory]
"""Times of a step of a shape with so many samples. More samples never take less time or memory."""


@dataclass(frozen=True, slots=True)
class BatchFit:
    """The largest batch of a shape, and what its step takes."""

    shape: Shape
    batch: int
    times: StepTimes


@dataclass(frozen=True, slots=True)
class SearchResult:
    """The table, what stands behind it (the reference first), shapes that not even one sample fits, and the cost."""

    table: BucketTable
    found: tuple[BatchFit, ...]
    left_out: tuple[Shape, ...]
    calls: int


def search(
    template: BucketTable, spec: LatentSpec, measure: Measure, slack: float = 0.0, largest: int = 1024
) -> SearchResult:
    """Searches the batches of the template's buckets; its lengths and probabilities stay.

    `slack`: the share by which times may exceed the reference's, for measured times of equal work differ.
    `largest`: no batch above this is tried. UserError: the bucket with most tokens does not fit with one sample.
    """
    shapes = shapes_of(template, spec)
    calls = 0

    def timed(shape: Shape, batch: int, limit: StepTimes | None) -> StepTimes | None:
        nonlocal calls
        calls += 1
        times = measure(shape, batch)
        if isinstance(times, OutOfMemory) or not (limit is None or times.within(limit, slack)):
            return None
        return times

    reference = _largest_batch(shapes[0], None, timed, largest)
    if reference is None:
        cause = f"one sample of {shapes[0].resolution} with {shapes[0].frames} frames does not fit into memory"
        raise UserError(cause, "leave this bucket out, or use context parallelism or more checkpointing")
    others = [_largest_batch(shape, reference.times, timed, largest) for shape in shapes[1:]]
    found = (reference, *(f for f in others if f is not None))
    left_out = tuple(shape for shape, f in zip(shapes[1:], others, strict=True) if f is None)
    return SearchResult(_filled(template, found), found, left_out, calls)


def shapes_of(template: BucketTable, spec: LatentSpec) -> list[Shape]:
    """What is measured for a table, most tokens first."""
    spans: dict[tuple[str, int], list[int]] = {}
    for resolution, lengths in template.slots.items():
        for frames in sorted(lengths):
            spans.setdefault((resolution, (frames + SPAN - 2) // SPAN), []).append(frames)
    shapes: list[Shape] = []
    for (resolution, _), lengths in spans.items():
        height, width = max(sizes(resolution, template.side_multiple).values(), key=lambda size: size[0] * size[1])
        tokens = spec.grid(lengths[-1], height, width).tokens
        shapes.append(Shape(resolution, tuple(lengths), height, width, tokens))
    return sorted(shapes, key=lambda shape: shape.tokens, reverse=True)


def report(result: SearchResult) -> str:
    """What was found, a line a shape: the times beside the reference's show which of them binds."""
    lines = [f"{'bucket':<24}{'tokens':>8}{'batch':>7}{'forward':>10}{'backward':>10}{'step':>10}  samples/s"]
    for f in result.found:
        t, name = f.times, f"{f.shape.resolution}, {f.shape.lengths[0]}-{f.shape.frames} frames"
        seconds = f"{t.forward:>10.2f}{t.backward:>10.2f}{t.step:>10.2f}"
        lines.append(f"{name:<24}{f.shape.tokens:>8,}{f.batch:>7}{seconds}  {f.batch / t.step:.2f}")
    for shape in result.left_out:
        lines.append(f"left out: {shape.resolution}, {shape.frames} frames: one sample takes longer or more memory")
    return "\n".join([*lines, f"{result.calls} measurements"])


def _largest_batch(
    shape: Shape,
    limit: StepTimes | None,
    timed: Callable[[Shape, int, StepTimes | None], StepTimes | None],
    largest: int,
) -> BatchFit | None:
    """Doubling until a batch does not fit, then halving the gap; None where one sample does not."""
    best: BatchFit | None = None
    fails = largest + 1
    batch = 1
    while batch < fails:
        if times := timed(shape, batch, limit):
            best = BatchFit(shape, batch, times)
        else:
            fails = batch
        fitting = best.batch if best else 0
        batch = max(fitting + 1, min(2 * fitting, (fitting + fails) // 2))
    return best


def _filled(template: BucketTable, found: tuple[BatchFit, ...]) -> BucketTable:
    """The template with the batches found; what was left out is not in it."""
    batches = {(f.shape.resolution, frames): f.batch for f in found for frames in f.shape.lengths}
    slots = {
        resolution: {
            n: Slot(batches[resolution, n], slot.p) for n, slot in lengths.items() if (resolution, n) in batches
        }
        for resolution, lengths in template.slots.items()
    }
    return BucketTable(
        {resolution: lengths for resolution, lengths in slots.items() if lengths}, template.side_multiple
    )
