"""Conditions on what people have said: Lance, Arrow and plain Python find the same clips, whatever a tag looks like."""

from __future__ import annotations

import itertools
from typing import Any

import pytest

from curation.contract import CLIPS
from curation.errors import UserError
from curation.pyramid.queries import conditions
from curation.pyramid.review import asking, words
from curation.pyramid.review.words import Decision, Word
from curation.pyramid.store import Pyramid
from tests.curation.pyramid.build import table

WORD = Word.now("anna")
TAGS = ("x_y", "xay", "x", "y", "x_y2", "día:1/a+b.c")
"""`_` is any letter to a pattern of SQL; some begin or end as others do."""


def rows() -> list[dict[str, Any]]:
    """Every decision with every set of two tags at most."""
    sets = [some for count in range(3) for some in itertools.combinations(TAGS, count)]
    found: list[dict[str, Any]] = []
    for number, (decision, tags) in enumerate(itertools.product((None, *Decision), sets)):
        row = words.decided({}, decision, WORD)
        row = words.tagged(row, words.retag(tags), WORD) if tags else row
        found.append({"clip_id": f"{number:032x}", "video_id": "v", **row})
    return found


@pytest.mark.parametrize("column", asking.WORDED)
def test_all_readers_agree(pyramid: Pyramid, column: str) -> None:
    every = rows()
    whole = table(every, CLIPS, *CLIPS.names)
    pyramid.dataset("clips").insert(whole)
    if column == "decision":
        asked: list[Any] = ["keep", "drop", None, "keep,null", ["drop", None], "keep, drop"]
    else:
        asked = [
            *TAGS,
            *(f"-{tag}" for tag in TAGS),
            None,
            "x,y",
            "x,-y",
            "null,x",
            "-x,-x_y",
            "null,-x",
            ["x", "-xay"],
        ]
    for value in asked:
        one = conditions.condition(column, value)
        holding = [row["clip_id"] for row in every if conditions.holds([one], row)]
        assert 0 < len(holding) < len(every), value
        assert pyramid.query().where(**{column: value}).ids() == holding, value
        assert whole.filter(conditions.expression([one], CLIPS.names))["clip_id"].to_pylist() == holding, value


def test_what_the_values_mean() -> None:
    row = words.tagged(words.decided({}, Decision.DROP, WORD), words.typed("x, y"), WORD)
    for column, value, wanted in (
        ("decision", "drop", True),
        ("decision", "keep,null", False),
        ("tagged", "y", True),
        ("tagged", "z", False),
        ("tagged", "z,y", True),
        ("tagged", "-z", True),
        ("tagged", "x,-y", False),
        ("tagged", None, False),
    ):
        assert conditions.holds([conditions.condition(column, value)], row) is wanted, (column, value)


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("decision", "perhaps"),
        ("decision", ""),
        ("decision", 1),
        ("decision", (1, 2)),
        ("tagged", "a b"),
        ("tagged", []),
    ],
)
def test_what_they_cannot_mean(column: str, value: Any) -> None:
    with pytest.raises(UserError) as told:
        conditions.condition(column, value)
    assert told.value.remedy


def test_of_a_pyramid_that_is_older_nobody_has_said_anything(pyramid: Pyramid) -> None:
    pyramid.dataset("clips").insert(table([{"clip_id": "a", "video_id": "v", "motion": 2.0}], CLIPS, *CLIPS.names))
    pyramid.dataset("clips").drop_columns([*words.COLUMNS])
    for column, value, found in (
        ("decision", None, 1),
        ("decision", "keep,null", 1),
        ("decision", "keep", 0),
        ("decision_by", "anna", 0),
        ("decision_by", None, 1),
        ("tagged", None, 1),
        ("tagged", "-x", 1),
        ("tagged", "x", 0),
    ):
        query = pyramid.query().where(**{column: value})
        assert (query.count(), query.tier("low").count()) == (found, found), (column, value)
    assert pyramid.query().whole().to_table().to_pylist()[0]["tagged"] is None
    assert pyramid.query().having("decision").count() == 0
