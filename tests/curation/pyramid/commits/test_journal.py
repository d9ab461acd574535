"""The journal: what is kept survives a kill, is committed once in effect, and is forgotten when it is committed."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from curation.contract import CLIPS
from curation.errors import UserError
from curation.identity import clip_id
from curation.pyramid.commits import journal
from curation.pyramid.commits.commit import Batch, Committer
from curation.pyramid.commits.journal import Journal, recover
from curation.pyramid.lifecycle.upkeep import upkeep
from curation.pyramid.storage.datasets import NAMES
from curation.pyramid.storage.fragments import read_ticket
from curation.pyramid.store import Pyramid
from curation.pyramid.tiering.tiers import Range, Tier, Tiers
from tests.curation.pyramid.build import clip_ids, clips, whole_video


def rows(pyramid: Pyramid) -> list[list[dict[str, Any]]]:
    columns = {"media": ["clip_id", "sha256"], "samples": ["clip_id", "frames"]}
    tables = [pyramid.dataset(name).to_table(columns=columns.get(name)).to_pylist() for name in NAMES]
    return [sorted(table, key=lambda row: str(row)) for table in tables]


def entries(pyramid: Pyramid) -> list[Path]:
    return sorted(Path(pyramid.uri, journal.FOLDER).rglob("*.*"))


def test_what_a_killed_run_kept_is_as_if_it_had_been_committed(pyramid: Pyramid, tmp_path: Path) -> None:
    from tests.curation.pyramid.build import TIERS

    other = Pyramid.create(tmp_path / "other", TIERS, "test")
    for name in ("v1", "v2"):
        Journal(pyramid.uri, "killed").keep(whole_video(pyramid, name, 3))
        Committer(other).commit(whole_video(other, name, 3))
    assert pyramid.dataset("videos").count_rows() == 0
    assert journal.recover(pyramid) == 2
    assert rows(pyramid) == rows(other)
    assert entries(pyramid) == []


def test_scores_and_replaced_clips_come_back_from_the_journal(pyramid: Pyramid) -> None:
    Committer(pyramid).commit(whole_video(pyramid, "v1", 3))
    kept = clip_ids("v1", 3)[:2]
    schema = pa.schema([CLIPS.field(name) for name in ("clip_id", "jitter", "jitter_by")])
    scored = pa.table({"clip_id": kept, "jitter": [1.0, 2.0], "jitter_by": ["x", "x"]}, schema=schema)
    Journal(pyramid.uri, "killed").keep(Batch(clip_updates=[scored], replaced={"v1": kept}))
    journal.recover(pyramid)
    found = pyramid.dataset("clips").to_table(columns=["clip_id", "jitter"]).to_pylist()
    assert {row["clip_id"]: row["jitter"] for row in found} == dict(zip(kept, [1.0, 2.0], strict=True))


def test_clips_that_an_older_version_called_otherwise_do_not_come_twice(pyramid: Pyramid) -> None:
    """What it left is taken up after its videos were measured again."""
    older = whole_video(pyramid, "v1", 3)
    assert older.clips is not None
    ids = [clip_id("v1", index * 50, index * 50 + 50, "plan-1") for index in range(3)]
    plans = pa.array(["plan-1"] * 3, pa.string())
    newer = older.clips.set_column(older.clips.schema.get_field_index("clip_id"), "clip_id", pa.array(ids))
    Committer(pyramid).commit(Batch(clips=newer.append_column(CLIPS.field("plan"), plans), videos=older.videos))
    Journal(pyramid.uri, "killed").keep(replace(older, clips=older.clips.append_column(CLIPS.field("plan"), plans)))
    assert journal.recover(pyramid) == 1
    assert sorted(pyramid.query().ids()) == sorted(ids)


def test_an_entry_committed_twice_changes_nothing(pyramid: Pyramid) -> None:
    """The driver was killed between the commit and forgetting, or another run recovers while this one commits."""
    batch = whole_video(pyramid, "v1", 3)
    Journal(pyramid.uri, "killed").keep(batch)
    Committer(pyramid).commit(batch)
    before = rows(pyramid)
    assert journal.recover(pyramid) == 1
    assert rows(pyramid) == before
    (media,) = [row for name, _, row in pyramid.media(clip_ids("v1", 3)[:1]) if name]
    assert media


def test_forgotten_entries_are_gone_and_others_stay(pyramid: Pyramid) -> None:
    mine, other = Journal(pyramid.uri, "mine"), Journal(pyramid.uri, "other")
    first, _ = mine.keep(Batch()), mine.keep(Batch())
    theirs = other.keep(Batch())
    mine.forget([first, first])
    assert len(entries(pyramid)) == 2
    mine.close()
    assert [str(path).endswith(theirs) for path in entries(pyramid)] == [True]
    mine.close()


def test_an_entry_cut_short_is_left_out_and_removed(pyramid: Pyramid, caplog: Any) -> None:
    """A machine that went down may leave a file without its content."""
    run = Journal(pyramid.uri, "killed")
    whole, torn = run.keep(whole_video(pyramid, "v1", 1)), run.keep(whole_video(pyramid, "v2", 1))
    path = Path(pyramid.uri, journal.FOLDER, torn)
    path.write_bytes(path.read_bytes()[:100])
    assert whole != torn
    assert journal.recover(pyramid) == 1
    assert pyramid.dataset("videos").to_table(columns=["video_id"])["video_id"].to_pylist() == ["v1"]
    assert "damaged" in caplog.text
    assert entries(pyramid) == []


def test_any_beginning_of_an_entry_is_read_whole_or_told_as_damaged(pyramid: Pyramid, caplog: Any) -> None:
    name = Journal(pyramid.uri, "killed").keep(Batch(clips=clips({"clip_id": "c"}), replaced={"v": ["c"]}))
    path = Path(pyramid.uri, journal.FOLDER, name)
    content = path.read_bytes()
    whole = journal._read(pyramid, name)
    assert whole is not None
    for length in range(len(content)):
        path.write_bytes(content[:length])
        caplog.clear()
        found = journal._read(pyramid, name)
        assert found == whole if found is not None else name in caplog.text, length
    for other in (b"\0" * 4096, b"no stream at all", journal._stream(pa.table({"media": [1]}))):
        path.write_bytes(other)
        assert journal._read(pyramid, name) is None


@pytest.mark.parametrize("cut", [0, 3, 7, 200, -200, -20])
def test_a_run_goes_on_whatever_is_left_of_an_entry(pyramid: Pyramid, cut: int) -> None:
    run = Journal(pyramid.uri, "killed")
    run.keep(whole_video(pyramid, "v1", 1))
    path = Path(pyramid.uri, journal.FOLDER, run.keep(whole_video(pyramid, "v2", 1)))
    path.write_bytes(path.read_bytes()[:cut])
    assert journal.recover(pyramid) == 1
    assert pyramid.dataset("videos").to_table(columns=["video_id"])["video_id"].to_pylist() == ["v1"]
    assert entries(pyramid) == []


@pytest.mark.parametrize("name", ["samples", "media"])
def test_an_entry_whose_files_are_gone_is_left_out_and_told(pyramid: Pyramid, caplog: Any, name: str) -> None:
    """As after `upkeep --keep-days 0` beside its run: rows of clips without their pictures would say what is not so."""
    run = Journal(pyramid.uri, "killed")
    batch = whole_video(pyramid, "v1", 2)
    torn, whole = run.keep(batch), run.keep(whole_video(pyramid, "v2", 1))
    _, written = read_ticket(getattr(batch, name)[0])
    for file in (file for fragment in written for file in fragment.files):
        Path(pyramid.uri, f"{name}.lance", "data", file.path).unlink()
    with pytest.raises(UserError, match=f"files of {name} in .* are gone before 2 clips"):
        Committer(pyramid).commit(batch)
    assert journal.recover(pyramid) == 1
    assert {row["video_id"] for row in rows(pyramid)[NAMES.index("clips")]} == {"v2"}
    assert torn in caplog.text and whole not in caplog.text
    assert entries(pyramid) == []


def test_upkeep_commits_the_journal_before_it_removes_files_of_nobody(pyramid: Pyramid) -> None:
    Journal(pyramid.uri, "killed").keep(whole_video(pyramid, "v1", 3))
    upkeep(pyramid, keep=timedelta(0), settle=timedelta(0), idle=True)
    assert len(list(pyramid.media(clip_ids("v1", 3)))) == 3


def test_an_update_in_an_older_versions_entry_settles_no_video_again(pyramid: Pyramid) -> None:
    """It wrote the columns that it had in the place of whole rows."""
    Committer(pyramid).commit(whole_video(pyramid, "v", 2))
    before = pyramid.dataset("videos").to_table().to_pylist()
    update = whole_video(pyramid, "v", 2).videos
    assert update is not None
    Journal(pyramid.uri, "killed").keep(Batch(videos=update.select(["video_id", "uris", "modified", "attempts"])))
    Journal(pyramid.uri, "killed").keep(whole_video(pyramid, "w", 1))
    assert recover(pyramid) == 2
    rows = {row["video_id"]: row for row in pyramid.dataset("videos").to_table().to_pylist()}
    assert [rows["v"]] == before and rows["w"]["status"] == "done"


def test_a_score_of_a_name_that_an_older_column_had_is_no_such_column(tmp_path: Path) -> None:
    """Entries of an older version alone are read by its columns; and no new score may be called so."""
    for name in ("embedding", "caption_model"):
        with pytest.raises(ValueError, match=name):
            Pyramid.create(tmp_path / name, Tiers((Tier("t", {name: Range(0, 1)}),)), "test", scores=[name])
