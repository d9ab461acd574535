"""Exports: every clip of the query is in a file with its own bytes and caption, or counted; a kill at any write, and
the same command again, gives the very folder of an undisturbed one.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
import tarfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from curation.errors import UserError
from curation.exports import export as exporting
from curation.exports.export import IMAGE, NO_BUCKET, NOT_CUT, Exported, Wanted, export
from curation.exports.layouts import LAYOUTS
from curation.pyramid.commits.commit import Batch, Committer
from curation.pyramid.storage.files import Files
from curation.pyramid.store import Pyramid
from tests.curation.pyramid.build import clips, whole_image, whole_video
from tests.support import store

SEVERAL = 'a "fox",\nin snow: ü'


@pytest.fixture
def filled(pyramid: Pyramid, monkeypatch: pytest.MonkeyPatch) -> Pyramid:
    """Eleven clips of three videos, an image and a clip that is not cut; every second clip has a caption."""
    for name, layout in LAYOUTS.items():
        monkeypatch.setitem(LAYOUTS, name, replace(layout, clips_a_part=3))  # type: ignore[arg-type, type-var]
    for number, many in enumerate((5, 2, 4)):
        Committer(pyramid).commit(whole_video(pyramid, f"v{number}", many))
    Committer(pyramid).commit(whole_image(pyramid, "still"))
    uncut = {"clip_id": "f" * 32, "video_id": "v9", "motion": 50.0, "frames": 9, "width": 64, "height": 48, "fps": 8.0}
    Committer(pyramid).commit(Batch(clips=clips(uncut)))
    ids = pyramid.query().ids()
    told = [{"clip_id": name, "caption": f"{SEVERAL} {name[:6]}", "caption_by": "given"} for name in ids[::2]]
    sizes = [{"clip_id": name, "width": 320, "height": 180} for name in ids]
    Committer(pyramid).commit(Batch(clip_updates=[clips(*told), clips(*sizes)]))
    return pyramid


def held(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def of_layout(folder: Path, layout: str) -> dict[str, tuple[bytes, str]]:
    """The bytes and the caption of each clip, read as the layout's readers do."""
    if layout == "webdataset":
        return _of_tars(folder)
    if layout == "pairs":
        films = [path for path in folder.rglob("*") if path.suffix in (".mp4", ".jpg")]
        return {path.stem: (path.read_bytes(), path.with_suffix(".txt").read_text()[:-1]) for path in films}
    if layout == "finetrainers":
        names, prompts = ((folder / name).read_text().splitlines() for name in ("videos.txt", "prompts.txt"))
        lines: list[Mapping[str, Any]] = [
            {"file_name": name, "text": text} for name, text in zip(names, prompts, strict=True)
        ]
    elif layout == "parquet":
        lines = pq.read_table(folder / "metadata.parquet").to_pylist()
    elif layout == "fiftyone":
        table = csv.DictReader(io.StringIO((folder / "labels.csv").read_text()))
        lines = [{**row, "file_name": row["filepath"]} for row in table]
    else:
        lines = [json.loads(line) for line in (folder / "metadata.jsonl").read_text().splitlines()]
    return {Path(one["file_name"]).stem: ((folder / one["file_name"]).read_bytes(), one["text"]) for one in lines}


def _of_tars(folder: Path) -> dict[str, tuple[bytes, str]]:
    found: dict[str, dict[str, bytes]] = {}
    for path in sorted(folder.glob("*.tar")):
        with tarfile.open(path) as tar:
            members = [(one.name, tar.extractfile(one)) for one in tar]
            for name, file in members:
                assert file is not None
                key, _, kind = name.partition(".")
                assert kind not in found.setdefault(key, {})
                found[key][kind] = file.read()
    assert all({"txt", "json"} < set(one) and len(one) == 3 for one in found.values())
    assert all(json.loads(one["json"])["clip_id"] == key for key, one in found.items())
    return {key: (one.get("mp4") or one["jpg"], one["txt"].decode()) for key, one in found.items()}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_clip_is_there_with_its_bytes_and_its_caption_or_is_counted(
    filled: Pyramid, tmp_path: Path, layout: str
) -> None:
    query = filled.query()
    done = export(query, Wanted(layout), str(tmp_path / "x"))
    stored = {name: content for name, content, _ in filled.media(query.ids())}
    captions = {row["clip_id"]: row["caption"] or "" for row in query.to_table().to_pylist()}
    whole_text = layout in ("pairs", "webdataset")
    wanted = {
        name: (content, captions[name] if whole_text else " ".join(captions[name].split()))
        for name, content in stored.items()
        if LAYOUTS[layout].takes_images or content.startswith(b"\0") or not content.startswith(b"\xff\xd8")
    }
    assert of_layout(tmp_path / "x", layout) == wanted
    assert done.clips == len(wanted) and done.total == query.count() == 13
    left = {NOT_CUT: 1} | ({} if LAYOUTS[layout].takes_images else {IMAGE: 1})
    assert dict(done.left_out) == left
    assert done.bytes == sum(len(content) for content, _ in wanted.values())
    assert done.without_caption == sum(not text for _, text in wanted.values())
    state = json.loads((tmp_path / "x" / "export.json").read_text())
    assert state["whole"] and state["clips"] == done.clips and not (tmp_path / "x" / ".parts").exists()


class Killed(BaseException):
    pass


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_kill_at_any_write_and_the_same_again_gives_the_same_folder(
    filled: Pyramid, tmp_path: Path, layout: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    export(filled.query(), Wanted(layout), str(tmp_path / "whole"))
    right = held(tmp_path / "whole")
    write, left = Files.write, 0

    def write_or_die(self: Files, *given: Any, **more: Any) -> None:
        nonlocal left
        left -= 1
        if left < 0:
            raise Killed
        write(self, *given, **more)

    monkeypatch.setattr(Files, "write", write_or_die)
    for writes in range(0, 200, 1 if layout == "webdataset" else 4):
        folder = tmp_path / f"killed-{writes}"
        left = writes
        try:
            export(filled.query(), Wanted(layout), str(folder))
            break
        except Killed:
            left = 10**6
            done = export(filled.query(), Wanted(layout), str(folder))
            assert held(folder) == right, writes
            assert done.clips == json.loads(right["export.json"])["clips"]
    else:
        pytest.fail("it never came to its end")
    assert writes > 4


def test_it_goes_on_with_the_version_it_began_with(
    filled: Pyramid, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place, before = str(tmp_path / "x"), filled.query().having("media").ids()
    count = 0

    def stop(done: int) -> None:
        nonlocal count
        count = done
        raise Killed

    with pytest.raises(Killed):
        export(filled.query(), Wanted("jsonl"), place, told=stop)
    assert count == 3
    Committer(filled).commit(whole_video(filled, "later", 3))
    done = export(filled.query(), Wanted("jsonl"), place)
    assert done.there == 1 and set(of_layout(tmp_path / "x", "jsonl")) == set(before)


def test_buckets_part_the_tar_files_and_what_none_takes_is_counted(filled: Pyramid, tmp_path: Path) -> None:
    by_motion = {0.0: "still", 1.0: "slow"}
    done = export(
        filled.query(),
        Wanted("webdataset", buckets="by motion"),
        str(tmp_path / "x"),
        lambda _, row: by_motion.get(row["motion"]),
    )
    rows = {row["clip_id"]: row["motion"] for row in filled.query().to_table().to_pylist()}
    found = {path.name: path for path in (tmp_path / "x").glob("*.tar")}
    assert sorted(found) == ["slow-000000.tar", "still-000000.tar"]
    for name, path in found.items():
        with tarfile.open(path) as tar:
            keys = {one.partition(".")[0] for one in tar.getnames()}
        assert {by_motion[rows[key]] for key in keys} == {name.partition("-")[0]}
    assert done.total == 13 and done.left_out[NO_BUCKET] == sum(value not in by_motion for value in rows.values())
    assert sum(json.loads((tmp_path / "x" / "sizes.json").read_text()).values()) == done.clips


def test_a_folder_that_holds_something_else_stays_as_it_is(filled: Pyramid, tmp_path: Path) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "a.txt").write_text("mine")
    with pytest.raises(UserError, match="is not empty"):
        export(filled.query(), Wanted("jsonl"), str(tmp_path / "full"))
    export(filled.query(), Wanted("jsonl"), str(tmp_path / "x"))
    before = held(tmp_path / "x")
    with pytest.raises(UserError, match="a whole export already"):
        export(filled.query(), Wanted("jsonl"), str(tmp_path / "x"))
    state = json.loads(before["export.json"])
    (tmp_path / "x" / "export.json").write_text(json.dumps({**state, "whole": False}))
    for other in (Wanted("pairs"), Wanted("jsonl", query=("motion 1..",)), Wanted("jsonl", names="{source}_{clip_id}")):
        with pytest.raises(UserError, match="another export"):
            export(filled.query(), other, str(tmp_path / "x"))
    assert {name: content for name, content in held(tmp_path / "x").items() if name != "export.json"} == {
        name: content for name, content in before.items() if name != "export.json"
    }
    assert held(tmp_path / "full") == {"a.txt": b"mine"}


def test_damaged_bytes_stop_it_and_name_the_clip(
    filled: Pyramid, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hashlib, "sha256", lambda content: hashlib.sha1(content))
    with pytest.raises(UserError, match="differ from their checksum"):
        export(filled.query(), Wanted("jsonl"), str(tmp_path / "x"))


def test_columns_of_a_list_that_are_called_like_ours_give_way(filled: Pyramid, tmp_path: Path) -> None:
    sample = exporting.Sample(
        "n", ".mp4", b"12", "mine", {"text": "theirs", "file_name": "x", "bytes": 9, "kind": "video"}
    )
    line = exporting._line("videos/n.mp4", sample)
    assert (line["text"], line["file_name"], line["bytes"]) == ("mine", "videos/n.mp4", 2)
    assert list(line)[:3] == ["file_name", "text", "bytes"]


def test_to_a_store_and_on_from_there(filled: Pyramid, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with store.served() as bucket:
        for name, value in bucket.environment.items():
            monkeypatch.setenv(name, value)
        place = f"s3://{store.BUCKET}/exports/one"
        with pytest.raises(Killed):
            export(filled.query(), Wanted("jsonl"), place, told=lambda _: (_ for _ in ()).throw(Killed))
        done = export(filled.query(), Wanted("jsonl"), place)
        assert isinstance(done, Exported) and done.there == 1
        export(filled.query(), Wanted("jsonl"), str(tmp_path / "x"))
        right = {name: content for name, content in held(tmp_path / "x").items() if name != "export.json"}
        keys = [key for key in bucket.keys("exports/one") if not key.endswith("export.json")]
        assert {key.removeprefix("exports/one/"): bucket.content(key) for key in keys} == right


def test_webdataset_reads_it(filled: Pyramid, tmp_path: Path) -> None:
    webdataset = pytest.importorskip("webdataset")
    export(filled.query(), Wanted("webdataset"), str(tmp_path / "x"))
    shards = sorted(map(str, (tmp_path / "x").glob("*.tar")))
    samples = list(webdataset.WebDataset(shards, shardshuffle=False))
    stored = {name: content for name, content, _ in filled.media(filled.query().ids())}
    assert {one["__key__"]: one.get("mp4") or one["jpg"] for one in samples} == stored
