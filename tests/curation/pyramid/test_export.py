from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from curation.errors import UserError
from curation.pyramid import export
from curation.pyramid.commit import Batch, Committer
from curation.pyramid.fragments import write_media_fragments
from curation.pyramid.store import Pyramid
from tests.curation.pyramid.build import clip_ids, clips, whole_video


@pytest.fixture
def filled(pyramid: Pyramid) -> Pyramid:
    Committer(pyramid).commit(whole_video(pyramid, "v1", 5))
    Committer(pyramid).commit(Batch(clips=clips({"clip_id": "f" * 32, "motion": 50.0})))
    return pyramid


def test_json_lines_csv_and_parquet_hold_the_same_rows(filled: Pyramid, tmp_path: Path) -> None:
    query = filled.where(motion=(1, None)).columns("clip_id", "motion", "duration_s", "crop")
    lines, sheet = io.StringIO(), io.StringIO()
    assert export.json_lines(query, lines) == export.csv_file(query, sheet) == 5
    assert export.parquet(query, tmp_path / "x.parquet") == 5
    rows = [json.loads(line) for line in lines.getvalue().splitlines()]
    assert rows == pq.read_table(tmp_path / "x.parquet").to_pylist() == export.table(query).to_pylist()
    table = list(csv.DictReader(io.StringIO(sheet.getvalue())))
    assert [row["clip_id"] for row in table] == [row["clip_id"] for row in rows]
    assert table[0]["duration_s"] == "3.0" and table[0]["crop"] == ""
    assert [path.name for path in tmp_path.iterdir() if "partial" in path.name] == []


def test_nothing_found_is_an_empty_file(filled: Pyramid, tmp_path: Path) -> None:
    assert export.parquet(filled.where(clip_id="x").columns("clip_id"), tmp_path / "x.parquet") == 0
    assert pq.read_table(tmp_path / "x.parquet").column_names == ["clip_id"]
    with pytest.raises(UserError, match="cannot write"):
        export.parquet(filled.query(), tmp_path / "no" / "x.parquet")


def test_clips_become_files_named_by_their_ids(filled: Pyramid, tmp_path: Path) -> None:
    done = export.videos(filled.query(), tmp_path / "out")
    assert (done.files, done.missing) == (5, 1) and done.bytes == 5 * 3200
    found = {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()}
    assert found == {f"{name}.mp4": name.encode() * 100 for name in clip_ids("v1", 5)}
    with pytest.raises(UserError, match="not empty"):
        export.videos(filled.query(), tmp_path / "out")
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot write"):
        export.videos(filled.query(), tmp_path / "file")


@pytest.mark.parametrize("name", ["../../etc/passwd", "/abs", "a" * 200, "A" * 32, "aa/bbbbbbbb", "aaaaaaaa\n"])
def test_no_id_names_a_path(pyramid: Pyramid, tmp_path: Path, name: str) -> None:
    ticket = write_media_fragments(pyramid.uri, [(name, b"x")])
    Committer(pyramid).commit(Batch(media=[ticket], clips=clips({"clip_id": name, "motion": 1.0})))
    with pytest.raises(UserError, match="not one of"):
        export.videos(pyramid.query(), tmp_path / "out")
    assert list((tmp_path / "out").iterdir()) == []


def test_bytes_that_differ_from_their_checksum_are_not_written(
    filled: Pyramid, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Pyramid, "media", lambda self, ids: iter([("a" * 32, b"damaged", "0" * 64)]))
    with pytest.raises(UserError, match="checksum"):
        export.videos(filled.query(), tmp_path / "out")
    assert list((tmp_path / "out").iterdir()) == []
