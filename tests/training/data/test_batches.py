"""A batch is a function of manifest, seed and step: each sample once an epoch, whatever the ranks, balanced by cost."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from statistics import mean

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curation.errors import UserError
from curation.shards.manifest import Bucket
from tests.support import encoded
from training.cost.formulas import Transformer
from training.data.batches import Batches, MicroBatch, cost_of, held_out

SIZES = Transformer(width=64, double=2, single=2)
COST = cost_of(encoded.SPEC, SIZES, encoded.WORDS)

buckets = st.builds(
    Bucket,
    st.sampled_from(["256px", "768px"]),
    st.sampled_from([1, 4, 8, 32]),
    st.sampled_from([32, 64]),
    st.sampled_from([32, 96]),
    st.integers(1, 5),
)
tables = st.dictionaries(buckets, st.integers(0, 23), min_size=1, max_size=6)


def made(counts: Mapping[Bucket, int], per_step: int, seed: int = 42, without: tuple[int, ...] = ()) -> Batches:
    return Batches(encoded.table(counts), seed=seed, per_step=per_step, cost=COST, without=without)


def epoch(batches: Batches, number: int = 0) -> list[MicroBatch]:
    first = number * batches.steps_per_epoch
    return [batch for step in range(first, first + batches.steps_per_epoch) for batch in batches.step(step)]


@settings(deadline=None, max_examples=60)
@given(tables, st.integers(1, 4), st.integers(0, 2**40))
def test_an_epoch_takes_every_sample_that_a_full_batch_can(counts: dict[Bucket, int], per_step: int, seed: int) -> None:
    full = sum(count // bucket.batch for bucket, count in counts.items())
    if full < per_step:
        with pytest.raises(UserError, match="an epoch has no step"):
            made(counts, per_step, seed)
        return
    batches = made(counts, per_step, seed)
    rows = encoded.table(counts).to_pylist()
    for number in (0, 3):
        taken = epoch(batches, number)
        samples = Counter(sample for batch in taken for sample in batch.samples)
        assert not samples or max(samples.values()) == 1
        assert len(taken) == full - full % per_step == batches.steps_per_epoch * per_step
        for batch in taken:
            assert len(batch.samples) == batch.bucket.batch
            assert {Bucket.of(rows[sample]) for sample in batch.samples} == {batch.bucket}
    left = batches.left_out
    assert left.batches == full % per_step
    assert left.samples == sum(count % bucket.batch for bucket, count in counts.items())
    assert set(left.never) == {bucket for bucket, count in counts.items() if 0 < count < bucket.batch}


@settings(deadline=None, max_examples=30)
@given(tables, st.integers(0, 30), st.lists(st.integers(0, 30), max_size=6))
def test_neither_ranks_nor_what_was_asked_before_change_a_step(
    counts: dict[Bucket, int], step: int, before: list[int]
) -> None:
    counts = {**counts, encoded.CLIP: 30}
    want = made(counts, 12).step(step)
    asked = made(counts, 12)
    for other in before:
        asked.step(other)
    assert asked.step(step) == want
    for ranks in (1, 2, 3, 4, 6, 12):
        shares = [asked.share(step, rank, ranks) for rank in range(ranks)]
        assert {len(share) for share in shares} == {12 // ranks}
        assert sorted((batch for share in shares for batch in share), key=lambda batch: batch.number) == list(want)


def test_epochs_and_seeds_differ() -> None:
    counts = {encoded.CLIP: 40, encoded.IMAGE: 40}
    batches = made(counts, 3)
    orders = [epoch(batches, 0), epoch(batches, 1), epoch(made(counts, 3, seed=43))]
    assert len({tuple(batch.samples for batch in order) for order in orders}) == 3


def test_the_batches_of_a_step_cost_about_the_same() -> None:
    """Against the same batches grouped at random: a step lasts as long as its dearest batch."""
    large = Bucket("768px", 32, 256, 256, 1)
    counts = {encoded.CLIP: 200, encoded.IMAGE: 400, large: 100}
    batches = made(counts, 8)
    costs = [[COST(batch.bucket) for batch in batches.step(step)] for step in range(batches.steps_per_epoch)]
    flat = np.random.default_rng(0).permutation([cost for step in costs for cost in step]).reshape(-1, 8)
    ours, random = (mean(max(step) * 8 / sum(step) - 1 for step in steps) for steps in (costs, flat.tolist()))
    assert ours < 0.2 * random


def test_batches_of_like_cost_are_mixed() -> None:
    """Steps of one bucket alone would be no better balanced, and each would learn from one shape."""
    twin = Bucket("256px", 8, 96, 64, 2)
    batches = made({encoded.CLIP: 80, twin: 80}, 8)
    mixed = [len({batch.bucket for batch in batches.step(step)}) == 2 for step in range(batches.steps_per_epoch)]
    assert sum(mixed) > 0.8 * len(mixed)


def test_no_step_says_which_buckets_are_too_small() -> None:
    with pytest.raises(UserError, match=r"takes 4; too few samples: 256px 1x64x64 has 3 of 4.*smaller batches") as told:
        made({encoded.IMAGE: 3, encoded.CLIP: 4}, 4)
    assert "2 full batches" in str(told.value)


def test_ranks_that_do_not_divide_a_step_are_refused() -> None:
    with pytest.raises(UserError, match=r"12 micro-batches a step cannot be shared among 5 ranks.*per_step=10"):
        made({encoded.CLIP: 30}, 12).share(0, 0, 5)


def test_what_is_held_out_is_in_no_batch() -> None:
    out = held_out(40, 8, seed=1)
    assert len(set(out)) == 8 and out != held_out(40, 8, seed=2)
    batches = made({encoded.CLIP: 40}, 4, without=out)
    taken = {sample for number in range(3) for batch in epoch(batches, number) for sample in batch.samples}
    assert not taken & set(out)
    assert batches.left_out.samples == 0 and batches.steps_per_epoch == 4


def test_the_order_never_changes() -> None:
    """A checkpoint of an earlier version goes on with the same batches."""
    assert [batch.samples for batch in made({encoded.CLIP: 9, encoded.IMAGE: 9}, 2).step(1)] == [
        (17, 11, 9, 10),
        (0, 6),
    ]


def test_a_run_whose_samples_are_all_held_out_is_told_so() -> None:
    with pytest.raises(UserError, match="of 3 samples 3 are held out, taken down or without latents") as caught:
        Batches(encoded.table({encoded.CLIP: 3}), seed=0, per_step=1, cost=lambda bucket: 1.0, without=range(3))
    assert "validation.samples" in caught.value.remedy
