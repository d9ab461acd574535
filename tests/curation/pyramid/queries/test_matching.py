"""Which clips are the same piece of a source: against a plain definition, pair by pair."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from curation.pyramid.queries.matching import ALONE, CHANGED, SAME, Spans, match

Clip = tuple[int, int, int]
CLIPS = st.lists(
    st.tuples(st.integers(0, 2), st.integers(0, 60), st.integers(0, 30)).map(lambda c: (c[0], c[1], c[1] + c[2])),
    max_size=12,
)


def spans(clips: list[Clip]) -> Spans:
    return Spans(*(np.array([clip[field] for clip in clips], np.int64) for field in range(3)))


def relation(one: Clip, other: Clip) -> int:
    shared = min(one[2], other[2]) - max(one[1], other[1])
    shorter = min(one[2] - one[1], other[2] - other[1])
    if one[0] != other[0] or shared <= 0 or shared < shorter / 2:
        return ALONE
    return SAME if one == other else CHANGED


@given(CLIPS, CLIPS)
def test_it_is_what_comparing_every_pair_gives(a: list[Clip], b: list[Clip]) -> None:
    found = match(spans(a), spans(b))
    assert found.a.tolist() == [max((relation(one, other) for other in b), default=ALONE) for one in a]
    assert found.b.tolist() == [max((relation(one, other) for other in a), default=ALONE) for one in b]
    assert found.pairs[:, 0].tolist() == [at for at, what in enumerate(found.a.tolist()) if what != ALONE]
    for left, right in found.pairs.tolist():
        assert relation(a[left], b[right]) == found.a[left]


def test_of_several_the_one_that_shares_most_is_its_pair() -> None:
    found = match(spans([(0, 0, 100)]), spans([(0, 0, 40), (0, 45, 120), (1, 0, 100)]))
    assert found.pairs.tolist() == [[0, 1]]
    assert (found.a.tolist(), found.b.tolist()) == ([CHANGED], [CHANGED, CHANGED, ALONE])


def test_a_neighbour_that_a_moved_cut_touches_is_not_the_same_piece() -> None:
    """A's second clip shares two frames with B's first one, and all others with B's second one."""
    found = match(spans([(0, 0, 48), (0, 48, 96)]), spans([(0, 0, 50), (0, 50, 96)]))
    assert found.pairs.tolist() == [[0, 0], [1, 1]]
