"""Who stands and who is whose copy, whatever comes in which round, and when clips, scores and tiers change."""

from __future__ import annotations

from collections.abc import Collection
from random import Random
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from curation.contract import CLIPS, LIKENESS
from curation.embed.groups import Pair
from curation.pyramid.similar import places
from curation.pyramid.similar.places import AGAIN, BEST, BY, Rule
from curation.pyramid.tiering.tiers import Range, Tier, Tiers

RULE = Rule(1.75, ("pixels", "-text_area"), "likeness-1-abc")
TIERS = Tiers((Tier("low", {"width": Range(64)}), Tier("high", {"motion": Range(2.0), LIKENESS: Range(high=1.7)})))
NAMES = [f"c{number}" for number in range(8)]
LIKES = st.dictionaries(
    st.sampled_from([(a, b) for a in NAMES for b in NAMES if a < b]), st.sampled_from((0.9, 1.7, 1.75, 2.0, 3.0))
)
MEASURES = st.fixed_dictionaries(
    {
        "width": st.sampled_from((32, 64, 128)),
        "motion": st.sampled_from((1.0, 3.0)),
        "text_area": st.sampled_from((0.0, 0.5)),
    }
)
CLIP = st.fixed_dictionaries(dict.fromkeys(NAMES, MEASURES))


class Clips:
    """What `pipelines.duplicates` does with a pyramid, in memory. `most`: candidates of a clip."""

    def __init__(self, likes: dict[tuple[str, str], float], most: int = len(NAMES)) -> None:
        self.rows: dict[str, dict[str, Any]] = {}
        self._likes, self._most = likes, most

    def add(self, name: str, measures: dict[str, Any]) -> None:
        empty: dict[str, Any] = dict.fromkeys([*CLIPS.names, LIKENESS, BY, places.WHY])
        self.rows[name] = empty | {"clip_id": name, "height": 64} | measures

    def like(self, one: str, other: str) -> float:
        return self._likes.get((min(one, other), max(one, other)), 0.0)

    def round(self, new: Collection[str]) -> None:
        there = [name for name, row in self.rows.items() if name in new or row[BY] == RULE.by]
        pairs = [Pair(name, other, self.like(name, other)) for name in new for other in self._near(name, there)]
        for _ in range(len(self.rows) ** 2):
            names = {*new, *(name for pair in pairs for name in (pair.one, pair.other))}
            names |= {best for name in names if (best := self.rows[name][BEST]) in self.rows}
            found = places.changed({name: self.rows[name] for name in names}, new, pairs, RULE, TIERS)
            pairs += [Pair(*pair, self.like(*pair)) for pair in found.unmet]
            if not found.unmet:
                break
        else:
            raise AssertionError("a round comes to no end")
        written = {row["clip_id"] for row in found.rows}
        copies = [name for name, row in self.rows.items() if row[BEST] in found.deposed and name not in written]
        self.write([*found.rows, *map(places.unsettled, copies)])

    def _near(self, name: str, there: Collection[str]) -> list[str]:
        likely = [other for other in there if other != name and self.like(name, other) > 0]
        return sorted(likely, key=lambda other: (-self.like(name, other), other))[: self._most]

    def write(self, rows: list[dict[str, Any]]) -> None:
        for row in rows:
            self.rows[row["clip_id"]] |= row

    def find(self, size: int) -> None:
        self.unsettle_lost()
        for _ in range(200):
            wanted = [name for name, row in sorted(self.rows.items()) if row[BY] != RULE.by]
            if not wanted:
                return
            self.round(wanted[:size])
            if len(wanted) <= size:
                self.unsettle_lost()
        raise AssertionError("it comes to no end")

    def unsettle_lost(self) -> None:
        lost = set[str]()
        for name, row in self.rows.items():
            if (best := row[BEST]) and places.has_lost_its_best(row, self.rows.get(best), RULE, TIERS):
                lost |= {name, best, *(other for other, that in self.rows.items() if that[BEST] == best)}
        self.write([places.unsettled(name) for name in sorted(lost & self.rows.keys())])

    def check(self, is_moved: bool = False) -> None:
        """Every copy has a better clip that stands and that it is like; no two that stand are copies. `is_moved`: ranks
        have changed, and a likeness that makes no copy is that of the time when the clip was compared.
        """
        order = {name: (*(-n for n in places.rank(row, TIERS, RULE)), name) for name, row in self.rows.items()}
        stand = [name for name, row in self.rows.items() if row[BEST] is None]
        for name, row in self.rows.items():
            assert row[BY] == RULE.by
            best = row[BEST]
            if best is None:
                assert all(self.like(name, other) < RULE.copy_from for other in stand if other != name)
            else:
                assert best in stand and order[best] < order[name]
                assert row[LIKENESS] == self.like(name, best) >= RULE.copy_from
            if not is_moved:
                better = [self.like(name, other) for other in stand if order[other] < order[name]]
                assert row[LIKENESS] >= max(better, default=0.0)


@settings(max_examples=150)
@given(CLIP, LIKES, st.permutations(NAMES), st.integers(1, 8), st.integers(1, 8))
def test_places_do_not_depend_on_rounds(clips: Any, likes: Any, order: list[str], size: int, first: int) -> None:
    found = Clips(likes)
    for some in (order[:first], order[first:]):
        for name in some:
            found.add(name, clips[name])
        found.find(size)
    found.check()
    at_once = Clips(likes)
    for name in NAMES:
        at_once.add(name, clips[name])
    at_once.find(len(NAMES))
    assert {name: row[BEST] for name, row in found.rows.items()} == {
        name: row[BEST] for name, row in at_once.rows.items()
    }


@settings(max_examples=150)
@given(CLIP, CLIP, LIKES, st.sets(st.sampled_from(NAMES)), st.integers(1, 4))
def test_places_follow_what_goes_and_what_is_measured_anew(
    clips: Any, later: Any, likes: Any, gone: Any, size: int
) -> None:
    found = Clips(likes)
    for name in NAMES:
        found.add(name, clips[name])
    found.find(size)
    for name in NAMES:
        found.rows[name] |= later[name]
    for name in gone:
        del found.rows[name]
    found.find(size)
    found.check(is_moved=True)


@settings(max_examples=50)
@given(st.permutations([f"c{number:02}" for number in range(14)]), st.integers(2, 4), st.randoms())
def test_of_more_copies_than_candidates_one_stands(order: list[str], most: int, random: Random) -> None:
    """Each is compared with a few of the others at first, and then with what those are copies of."""
    likes = {(one, other): random.choice((1.75, 2.0, 3.0)) for one in order for other in order if one < other}
    found = Clips(likes, most)
    for name in order:
        found.add(name, {"width": random.choice((64, 128, 256)), "motion": 3.0, "text_area": 0.0})
    found.find(len(order))
    groups = [name for name, row in found.rows.items() if row[BEST] is None]
    near = {name: set(found._near(name, order)) for name in order}
    assert len(groups) == len(_apart(near)), "as many stand as there are that no comparing connects"


def _apart(near: dict[str, set[str]]) -> list[set[str]]:
    """The parts of a graph that are not connected."""
    found: list[set[str]] = []
    for name, others in near.items():
        met = [one for one in found if one & {name, *others}]
        found = [one for one in found if one not in met] + [{name, *others}.union(*met)]
    return found


def test_a_tier_keeps_the_copy_that_it_admits() -> None:
    """The larger copy is not in the tier: it is the smaller one that stands."""
    found = Clips({("c0", "c1"): 3.0})
    found.add("c0", {"width": 1920, "motion": 1.0})
    found.add("c1", {"width": 640, "motion": 3.0})
    found.find(2)
    assert found.rows["c0"][BEST] == "c1" and found.rows["c1"][BEST] is None
    assert TIERS.highest(found.rows["c1"]) == "high"


def test_a_best_that_is_gone_or_has_no_place_is_none() -> None:
    row = {"clip_id": "b", "width": 64, "height": 64, BEST: "a", BY: RULE.by}
    best = row | {"clip_id": "a", "width": 128, BEST: None}
    assert not places.has_lost_its_best(row, best, RULE, TIERS)
    for wrong in (None, best | {BEST: "c"}, best | {BY: AGAIN}, best | {"width": 32}):
        assert places.has_lost_its_best(row, wrong, RULE, TIERS)


def test_what_is_missing_is_worst() -> None:
    row = {"clip_id": "c", "width": 64, "height": 64, "motion": 1.0, "text_area": None}
    assert places.rank(row, TIERS, RULE) == (0.0, 4096.0, float("-inf"))
    assert places.rank(row | {"width": 32, "text_area": 0.5}, TIERS, RULE) == (-1.0, 2048.0, -0.5)


def test_a_clip_that_lost_its_place_says_so() -> None:
    assert places.unsettled("c") == {
        "clip_id": "c",
        LIKENESS: None,
        BY: AGAIN,
        places.WHY: "to be compared again",
        BEST: None,
    }
