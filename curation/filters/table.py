"""The scores that every pyramid has, and the filters that make them: the one list that all else follows.

From it follow the columns of `clips` (`contract`), what tiers, queries and exports know, the tables of a recipe and
docs/recipe.md, the stages of a run, what `doctor` looks for and what a worker makes. So a score more is a file that
holds its filter and a line here (docs/filters.md, "A score of Ziggurat's own").

A leaf: the contract imports it, so it imports nothing of ours. Where a filter is it only says by name, and
`section.section_of` imports one filter and no other.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple


@dataclass(frozen=True, slots=True)
class Filter:
    """A line of the table.

    `name`: in recipes (`[filters.NAME]`) and of its stage. `scores`: the columns that it fills. `section`: where its
    `section.FilterSection` is, "module:Class". `against_measuring`: the seconds that a clip costs over those that the
    measuring pass takes for it, which a run reckons its end with (docs/performance.md); None where not measured.
    """

    name: str
    scores: tuple[str, ...]
    section: str
    against_measuring: float | None = None


FRAME_SCORES = ("motion", "sharpness", "jitter")
"""The scores that come with the measuring pass. They have no line of their own below, for they are no filters: the
pass computes all three in one sight of each decoded picture (`media.measures`, put together by `media.measure`), no
recipe can leave one out, and `rows.frame_fingerprints` says what makes each under a plan.
"""

LIKENESS = "likeness"
"""How much a clip looks like a better one (`embed.likeness`). With it goes `clips.duplicate_of`: the better clip of
which it is a copy, null where it is none.
"""
CROWDING = "crowding"
"""How crowded a clip's cluster is up to it (`embed.clusters`). With it goes `clips.cluster`."""


class Standing(NamedTuple):
    """The `column` of clips that goes with a score, and the command of `ziggurat` that makes both."""

    column: str
    command: str


AMONG_OTHERS = {LIKENESS: Standing("duplicate_of", "duplicates"), CROWDING: Standing("cluster", "clusters")}
"""The scores that say how a clip stands to others: no filter makes them, and a pyramid has them once a tier bounds one
or its command has run.
"""

FILTERS = (
    Filter("ocr", ("text_area",), "curation.filters.ocr.section:OcrSection", against_measuring=0.25),
    Filter("aesthetic", ("aesthetic",), "curation.filters.aesthetic_section:AestheticSection"),
)
"""The filters that work on stored sample frames, in order of cost, which is the order in which they run."""


def filter_of(name: str) -> Filter:
    """The filter of this name; `ValueError` where there is none."""
    for one in FILTERS:
        if one.name == name:
            return one
    raise ValueError(f"no sample filter is called {name!r}")
