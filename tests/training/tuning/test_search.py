"""The search against cost models whose best batches are known."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("torch")

from curation.errors import UserError
from training.data import bucket_table
from training.data.bucket_table import PRESETS, BucketTable, Slot
from training.models.base import LatentSpec
from training.tuning.search import Measure, OutOfMemory, Shape, StepTimes, report, search, shapes_of

HUNYUAN, DCAE = LatentSpec(16, 4, 8, True, 2), LatentSpec(128, 4, 32, False, 1)
TEXT_TOKENS = 512


def published_cost(memory_tokens: int) -> Measure:
    """Seconds and memory of the 11B model, by the FLOP formula and the autoencoder's cost of section 6 and 2.

    A token passes 6.455e9 weights and attends to its sequence in 57 blocks of width 3072; backward is twice forward.
    The autoencoder takes 79 TFLOP for 129 frames of 256 * 256, at 2.5 times the seconds a FLOP.
    """

    def measure(shape: Shape, batch: int) -> StepTimes | OutOfMemory:
        length = shape.tokens + TEXT_TOKENS
        if batch * length > memory_tokens:
            return OutOfMemory()
        network = batch * length * (2 * 6.455e9 + 57 * 4 * length * 3072) / 400e12
        encoding = batch * 79e12 * shape.frames * shape.height * shape.width / (129 * 256 * 256) / 160e12
        return StepTimes(network + encoding, 2 * network, 3 * network + encoding + 0.1)

    return measure


def linear(capacity: int, seconds: Callable[[Shape], tuple[float, float]] = lambda s: (s.tokens, s.tokens)) -> Measure:
    """`capacity` tokens fit; forward and backward take `seconds` a sample."""

    def measure(shape: Shape, batch: int) -> StepTimes | OutOfMemory:
        if batch * shape.tokens > capacity:
            return OutOfMemory()
        forward, backward = (batch * s for s in seconds(shape))
        return StepTimes(forward, backward, forward + backward)

    return measure


def batches(table: BucketTable) -> dict[str, dict[int, int]]:
    return {name: {n: slot.batch for n, slot in lengths.items()} for name, lengths in table.slots.items()}


def test_the_published_batches_of_256px_come_out_of_the_published_costs() -> None:
    template = BucketTable({"256px": PRESETS["stage1"].slots["256px"]})
    blank = BucketTable({"256px": {n: Slot(1) for n in template.slots["256px"]}})
    result = search(blank, HUNYUAN, published_cost(35_000))
    assert batches(result.table) == batches(template)
    assert [f.batch for f in result.found] == [3, 4, 6, 12, 45]
    steps = [f.times.step for f in result.found[:-1]]
    assert max(steps) == steps[0] and min(steps) > 0.9 * steps[0]


def test_a_table_that_was_found_is_read_back_with_its_lengths_and_probabilities() -> None:
    result = search(PRESETS["stage2_i2v"], HUNYUAN, linear(400_000))
    assert bucket_table.from_toml(result.table.to_toml()) == result.table
    for name, lengths in PRESETS["stage2_i2v"].slots.items():
        assert {n: s.p for n, s in lengths.items()} == {n: s.p for n, s in result.table.slots[name].items()}


@pytest.mark.parametrize(
    ("name", "spec", "spans"),
    [
        ("stage1", HUNYUAN, [(1, 1), (5, 33), (37, 65), (69, 97), (101, 129)]),
        ("high_compression", DCAE, [(1, 1), (16, 32), (36, 64), (68, 96), (100, 128)]),
    ],
)
def test_what_is_measured(name: str, spec: LatentSpec, spans: list[tuple[int, int]]) -> None:
    table = PRESETS[name]
    shapes = shapes_of(table, spec)
    assert shapes[0].frames == spans[-1][1] and shapes[0].tokens == max(s.tokens for s in shapes)
    first = next(iter(table.slots))
    assert sorted((s.lengths[0], s.frames) for s in shapes if s.resolution == first) == spans
    for shape in shapes:
        assert shape.tokens == spec.grid(shape.frames, shape.height, shape.width).tokens


@settings(max_examples=60, deadline=None)
@given(st.integers(9_000, 200_000), st.integers(0, 3000), st.floats(0.2, 3), st.floats(0, 0.2))
def test_every_batch_is_the_largest_that_fits(capacity: int, overhead: int, steep: float, slack: float) -> None:
    measure = linear(capacity, lambda s: (s.tokens**steep + overhead, 2 * s.tokens**steep))
    result = search(PRESETS["stage1"], HUNYUAN, measure, slack)
    reference = result.found[0]
    assert isinstance(measure(reference.shape, reference.batch + 1), OutOfMemory)
    for f in result.found[1:]:
        assert f.times.within(reference.times, slack)
        more = measure(f.shape, f.batch + 1)
        assert isinstance(more, OutOfMemory) or not more.within(reference.times, slack)
    for shape in result.left_out:
        one = measure(shape, 1)
        assert isinstance(one, OutOfMemory) or not one.within(reference.times, slack)
    assert len(result.found) + len(result.left_out) == len(shapes_of(PRESETS["stage1"], HUNYUAN))


@pytest.mark.parametrize("bound", ["forward", "backward", "step"])
def test_each_of_the_three_times_binds(bound: str) -> None:
    """Images that would fit 20 times by memory and by two of their times, and 5 times by the third."""

    def measure(shape: Shape, batch: int) -> StepTimes | OutOfMemory:
        if shape.frames > 1:
            return StepTimes(10, 10, 20) if batch == 1 else OutOfMemory()
        times = {"forward": 0.5 * batch, "backward": 0.5 * batch, "step": 1.0 * batch}
        times[bound] *= 4
        return StepTimes(**times) if batch <= 20 else OutOfMemory()

    result = search(BucketTable({"256px": {1: Slot(1), 5: Slot(1)}}), HUNYUAN, measure)
    assert batches(result.table) == {"256px": {1: 5, 5: 1}}


def test_measurements_are_counted_and_none_is_made_twice() -> None:
    asked: Counter[tuple[Shape, int]] = Counter()

    def measure(shape: Shape, batch: int) -> StepTimes | OutOfMemory:
        asked[shape, batch] += 1
        return linear(100_000)(shape, batch)

    result = search(PRESETS["stage1"], HUNYUAN, measure)
    assert result.calls == asked.total() and max(asked.values()) == 1
    assert result.calls <= sum(2 * f.batch.bit_length() + 1 for f in result.found)


def test_a_shape_that_is_too_slow_is_left_out_and_reported() -> None:
    slow_images = linear(100_000, lambda s: (1e9, 1e9) if s.frames == 1 and s.resolution == "1024px" else (1, 1))
    result = search(PRESETS["stage1"], HUNYUAN, slow_images)
    assert [s.resolution for s in result.left_out] == ["1024px"]
    assert set(result.table.slots) == {"256px", "768px"}
    shown = report(result)
    assert "left out: 1024px, 1 frames" in shown and f"{result.calls} measurements" in shown
    assert "256px, 101-129 frames" in shown.splitlines()[1], "the reference comes first"


def test_a_batch_has_an_upper_bound() -> None:
    found = search(BucketTable({"256px": {1: Slot(1)}}), HUNYUAN, linear(10**9), largest=100).found
    assert [f.batch for f in found] == [100]


def test_a_table_whose_largest_bucket_does_not_fit_says_so() -> None:
    with pytest.raises(UserError, match="129 frames does not fit into memory; leave this bucket out"):
        search(PRESETS["stage1"], HUNYUAN, linear(100))
