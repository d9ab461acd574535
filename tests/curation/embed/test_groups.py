"""Who is whose copy: every copy has its original among those that stay, and no two that stay are copies."""

from __future__ import annotations

from itertools import permutations

from hypothesis import given
from hypothesis import strategies as st

from curation.embed.groups import Pair, Place, grouped

ACCEPT = 1.75
CLIPS = [f"c{number}" for number in range(7)]
LIKE = st.sampled_from((0.0, 0.7, 1.7, 1.75, 1.8, 2.5, 3.0))
PAIRS = st.dictionaries(st.sampled_from([(a, b) for a in CLIPS for b in CLIPS if a < b]), LIKE)
RANKS = st.fixed_dictionaries({clip: st.tuples(st.integers(0, 2), st.integers(0, 2)) for clip in CLIPS})


def pairs_of(likes: dict[tuple[str, str], float]) -> list[Pair]:
    return [Pair(one, other, like) for (one, other), like in likes.items()]


@given(PAIRS, RANKS)
def test_groups(likes: dict[tuple[str, str], float], ranks: dict[str, tuple[float, ...]]) -> None:
    places = grouped(pairs_of(likes), ranks, ACCEPT)
    like = {**likes, **{(other, one): value for (one, other), value in likes.items()}}
    key = {clip: (*(-rank for rank in ranks[clip]), clip) for clip in CLIPS}
    assert places.keys() == {clip for pair in likes for clip in pair}
    for clip, place in places.items():
        before = {other for other in places if key[other] < key[clip] and not places[other].is_copy}
        most = max((like[clip, other] for other in before if (clip, other) in like), default=0.0)
        assert place.likeness == most and place.is_copy == (most >= ACCEPT)
        if place.nearest is not None:
            assert place.nearest in before and like[clip, place.nearest] == most


@given(PAIRS, RANKS, st.randoms())
def test_the_order_of_the_pairs_makes_no_difference(likes: dict[tuple[str, str], float], ranks, random) -> None:  # pyright: ignore[reportMissingParameterType]
    pairs = pairs_of(likes)
    turned = [Pair(pair.other, pair.one, pair.likeness) for pair in pairs]
    random.shuffle(turned)
    assert grouped(pairs, ranks, ACCEPT) == grouped(turned, ranks, ACCEPT)


def test_groups_grow_along_no_chain() -> None:
    """A is like B and B like C, which A is not: C stays."""
    ranks = {"a": (3.0,), "b": (2.0,), "c": (1.0,)}
    for order in permutations((Pair("a", "b", 2.0), Pair("b", "c", 2.0), Pair("a", "c", 0.9))):
        assert grouped(order, ranks, ACCEPT) == {
            "a": Place(),
            "b": Place("a", 2.0, True),
            "c": Place("a", 0.9, False),
        }


def test_of_two_that_it_is_equally_like_the_better_one_has_it() -> None:
    ranks = {"a": (3.0,), "b": (2.0,), "c": (1.0,)}
    for order in permutations((Pair("c", "b", 2.0), Pair("c", "a", 2.0))):
        assert grouped(order, ranks, ACCEPT)["c"] == Place("a", 2.0, True)


def test_a_clip_that_is_gone_counts_for_nothing() -> None:
    assert grouped([Pair("a", "gone", 3.0), Pair("a", "a", 3.0)], {"a": (1.0,)}, ACCEPT) == {}
