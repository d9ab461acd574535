"""Videos listed by what became of them, and the census of a pyramid."""

from __future__ import annotations

import pytest

from curation.contract import VIDEOS
from curation.errors import UserError
from curation.pyramid.commits.commit import Batch, Committer
from curation.pyramid.history.census import census
from curation.pyramid.queries.videos import listing
from curation.pyramid.store import Pyramid
from tests.curation.pyramid.build import videos, whole_video


@pytest.fixture
def filled(pyramid: Pyramid) -> Pyramid:
    Committer(pyramid).commit(whole_video(pyramid, "done", 4))
    rows = [
        {"video_id": f"r{number}", "uris": [f"/r{number}"], "status": "rejected", "reason": reason, "measured": 2.0}
        for number, reason in enumerate(("low_fps", "low_fps", "too_short"))
    ]
    rows.append({"video_id": "q", "uris": ["/q"], "status": "quarantined", "reason": "unreadable"})
    Committer(pyramid).commit(Batch(videos=videos(*rows)))
    return pyramid


def ids(pyramid: Pyramid, status: str | None = None, reason: str | None = None) -> list[str]:
    found = listing(pyramid, status, reason).columns("video_id")
    names = [row["video_id"] for batch in found.batches() for row in batch.to_pylist()]
    assert len(names) == found.count()
    return sorted(names)


def test_by_status_and_reason(filled: Pyramid) -> None:
    assert ids(filled) == ["done", "q", "r0", "r1", "r2"]
    assert ids(filled, "rejected") == ["r0", "r1", "r2"] and ids(filled, "done") == ["done"]
    assert ids(filled, "rejected", "low_fps") == ["r0", "r1"] == ids(filled, reason="low_fps")
    assert ids(filled, "quarantined", "low_fps") == []


def test_columns_limit_and_schema(filled: Pyramid) -> None:
    found = listing(filled).columns("reason", "video_id", "reason").limit(2)
    rows = [row for batch in found.batches() for row in batch.to_pylist()]
    assert [list(row) for row in rows] == [["reason", "video_id"]] * 2 and found.count() == 2
    assert list(listing(filled).limit(0).batches()) == [] and listing(filled).limit(0).count() == 0
    assert next(listing(filled).batches()).schema.names == VIDEOS.names


@pytest.mark.parametrize(("status", "reason", "word"), [("rejectd", None, "rejected"), (None, "low-fps", "low_fps")])
def test_a_mistake_says_what_there_is(pyramid: Pyramid, status: str | None, reason: str | None, word: str) -> None:
    with pytest.raises(UserError, match=word):
        listing(pyramid, status, reason)
    with pytest.raises(UserError, match="no column"):
        listing(pyramid).columns("motion")
    with pytest.raises(UserError, match="limit"):
        listing(pyramid).limit(-1)


def test_the_census_counts_everything_once(filled: Pyramid) -> None:
    found = census(filled)
    assert found.videos == {
        ("done", ""): 1,
        ("quarantined", "unreadable"): 1,
        ("rejected", "low_fps"): 2,
        ("rejected", "too_short"): 1,
    }
    assert (found.clips, found.cut, found.tiers) == (4, 4, {"low": 3, "mid": 3, "high": 0})
    assert found.to_data()["videos"] == {"done": 1, "quarantined": 1, "rejected": 3}
    assert found.to_data()["reasons"] == {"unreadable": 1, "low_fps": 2, "too_short": 1}
    assert sum(found.videos.values()) == filled.dataset("videos").count_rows()
