"""A pyramid that was made before the contract had today's columns, but in its format, is read, queried, added to and
kept.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lance
import pyarrow as pa
import pytest

from curation.contract import CLIPS, FORMAT_VERSION, VIDEOS
from curation.errors import UserError
from curation.pyramid.commits.commit import Batch, Committer
from curation.pyramid.history.census import census
from curation.pyramid.history.ledger import Ledger
from curation.pyramid.history.waiting import Wanted, waiting
from curation.pyramid.lifecycle.upkeep import upkeep
from curation.pyramid.queries.videos import listing
from curation.pyramid.storage.columns import add_scores
from curation.pyramid.storage.datasets import NAMES, STORAGE_VERSION, schema
from curation.pyramid.store import Pyramid
from curation.pyramid.tiering.retention import tier_report
from curation.pyramid.tiering.retier import retier
from curation.pyramid.tiering.tiers import Range
from tests.curation.pyramid.build import TIERS, clip_ids, clips, whole_video

NEW = {
    "clips": ("plan", "ended_by", "conversion", "first_check", "last_check", "all_check"),
    "videos": ("extra",),
}
"""Columns that stand for those which a later version adds to the format."""


@pytest.fixture
def old(tmp_path: Path) -> Pyramid:
    """Such a pyramid with three clips of a video, and a `pyramid.json` as it was then."""
    place = tmp_path / "old"
    for name in NAMES:
        then = pa.schema([field for field in schema(name) if field.name not in NEW.get(name, ())])
        lance.write_dataset(then.empty_table(), f"{place}/{name}.lance", data_storage_version=STORAGE_VERSION)
    about = {"format": FORMAT_VERSION, "recipe": "test", "tiers": TIERS.to_data()}
    (place / "pyramid.json").write_text(json.dumps(about))
    pyramid = Pyramid.open(place)
    batch = whole_video(pyramid, "v1", 3)
    for name, table in (("clips", batch.clips), ("videos", batch.videos)):
        assert table is not None
        rows = [{key: value for key, value in row.items() if key not in NEW[name]} for row in table.to_pylist()]
        dataset = pyramid.dataset(name)
        dataset.insert(pa.Table.from_pylist(rows, schema=dataset.schema))
    return pyramid


def lacks(pyramid: Pyramid, name: str) -> list[str]:
    there = pyramid.dataset(name).schema.names
    return [column for column in NEW[name] if column not in there]


def test_reading_needs_no_column_and_writes_nothing(old: Pyramid) -> None:
    before = {name: old.dataset(name).version for name in ("clips", "videos")}
    rows = old.query().to_table().to_pylist()
    assert len(rows) == 3 and {row["plan"] for row in rows} == {None}
    for query in (old.query().limit(2), old.query().order("motion", descending=True).limit(2)):
        assert query.columns("plan", "clip_id").to_table().column_names == ["plan", "clip_id"]
    (batch,) = old.query().columns("duration_s", "first_check").batches(with_row_id=True)
    assert batch.schema.names == ["duration_s", "first_check", "_rowid"] and batch["first_check"].null_count == 3
    assert old.query().columns("plan").to_table()["plan"].null_count == 3
    assert [row.clips for row in tier_report(old)] == [2, 2, 0]
    assert Ledger(old).history("v1.mp4").videos[0]["status"] == "done"
    assert next(listing(old).batches()).to_pylist()[0]["extra"] is None
    assert census(old).clips == 3
    with pytest.raises(UserError, match="older than the column 'plan'"):
        old.where(plan="x").count()
    assert {name: old.dataset(name).version for name in before} == before
    assert (old.about.recipe_version, old.recipe_text(), old.about.moved) == (None, None, ())


def test_the_first_commit_adds_the_columns_and_keeps_every_row(old: Pyramid) -> None:
    pinned = old.pin("then")
    row: dict[str, Any] = {"clip_id": clip_ids("v1", 3)[0], "plan": "plan-2", "first_check": 7}
    Committer(old).commit(Batch(clip_updates=[clips(row)]))
    assert lacks(old, "clips") == [] and lacks(old, "videos") == ["extra"]
    Committer(old).commit(whole_video(old, "v2", 2))
    assert lacks(old, "videos") == []
    found = {
        one["clip_id"]: one for one in old.query().columns("clip_id", "plan", "first_check").to_table().to_pylist()
    }
    assert len(found) == 5 and (found[row["clip_id"]]["plan"], found[row["clip_id"]]["first_check"]) == ("plan-2", 7)
    for name, contract in (("clips", CLIPS), ("videos", VIDEOS)):
        there = old.dataset(name).schema
        assert {field.name: field.type for field in there} == {field.name: field.type for field in contract}
    then = old.query().at(pinned["clips"]).columns("clip_id", "plan").to_table()
    assert len(then) == 3 and then["plan"].null_count == 3
    assert upkeep(old).puzzling == 0 and old.query().count() == 5


def test_adding_columns_is_for_every_writer_at_once(old: Pyramid, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two that find them missing both end with them there."""
    from curation.pyramid.storage.columns import writable

    stale = Pyramid.open(old.uri)
    views = [stale.dataset("clips")]
    assert set(writable(old, "clips").schema.names) == set(CLIPS.names)
    monkeypatch.setattr(stale, "dataset", lambda name: views.pop() if views else old.dataset(name))
    assert set(writable(stale, "clips").schema.names) == set(CLIPS.names)
    assert views == []


SCORE = "text_area"


@pytest.fixture
def before_a_score(tmp_path: Path) -> Pyramid:
    """A pyramid of three clips, made before Ziggurat had one of its scores."""
    pyramid = Pyramid.create(tmp_path / "p", TIERS, "test")
    Committer(pyramid).commit(whole_video(pyramid, "v1", 3))
    pyramid.dataset("clips").drop_columns([SCORE, f"{SCORE}_by", f"{SCORE}_why"])
    return Pyramid.open(pyramid.uri)


def test_what_a_pyramid_of_before_a_score_lacks_is_known_and_nothing_is_written(before_a_score: Pyramid) -> None:
    old, version = before_a_score, before_a_score.dataset("clips").version
    assert {row[SCORE] for row in old.query().whole().to_table().to_pylist()} == {None}
    assert [row.clips for row in tier_report(old)] == [2, 2, 0]
    wanted = {SCORE: Wanted("x"), "aesthetic": Wanted("x", None, (SCORE,))}
    assert waiting(old, wanted, None).scores == {SCORE: 3, "aesthetic": 3}
    assert waiting(old, {SCORE: Wanted("x", "low")}, None).scores == {SCORE: old.tier("low").count()}
    assert census(old).clips == 3 and len(Ledger(old).history("v1.mp4").clips) == 3
    with pytest.raises(UserError, match=f"older than the column '{SCORE}'"):
        old.where(**{SCORE: (0, 1)}).count()
    assert old.dataset("clips").version == version


@pytest.mark.parametrize(
    "write",
    [
        lambda old: Committer(old).commit(whole_video(old, "v2", 1)),
        lambda old: retier(old.moving(lambda tiers: tiers.moved("low", SCORE, Range(None, 0.3)))),
        upkeep,
        lambda old: add_scores(old, ()),
    ],
    ids=["commit", "move", "upkeep", "recipe"],
)
def test_whoever_writes_gives_a_pyramid_the_score_that_it_lacks(
    before_a_score: Pyramid, write: Callable[[Pyramid], Any]
) -> None:
    names = before_a_score.query().ids()
    write(before_a_score)
    now = Pyramid.open(before_a_score.uri)
    assert set(now.dataset("clips").schema.names) == set(CLIPS.names)
    assert now.where(**{SCORE: None}).ids()[:3] == names
    row = {"clip_id": names[0], SCORE: 0.25, f"{SCORE}_by": "text-1"}
    Committer(now).commit(Batch(clip_updates=[clips(row)]))
    assert now.where(**{SCORE: (0.2, 0.3)}).ids() == [names[0]]
    assert waiting(now, {SCORE: Wanted("text-1")}, None).scores == {SCORE: now.query().count() - 1}
