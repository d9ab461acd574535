from __future__ import annotations

import csv
import hashlib
import io
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from curation.errors import UserError
from curation.pyramid.commits.commit import Batch, Committer
from curation.pyramid.queries import export, naming
from curation.pyramid.queries.export import Rows
from curation.pyramid.queries.naming import Pattern
from curation.pyramid.queries.query import Query
from curation.pyramid.storage.fragments import write_media_fragments
from curation.pyramid.store import Pyramid
from tests.curation.pyramid.build import JPEG, PNG, clip_ids, clips, whole_image, whole_video
from tests.support.jobs import ROOT


@pytest.fixture
def filled(pyramid: Pyramid) -> Pyramid:
    Committer(pyramid).commit(whole_video(pyramid, "v1", 5))
    Committer(pyramid).commit(Batch(clips=clips({"clip_id": "f" * 32, "motion": 50.0})))
    return pyramid


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def exported(query: Query, folder: Path, kind: str) -> bytes:
    place = folder / f"x.{kind}"
    export.save(Rows.of(query), str(place))
    return place.read_bytes()


def test_json_lines_csv_and_parquet_hold_the_same_rows(filled: Pyramid, tmp_path: Path) -> None:
    query = filled.where(motion=(1, None)).columns("clip_id", "motion", "duration_s", "crop", "source")
    for kind in ("jsonl", "csv", "parquet"):
        assert export.save(Rows.of(query), str(tmp_path / f"x.{kind}")) == 5
    rows = [json.loads(line) for line in (tmp_path / "x.jsonl").read_text().splitlines()]
    assert rows == pq.read_table(tmp_path / "x.parquet").to_pylist() == export.table(query).to_pylist()
    table = list(csv.DictReader(io.StringIO((tmp_path / "x.csv").read_text())))
    assert [row["clip_id"] for row in table] == [row["clip_id"] for row in rows]
    assert table[0]["duration_s"] == "3.0" and table[0]["crop"] == ""
    assert [row["source"] for row in rows] == ["v1.mp4"] * 4 + [None]
    assert names_in(tmp_path) == ["pyramid", "x.csv", "x.jsonl", "x.parquet"]


def test_nothing_found_is_an_empty_file_with_the_same_columns(filled: Pyramid, tmp_path: Path) -> None:
    query = filled.query().whole()
    for empty in (query.where(clip_id="x"), query.limit(0), query.where(clip_id="x").order("motion")):
        assert export.save(Rows.of(empty), str(tmp_path / "x.parquet")) == 0
        export.save(Rows.of(query), str(tmp_path / "y.parquet"))
        assert pq.read_schema(tmp_path / "x.parquet").equals(pq.read_schema(tmp_path / "y.parquet"))
    assert exported(filled.where(clip_id="x").columns("clip_id", "uri"), tmp_path, "csv") == b"clip_id,uri\r\n"
    with pytest.raises(UserError, match="does not exist"):
        export.save(Rows.of(filled.query()), str(tmp_path / "no" / "x.parquet"))


@pytest.mark.parametrize("descending", [False, True])
def test_an_ordered_query_is_exported_whole(
    filled: Pyramid, tmp_path: Path, descending: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("curation.pyramid.queries.query._BATCH_ROWS", 2)
    query = filled.query().order("motion", descending).columns("clip_id", "motion", "uri")
    rows = [json.loads(line) for line in exported(query, tmp_path, "jsonl").splitlines()]
    assert [row["motion"] for row in rows] == sorted([0.0, 1.0, 2.0, 3.0, 4.0, 50.0], reverse=descending)
    assert [row["uri"] for row in rows if row["motion"] < 5] == ["/in/v1.mp4"] * 5
    done = export.videos(query, str(tmp_path / "out"))
    lines = [json.loads(line) for line in (tmp_path / "out" / export.METADATA).read_text().splitlines()]
    assert done.files == 5 and [line["motion"] for line in lines] == [r["motion"] for r in rows if r["motion"] < 5]


def test_clips_become_files_named_by_their_ids_with_what_is_known_of_them(filled: Pyramid, tmp_path: Path) -> None:
    done = export.videos(filled.query().whole(), str(tmp_path / "out"))
    assert (done.files, done.missing) == (5, 1) and done.bytes == 5 * 3200
    found = {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()}
    lines = [json.loads(line) for line in found.pop(export.METADATA).splitlines()]
    assert found == {f"{name}.mp4": name.encode() * 100 for name in clip_ids("v1", 5)}
    for index, (line, name) in enumerate(zip(lines, clip_ids("v1", 5), strict=True)):
        assert (line["file_name"], line["clip_id"], line["video_id"]) == (f"{name}.mp4", name, "v1")
        assert (line["source"], line["uri"], line["uris"]) == ("v1.mp4", "/in/v1.mp4", ["/in/v1.mp4"])
        assert (line["start_frame"], line["end_frame"]) == (index * 50, index * 50 + 50)
        assert (line["start_s"], line["end_s"], line["motion"]) == (index * 2.0, index * 2.0 + 3.0, float(index))
        assert (line["motion_by"], line["sharpness"], line["aesthetic"]) == ("motion-1", 20.0, None)
        assert {"caption", "plan", "tier", "aesthetic_why", "duration_s"} <= set(line)
        assert line["media"] == hashlib.sha256(name.encode() * 100).hexdigest()
    with pytest.raises(UserError, match="not empty"):
        export.videos(filled.query(), str(tmp_path / "out"))
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot write"):
        export.videos(filled.query(), str(tmp_path / "file"))


def test_files_are_named_by_a_pattern(filled: Pyramid, tmp_path: Path) -> None:
    Committer(filled).commit(whole_video(filled, "v2", 1, uri="/in/day one/a b;$(x)\u00e9.v2.mp4"))
    export.videos(filled.query(), str(tmp_path / "out"), "{source}_{shot}_{clip_id}.mp4")
    (other,) = clip_ids("v2", 1)
    wanted = {*(f"v1_none_{name}.mp4" for name in clip_ids("v1", 5)), f"a_b___x_\u00e9.v2_none_{other}.mp4"}
    assert set(names_in(tmp_path / "out")) == wanted | {export.METADATA}


def test_an_image_is_written_under_the_suffix_of_its_bytes(pyramid: Pyramid, tmp_path: Path) -> None:
    for name, content in (("a1", JPEG), ("b2", PNG)):
        Committer(pyramid).commit(whole_image(pyramid, name, content))
    Committer(pyramid).commit(whole_video(pyramid, "v1", 1))
    export.videos(pyramid.query().columns("clip_id"), str(tmp_path / "out"), "{source}_{kind}_{clip_id}.jpg")
    lines = [json.loads(line) for line in (tmp_path / "out" / export.METADATA).read_text().splitlines()]
    assert {line["file_name"].replace(line["clip_id"], "ID"): line["kind"] for line in lines} == {
        "a1_image_ID.jpg": "image",
        "b2_image_ID.png": "image",
        "v1_video_ID.mp4": "video",
    }
    for line in lines:
        content = (tmp_path / "out" / line["file_name"]).read_bytes()
        assert hashlib.sha256(content).hexdigest() == line["media"]
    for kind in ("jsonl", "csv"):
        rows = exported(pyramid.query().columns("kind"), tmp_path, kind).decode()
        assert rows.count("image") == 2 and rows.count("video") == 1
    Committer(pyramid).commit(whole_image(pyramid, "c3", b"something else"))
    with pytest.raises(UserError, match="neither JPEG nor PNG"):
        export.videos(pyramid.query(), str(tmp_path / "again"))
    assert not (tmp_path / "again").exists()


TEXT = st.text(max_size=300) | st.sampled_from(
    ["../../etc/passwd", "/abs", "..", ".hidden", "a\x00b", "\u202e", "x" * 900]
)
PATTERN = (
    st.permutations(naming.FIELDS)
    .flatmap(
        lambda fields: st.integers(1, 4).map(lambda n: "_".join(f"{{{name}}}" for name in [*fields[:n], "clip_id"]))
    )
    .filter(lambda text: text.count("{clip_id}") == 1)
)


@given(PATTERN, TEXT, TEXT, st.integers(0, 1 << 40), st.text("0123456789abcdef", min_size=8, max_size=64))
@example("{source}{clip_id}", "\ud7ff" * 400, "", 0, "a" * 32)
def test_no_value_leads_a_name_out_of_its_folder(pattern: str, source: str, tier: str, number: int, name: str) -> None:
    row: dict[str, Any] = dict.fromkeys(naming.FIELDS, number)
    row |= {"clip_id": name, "video_id": "v" * 64, "source": source, "tier": tier[:32]}
    made = Pattern.of(pattern).name(row) + ".mp4"
    assert name in made
    assert os.path.basename(made) == made and not made.startswith(".") and len(made.encode()) <= 255
    assert not set(made) & set("/\\\0\n*?\"'<>|:;&$`!#%{}() ")


@pytest.mark.parametrize(
    ("pattern", "words"),
    [
        ("{source}", ["{clip_id}"]),
        ("clip", ["{clip_id}"]),
        ("{clip_id}{title}", ["{title}", "{source}"]),
        ("{clip_id.__class__}", ["{clip_id.__class__}"]),
        ("{clip_id!r}", ["{clip_id}"]),
        ("{clip_id:>99999999}", ["{clip_id}"]),
        ("{0}", ["{0}"]),
        ("{}", ["{}"]),
        ("{clip_id", ["pattern"]),
        ("../{clip_id}", ["cannot be part"]),
        ("a/{clip_id}", ["cannot be part"]),
        (".{clip_id}", ["hidden"]),
        ("{clip_id}\n", ["cannot be part"]),
        ("{clip_id}_{clip_id}", ["twice"]),
        ("{clip_id}" + "x" * 300, ["longer"]),
    ],
)
def test_a_wrong_pattern_is_told_before_anything_is_written(
    filled: Pyramid, tmp_path: Path, pattern: str, words: list[str]
) -> None:
    with pytest.raises(UserError) as caught:
        export.videos(filled.query(), str(tmp_path / "out"), pattern)
    assert all(word in str(caught.value) for word in words), caught.value
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("name", ["../../etc/passwd", "/abs", "a" * 200, "A" * 32, "aa/bbbbbbbb", "aaaaaaaa\n"])
def test_no_id_names_a_path(pyramid: Pyramid, tmp_path: Path, name: str) -> None:
    ticket = write_media_fragments(pyramid.uri, [(name, b"x")])
    Committer(pyramid).commit(Batch(media=[ticket], clips=clips({"clip_id": name, "motion": 1.0})))
    with pytest.raises(UserError, match="not one of"):
        export.videos(pyramid.query(), str(tmp_path / "out"))
    assert names_in(tmp_path) == ["pyramid"]


def test_a_failed_export_leaves_no_file_and_an_empty_folder_as_it_was(
    filled: Pyramid, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    good = list(filled.media(clip_ids("v1", 2)))
    monkeypatch.setattr(Pyramid, "media", lambda self, ids: iter([*good, (clip_ids("v1", 5)[4], b"damaged", "0" * 64)]))
    (tmp_path / "empty").mkdir()
    for folder in ("a/b/c", "empty"):
        with pytest.raises(UserError, match="checksum"):
            export.videos(filled.query(), str(tmp_path / folder))
    assert names_in(tmp_path) == ["empty", "pyramid"]
    assert names_in(tmp_path / "empty") == []


@pytest.mark.parametrize("kind", export.TABLES)
def test_a_failed_export_leaves_the_old_file(
    filled: Pyramid, tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = tmp_path / f"x{kind}"
    old.write_bytes(b"yesterday")
    rows = Rows.of(filled.query())

    def cut_short() -> Any:
        yield from rows.batches
        raise UserError("the store is gone", "wait")

    with pytest.raises(UserError, match="is gone"):
        export.save(Rows(rows.schema, cut_short()), str(old))
    assert old.read_bytes() == b"yesterday"
    assert names_in(tmp_path) == ["pyramid", f"x{kind}"]


KILLED = """
import os, signal, sys
from curation.pyramid.queries import export
from curation.pyramid.store import Pyramid
uri, place = sys.argv[1:]
rows = export.Rows.of(Pyramid.open(uri).query())
def batches():
    for batch in rows.batches:
        for _ in range(1000):  # more than any buffer holds
            yield batch
        os.kill(os.getpid(), signal.SIGKILL)
export.save(export.Rows(rows.schema, batches()), place)
"""


@pytest.mark.parametrize("kind", export.TABLES)
def test_kill_9_in_an_export_leaves_the_old_file(filled: Pyramid, tmp_path: Path, kind: str) -> None:
    old = tmp_path / f"x{kind}"
    old.write_bytes(b"yesterday")
    done = subprocess.run([sys.executable, "-c", KILLED, filled.uri, str(old)], cwd=ROOT, timeout=120)
    assert done.returncode == -signal.SIGKILL
    assert old.read_bytes() == b"yesterday"
    assert export.save(Rows.of(filled.query()), str(old)) == 6


KILLED_FOLDER = """
import os, signal, sys
from curation.pyramid.queries import export
from curation.pyramid.store import Pyramid
uri, place = sys.argv[1:]
media = Pyramid.media
def cut_short(self, ids):
    for index, clip in enumerate(media(self, ids)):
        yield clip
        if index == 2:
            os.kill(os.getpid(), signal.SIGKILL)
Pyramid.media = cut_short
export.videos(Pyramid.open(uri).query(), place)
"""


def test_a_folder_without_its_metadata_is_not_whole_and_each_file_in_it_is(filled: Pyramid, tmp_path: Path) -> None:
    command = [sys.executable, "-c", KILLED_FOLDER, filled.uri, str(tmp_path / "out")]
    assert subprocess.run(command, cwd=ROOT, timeout=120).returncode == -signal.SIGKILL
    found = [path for path in (tmp_path / "out").iterdir() if not path.name.startswith(".")]
    assert len(found) == 3 and all(path.read_bytes() == path.stem.encode() * 100 for path in found)
    with pytest.raises(UserError, match="not empty"):
        export.videos(filled.query(), str(tmp_path / "out"))
