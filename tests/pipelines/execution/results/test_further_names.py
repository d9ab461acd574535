"""A list's own columns in the pyramid: kept with the video, given to its clips, brought up to date without decoding."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from curation.contract import Source
from curation.inputs import own_columns
from curation.pyramid.commits.commit import Batch, Committer
from curation.pyramid.history.ledger import Ledger
from curation.pyramid.store import Pyramid
from pipelines.execution.results.further_names import further_names
from tests.curation.pyramid.build import TIERS, clip_ids, clips, whole_video


@pytest.fixture
def pyramid(tmp_path: Path) -> Pyramid:
    made = Pyramid.create(tmp_path / "p", TIERS, "test")
    for name in ("v1", "v2"):
        Committer(made).commit(whole_video(made, name, 2))
    return made


def named(uri: str, **columns: Any) -> Source:
    return Source(uri, 10, 1.0, own_columns.packed(columns))


def told(pyramid: Pyramid, video_id: str) -> dict[str, Any]:
    return json.loads(Ledger(pyramid).lookup([video_id])[video_id].extra or "{}")


def captions(pyramid: Pyramid, video_id: str) -> list[tuple[str | None, str | None]]:
    rows = pyramid.where(video_id=video_id).columns("caption", "caption_by").to_table().to_pylist()
    return [(row["caption"], row["caption_by"]) for row in rows]


def test_a_further_name_brings_its_columns_and_loses_none(pyramid: Pyramid) -> None:
    committer = Committer(pyramid)
    committer.commit(further_names(pyramid, [("v1", named("/in/v1.mp4", label="a", n=1))]))
    committer.commit(further_names(pyramid, [("v1", named("/copy.mp4", label="b", caption="words"))]))
    committer.commit(further_names(pyramid, [("v1", named("/third.mp4"))]))
    assert told(pyramid, "v1") == {"label": "b", "n": 1, "caption": "words"}
    assert set(Ledger(pyramid).lookup(["v1"])["v1"].uris) == {"/in/v1.mp4", "/copy.mp4", "/third.mp4"}
    assert captions(pyramid, "v1") == [("words", "given")] * 2
    assert captions(pyramid, "v2") == [(None, None)] * 2
    assert told(pyramid, "v2") == {}


def test_a_models_caption_stays_and_a_given_one_is_replaced(pyramid: Pyramid) -> None:
    committer = Committer(pyramid)
    committer.commit(further_names(pyramid, [("v1", named("/in/v1.mp4", caption="first"))]))
    model = clips({"clip_id": clip_ids("v1", 2)[0], "caption": "by a model", "caption_by": "m"})
    committer.commit(Batch(clip_updates=[model]))
    committer.commit(further_names(pyramid, [("v1", named("/in/v1.mp4", caption="second"))]))
    assert sorted(captions(pyramid, "v1")) == [("by a model", "m"), ("second", "given")]
    beside = pyramid.dataset("captions").to_table(columns=["clip_id", "caption", "by"]).to_pylist()
    assert {"clip_id": model["clip_id"][0].as_py(), "caption": "second", "by": "given"} in beside


def test_which_settled_names_have_columns_that_are_not_recorded(pyramid: Pyramid) -> None:
    ledger = Ledger(pyramid)
    first, second = named("/in/v1.mp4", label="a"), named("/in/v2.mp4")
    assert ledger.lacking_extra([first, second, named("/elsewhere.mp4", label="a")]) == [("v1", first)]
    Committer(pyramid).commit(further_names(pyramid, [("v1", first)]))
    assert ledger.lacking_extra([first]) == []
    more = named("/in/v1.mp4", label="a", other=2)
    assert ledger.lacking_extra([more]) == [("v1", more)]
    Committer(pyramid).commit(further_names(pyramid, [("v1", more)]))
    assert ledger.lacking_extra([first, more]) == [], "a list with fewer columns takes none away"
