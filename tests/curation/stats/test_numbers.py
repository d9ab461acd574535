"""Distributions without holding the numbers: quantiles near the exact ones, counts exact, edges round."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curation.stats import numbers
from curation.stats.numbers import Histogram, Sketch

FLOATS = st.floats(-(2.0**99), 2.0**99, width=32)


def sketched(values: list[float], parts: int = 3) -> Sketch:
    sketch = Sketch()
    for part in np.array_split(np.array(values, np.float64), parts):
        sketch.add(part)
    return sketch


@given(st.lists(FLOATS, min_size=1, max_size=200), st.sampled_from(numbers.QUANTILES))
@settings(max_examples=200, deadline=None)
def test_a_quantile_is_within_two_percent_of_the_exact_one(values: list[float], share: float) -> None:
    sketch = sketched(values)
    exact = sorted(values)[max(1, math.ceil(share * len(values))) - 1]
    found = sketch.quantile(share)
    assert found is not None and abs(found - exact) <= abs(exact) / 60 + 1e-37
    assert (sketch.count, sketch.least, sketch.most) == (len(values), min(values), max(values))
    assert sketch.mean == pytest.approx(np.mean(values), abs=1e20)


def test_nothing_has_no_quantile() -> None:
    sketch = sketched([])
    assert (sketch.count, sketch.mean, sketch.quantile(0.5)) == (0, None, None)


@given(st.floats(-1e6, 1e6), st.floats(0, 1e6), st.booleans())
@settings(max_examples=300, deadline=None)
def test_edges_are_few_and_hold_both_ends(low: float, width: float, whole: bool) -> None:
    found = numbers.edges(low, low + width, whole)
    slack = abs(low) * 1e-6 + 2e-9 * (found[1] - found[0])  # a number so close to an edge counts as on it
    assert found[0] <= low + slack and low + width <= found[-1] + slack
    assert 2 <= found.size <= numbers.BINS + 6 and (np.diff(found) > 0).all()
    assert not whole or (found == np.round(found)).all()


def test_edges_are_round() -> None:
    assert numbers.edges(2.0, 8.1).tolist() == pytest.approx([2 + 0.2 * step for step in range(32)])
    assert numbers.edges(3, 9, whole=True).tolist() == list(range(3, 11))
    assert 5.0 in numbers.edges(5.0, 5.0) and numbers.edges(0.0, 0.0).size > 2


@given(st.lists(st.integers(-3, 12), max_size=100))
def test_every_number_is_counted_once_in_its_bin(values: list[int]) -> None:
    found = Histogram.between(np.array([0.0, 2.0, 4.0, 8.0]))
    for part in np.array_split(np.array(values, np.float64), 3):
        found.add(part)
    bins = [sum(low <= one < high for one in values) for low, high in ((0, 2), (2, 4), (4, 8))]
    assert found.counts.tolist() == bins
    assert (found.below, found.above) == (sum(one < 0 for one in values), sum(one >= 8 for one in values))
