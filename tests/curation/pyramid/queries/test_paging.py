"""Pages put together are the query's rows, each once and in order, whatever is asked for and written meanwhile."""

from __future__ import annotations

from typing import Any
from unittest import mock

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from curation.contract import SCORES
from curation.errors import UserError
from curation.pyramid.commits.commit import Batch, Committer
from curation.pyramid.queries import access
from curation.pyramid.queries.paging import Place, page
from curation.pyramid.queries.query import Query
from curation.pyramid.store import Pyramid
from tests.curation.pyramid.build import clips, whole_video
from tests.curation.pyramid.queries.test_query import CONDITION, filled  # noqa: F401

ORDERS = st.none() | st.tuples(
    st.sampled_from(["duration_s", "pixels", "short_side", "frames", "fps", "width", *SCORES]), st.booleans()
)


def paged(query: Query, most: int) -> list[str]:
    """The ids of all pages; each but the last is full, and a place survives its way through a URL."""
    found: list[str] = []
    place: Place | None = None
    while True:
        got = page(query.columns("clip_id"), most, place)
        found += got.rows["clip_id"].to_pylist()
        if got.following is None:
            assert len(got.rows) <= most
            return found
        assert len(got.rows) == most
        place = Place.of(got.following.encoded())
        assert place == got.following


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(CONDITION, max_size=2), ORDERS, st.integers(30, 150))
@example([], ("width", True), 25)
@example([("motion", (5.1, None))], ("motion", False), 9)
@example([], None, 400)
def test_pages_put_together_are_the_rows(
    filled: list[Pyramid],  # noqa: F811
    wanted: list[tuple[str, Any]],
    order: tuple[str, bool] | None,
    most: int,
) -> None:
    for pyramid in filled:
        query = pyramid.query()
        for column, value in wanted:
            pair = isinstance(value, tuple) and None not in value
            query = query.where(**{column: tuple(sorted(value)) if pair else value})  # type: ignore[type-var]
        query = query if order is None else query.order(*order)
        assert paged(query, most) == query.limit(100_000).ids()


def test_rows_that_are_written_meanwhile_change_no_page_that_follows(pyramid: Pyramid) -> None:
    for number in range(4):
        Committer(pyramid).commit(whole_video(pyramid, f"{number:012x}", 5))
    query = pyramid.query().columns("clip_id").order("motion", descending=True)
    before = query.limit(100).ids()
    first = page(query, 7)
    rows = [{"clip_id": name, "motion": 99.0, "motion_by": "motion-2"} for name in before[12:]]
    Committer(pyramid).commit(Batch(clip_updates=[clips(*rows)]))
    Committer(pyramid).commit(whole_video(pyramid, f"{9:012x}", 5))
    second = page(query, 7, first.following)
    third = page(query, 7, second.following)
    found = [name for one in (first, second, third) for name in one.rows["clip_id"].to_pylist()]
    assert found == before and third.following is None
    assert page(query, 7).rows["clip_id"].to_pylist()[0] in before[12:], "a first page is of the latest version"


def test_a_later_page_reads_no_fragment_before_its_place(pyramid: Pyramid) -> None:
    for number in range(4):
        Committer(pyramid).commit(whole_video(pyramid, f"{number:012x}", 5))
    ids = pyramid.query().ids()
    place = None
    with mock.patch.object(access, "candidates", return_value=None):
        for start in range(0, 20, 4):
            got = page(pyramid.query().columns("clip_id"), 4, place)
            assert got.rows["clip_id"].to_pylist() == ids[start : start + 4]
            place = got.following
    assert place is None


@pytest.mark.parametrize(
    "cursor", ["", "x", "äöü", "W10", "e30", "Z" * 5000, Place(0, 1).encoded(), Place(1, -1).encoded(), "W1tbW1tbW1tb"]
)
def test_what_is_no_place_is_refused_in_one_line(cursor: str) -> None:
    with pytest.raises(UserError, match="no place to go on from"):
        Place.of(cursor)


def test_a_place_of_another_order_or_of_a_version_that_is_gone_is_refused(pyramid: Pyramid) -> None:
    Committer(pyramid).commit(whole_video(pyramid, f"{1:012x}", 5))
    ordered = page(pyramid.query().order("motion"), 2).following
    with pytest.raises(UserError, match="another order"):
        page(pyramid.query(), 2, ordered)
    with pytest.raises(UserError, match="has no version 999"):
        page(pyramid.query(), 2, Place(999, 3))
