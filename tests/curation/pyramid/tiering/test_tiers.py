from __future__ import annotations

import pickle
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from curation.contract import NOT_OF_IMAGES, SCORES, Kind
from curation.pyramid.tiering.tiers import COLUMNS, MEASURES, Bound, Range, Tier, Tiers

Tier_: Any = Tier  # takes pairs for ranges too, as recipes write them
NUMBERS = (*SCORES, *MEASURES)
VALUE = st.none() | st.floats(-1e6, 1e6) | st.just(float("nan"))
SCORES_OF_A_CLIP = st.builds(
    lambda values, kind: {**values, "kind": kind},
    st.dictionaries(st.sampled_from(NUMBERS), VALUE),
    st.sampled_from([None, *Kind]),
)


@st.composite
def tiers(draw: st.DrawFn) -> Tiers:
    """One to four tiers that leave something of each other."""
    steps: list[Tier] = []
    kind = draw(st.sampled_from(Kind))
    for index in range(draw(st.integers(1, 4))):
        ranges: dict[str, Bound] = {}
        for column in draw(st.sets(st.sampled_from(COLUMNS), max_size=3)):
            if column == "kind":
                ranges[column] = kind
                continue
            low, high = draw(st.none() | st.floats(-1e6, 0)), draw(st.none() | st.floats(0, 1e6))
            ranges[column] = Range(low, high)
        steps.append(Tier(f"t{index}", ranges))
    return Tiers(tuple(steps))


@given(tiers(), SCORES_OF_A_CLIP)
def test_tiers_nest_by_construction(steps: Tiers, scores: dict[str, float | None]) -> None:
    admitted = [steps.admits(name, scores) for name in steps.names]
    assert admitted == sorted(admitted, reverse=True)
    highest = steps.highest(scores)
    assert (highest is None) == (not admitted[0])
    assert highest is None or highest == steps.names[sum(admitted) - 1]


@given(tiers(), SCORES_OF_A_CLIP, st.sets(st.sampled_from(COLUMNS)))
def test_a_clip_that_is_admitted_is_reached_whatever_is_known(
    steps: Tiers, scores: dict[str, float | None], known: set[str]
) -> None:
    for name in steps.names:
        assert not steps.admits(name, scores) or steps.reaches(name, scores, known)
        assert steps.reaches(name, scores, COLUMNS) == steps.admits(name, scores)
        assert steps.reaches(name, scores, ())


@given(tiers())
def test_json_and_pickle_keep_tiers(steps: Tiers) -> None:
    assert Tiers.from_json(steps.to_json()) == steps
    assert pickle.loads(pickle.dumps(steps)) == steps


def test_null_and_nan_satisfy_no_range() -> None:
    steps = Tiers((Tier_("a", {"motion": Range()}),))
    assert not steps.admits("a", {"motion": None})
    assert not steps.admits("a", {})
    assert not steps.admits("a", {"motion": float("nan")})
    assert steps.admits("a", {"motion": -1e30})


@pytest.mark.parametrize("column", NUMBERS)
def test_a_range_over_what_an_image_does_not_have_keeps_it(column: str) -> None:
    steps = Tiers((Tier_("a", {column: (5.0, None)}),))
    assert steps.admits("a", {"kind": "image"}) == (column in NOT_OF_IMAGES)
    assert steps.reaches("a", {"kind": "image"}, [column]) == (column in NOT_OF_IMAGES)
    assert not steps.admits("a", {"kind": "video"}) and not steps.admits("a", {"kind": None})


def test_a_tier_may_be_of_one_kind() -> None:
    steps = Tiers((Tier_("a", {"motion": (1.0, None)}), Tier_("b", {"kind": "image"})))
    still, clip, older = {"kind": "image"}, {"kind": "video", "motion": 2.0}, {"motion": 2.0}
    assert [steps.highest(row) for row in (still, clip, older)] == ["b", "a", "a"]
    turned = steps.moved("b", "kind", Kind.VIDEO)
    assert [turned.highest(row) for row in (still, clip, older)] == ["a", "b", "b"]
    assert steps.moved("b", "kind", Range()).effective("b") == {"motion": Range(1.0)}
    assert steps.to_data()[1] == {"name": "b", "ranges": {"kind": "image"}}
    assert Tiers.from_json('[{"name": "a", "ranges": {"motion": [1.0, null]}}, {"name": "b", "ranges": {}}]') == Tiers(
        (steps.steps[0], Tier("b"))
    )


def test_bounds_are_inclusive_and_scores_compare_as_float32() -> None:
    steps = Tiers((Tier_("a", {"aesthetic": (5.1, 5.3), "duration_s": (2.0, 8.0)}),))
    stored = 5.099999904632568  # 5.1 as float32
    assert steps.admits("a", {"aesthetic": stored, "duration_s": 2.0})
    assert steps.admits("a", {"aesthetic": 5.3, "duration_s": 8.0})
    assert not steps.admits("a", {"aesthetic": 5.0999, "duration_s": 2.0})
    assert not steps.admits("a", {"aesthetic": 5.2, "duration_s": 1.9999999})


def test_moved_changes_one_range() -> None:
    steps = Tiers((Tier_("a", {"motion": (1.0, None)}), Tier_("b", {"motion": (2.0, None)})))
    moved = steps.moved("b", "motion", Range(4.0))
    assert moved.effective("b") == {"motion": Range(4.0)} and moved.effective("a") == {"motion": Range(1.0)}
    assert steps.moved("b", "motion", Range()).effective("b") == {"motion": Range(1.0)}


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: Tier("a b"), ["'a b'", "letters"]),
        (lambda: Tier(""), ["''"]),
        (lambda: Tier("../x"), ["'../x'"]),
        (lambda: Tier_("a", {"Colour": (1, 2)}), ["'a'", "'Colour'", *SCORES]),
        (lambda: Tier_("a", {"caption": (1, 2)}), ["'a'", "'caption'", *SCORES]),
        (
            lambda: Tiers((Tier_("a", {"colour": (1, 2)}),)).check_columns(["logo"]),
            ["'a'", "'colour'", *SCORES, "logo"],
        ),
        (lambda: Tier_("a", {"motion": (2, 1)}), ["motion", "2", "1"]),
        (lambda: Tier_("a", {"motion": (float("nan"), None)}), ["motion", "nan"]),
        (lambda: Tier_("a", {"motion": (float("inf"), None)}), ["motion", "inf"]),
        (lambda: Tier_("a", {"motion": (10**400, None)}), ["motion", "1e308"]),
        (lambda: Tier_("a", {"motion": ("1 OR 1=1", None)}), ["1 OR 1=1"]),
        (lambda: Tier_("a", {"motion": (True, None)}), ["True"]),
        (lambda: Tier_("a", {"motion": 3}), ["3", "pair"]),
        (lambda: Tiers((Tier("a"), Tier("a"))), ["'a'", "2 times"]),
        (
            lambda: Tiers((Tier_("a", {"motion": (5, None)}), Tier_("b", {"motion": (None, 4)}))),
            ["'b'", "motion"],
        ),
        (lambda: Tiers((Tier_("a", {"kind": "image"}), Tier_("b", {"kind": "video"}))), ["'b'", "kind", "image"]),
        (lambda: Tier_("a", {"kind": "picture"}), ["'a'", "kind", "'picture'", "video, image"]),
        (lambda: Tier_("a", {"kind": (1, 2)}), ["'a'", "kind", "video, image"]),
        (lambda: Tier_("a", {"motion": "image"}), ["'a'", "motion", "pair"]),
        (lambda: Tiers((Tier("a"),)).admits("z", {}), ["'z'", "a"]),
        (lambda: Tiers((Tier("a"),)).moved("a", "x y", Range()), ["'x y'"]),
        (lambda: Tiers.from_json('{"a": 1}'), ["list"]),
        (lambda: Tiers.from_json('[{"name": "a", "ranges": {}, "more": 1}]'), ["more"]),
    ],
)
def test_mistakes_are_named(make: Any, words: list[str]) -> None:
    with pytest.raises(ValueError, match=r".+") as caught:
        make()
    assert all(word in str(caught.value) for word in words), caught.value
