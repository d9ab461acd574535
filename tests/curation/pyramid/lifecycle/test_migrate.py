"""A pyramid that an older version made holds after `migrate` what it held before, whatever comes between.

`formats/format-1.tar.xz` and `format-3.tar.xz` were written by the versions of 2026-11-23 and 2026-11-29: three videos
of three clips each, with captions and vectors, a tag, and an entry of a killed run in the journal; format 3 has a score
of its own.
"""

from __future__ import annotations

import contextlib
import json
import lzma
import shutil
import tarfile
import threading
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import lance
import pyarrow as pa
import pytest

from curation.contract import CLIPS, FORMAT_VERSION, VIDEOS
from curation.errors import UserError
from curation.pyramid import store
from curation.pyramid.commits import beside, commit, journal, upsert
from curation.pyramid.commits.commit import Committer
from curation.pyramid.history import runs
from curation.pyramid.history.census import census
from curation.pyramid.history.ledger import Ledger
from curation.pyramid.lifecycle import migrate
from curation.pyramid.lifecycle.migrate import Migrated
from curation.pyramid.lifecycle.upkeep import upkeep
from curation.pyramid.store import Pyramid
from pipelines.cli import main
from tests.curation.pyramid.build import clip_ids, whole_video
from tests.curation.pyramid.history.test_runs import record

FORMATS = (1, 3)
Rows = dict[str, dict[str, Any]]


def unpacked(number: int, place: Path) -> Path:
    archive = Path(__file__).parent / "formats" / f"format-{number}.tar.xz"
    with lzma.open(archive) as stream, tarfile.open(fileobj=stream) as packed:
        packed.extractall(place, filter="data")
    # Those that were packed lack what every clip has had from the first day.
    lance.dataset(f"{place}/clips.lance").update({"frames": "75", "fps": "25.0"})
    return place


@pytest.fixture(params=FORMATS)
def old(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    return unpacked(request.param, tmp_path / "old")


def table(place: Path, name: str, columns: list[str] | None = None) -> list[dict[str, Any]]:
    return lance.dataset(f"{place}/{name}.lance").to_table(columns=columns).to_pylist()


def held(place: Path) -> dict[str, Any]:
    """All that an older pyramid holds, as this format has it: what the journal still has is in the rows."""
    clips: Rows = {row["clip_id"]: row for row in table(place, "clips")}
    vectors = {}
    name = clip_ids("v3", 3)[1]
    late = {
        "caption": "left in the journal",
        "caption_model": "a-model",
        "aesthetic": 6.0,
        "aesthetic_by": "aesthetic-1",
    }
    clips[name] |= late | {"aesthetic_why": None, "embedding": [(99 * 31 + i) % 7 / 8 for i in range(768)]}
    for row in clips.values():
        if (vector := row.pop("embedding")) is not None:
            vectors[row["clip_id"], row["aesthetic_by"]] = vector
        row["caption_by"] = row.pop("caption_model")
        del row["tier"]  # judged again with the entry's score
    return {
        "clips": clips,
        "vectors": vectors,
        "videos": {row["video_id"]: row for row in table(place, "videos")},
        "samples": sorted(map(str, table(place, "samples"))),
        "media": sorted((row["clip_id"], row["sha256"]) for row in table(place, "media", ["clip_id", "sha256"])),
    }


def holds(place: Path, before: dict[str, Any], twins: bool = False) -> bool:
    """Whether a migrated pyramid has all of `before`, and beside it columns of nulls only."""
    pyramid = Pyramid.open(place)
    for name, key in (("clips", "clip_id"), ("videos", "video_id")):
        rows = table(place, name)
        assert len(rows) == len(before[name]), name
        for row in rows:
            was = before[name][row[key]]
            assert {column: row[column] for column in was} == was
            assert {value for column, value in row.items() if column not in was and column != "tier"} <= {None}
            assert name == "videos" or row["tier"] == pyramid.tiers.highest(
                row | {"duration_s": row["frames"] / row["fps"]}
            )
    found = [((row["clip_id"], row["by"]), row["vector"]) for row in table(place, "embeddings/clip")]
    assert dict(found) == before["vectors"] and (twins or len(found) == len(before["vectors"]))
    assert {row["space"] for row in table(place, "embeddings/clip")} == {"clip"}
    assert sorted(map(str, table(place, "samples"))) == before["samples"]
    media = sorted(
        (name, digest) for name, data, digest in pyramid.media(before["clips"]) if data == name.encode() * 100
    )
    assert media == before["media"]
    return True


def test_nothing_is_lost_and_nothing_is_new(old: Path) -> None:
    before, number = held(old), json.loads((old / "pyramid.json").read_text())["format"]
    done = migrate.migrate(str(old))
    assert (done.before, done.now, done.work, done.vectors, done.entries) == (number, FORMAT_VERSION, True, 7, 1)
    assert holds(old, before)
    pyramid = Pyramid.open(old)
    own = [name for score in pyramid.about.scores for name in (score, f"{score}_by", f"{score}_why")]
    assert {*pyramid.dataset("clips").schema.names} == {*CLIPS.names, *own} and bool(own) == (number == 3)
    assert {*pyramid.dataset("videos").schema.names} == {*VIDEOS.names}
    assert not list((old / "journal").rglob("*.arrow"))
    assert migrate.migrate(str(old)) == Migrated(FORMAT_VERSION, work=False)


def test_what_came_of_it_is_worked_on_like_any_other(old: Path) -> None:
    before = held(old)
    migrate.migrate(str(old))
    pyramid = Pyramid.open(old)
    Committer(pyramid).commit(whole_video(pyramid, "v4", 2))
    assert upkeep(pyramid, timedelta(0), timedelta(0), idle=True).puzzling == 0
    assert pyramid.query().count() == 11 and census(pyramid).clips == 11
    assert pyramid.where(caption_by="a-model").count() == 4
    assert Ledger(pyramid).history("v4.mp4").videos[0]["status"] == "done"
    Committer(pyramid).delete_clips(clip_ids("v4", 2))
    pyramid.dataset("videos").delete("video_id = 'v4'")
    upkeep(pyramid, timedelta(0), timedelta(0), idle=True)
    assert holds(old, before)


def test_a_tag_keeps_what_it_pinned(old: Path) -> None:
    migrate.migrate(str(old))
    pyramid = Pyramid.open(old)
    upkeep(pyramid, timedelta(0), timedelta(0), idle=True)
    assert pyramid.query().at("then").count() == 6 and pyramid.query().count() == 9
    assert pyramid.query().at("then").columns("caption_by").to_table()["caption_by"].null_count == 6
    pyramid.unpin("then")
    with pytest.raises(UserError):
        pyramid.query().at("then").count()


def test_every_command_refuses_it_with_the_command_that_helps(old: Path, capsys: pytest.CaptureFixture[str]) -> None:
    state = {path: path.read_bytes() for path in old.rglob("*") if path.is_file()}
    there = str(old)
    for command in (
        ["query", there], ["tiers", there], ["why", there, "v1"], ["upkeep", there], ["cut", there, "--tier", "low"],
        ["curate", there, "--fill"], ["curate", there, "--to", there], ["sheet", there, "-o", f"{there}/x.png"],
        ["runs", there],
    ):  # fmt: skip
        assert main(command) == 2, command
        said = capsys.readouterr()
        assert f"ziggurat migrate {there}" in said.err and len(said.err.strip().splitlines()) == 1, said
    for open_ in (Pyramid.open, Pyramid.find):
        with pytest.raises(UserError, match="older Ziggurat"):
            open_(old)
    assert {path: path.read_bytes() for path in old.rglob("*") if path.is_file()} == state


def test_the_command_says_what_it_did(old: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["migrate", str(old), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["vectors"] == 7
    assert main(["migrate", str(old)]) == 0
    assert capsys.readouterr().out == f"the pyramid is of format {FORMAT_VERSION} already\n"


def test_a_run_at_work_is_waited_for_and_nothing_is_changed(old: Path) -> None:
    pyramid = Pyramid.open(old, unready=True)
    runs.write(pyramid.files, record(process=runs.this_process()))
    before = (old / "pyramid.json").read_bytes()
    with pytest.raises(UserError, match="is at work"):
        migrate.migrate(str(old))
    assert (old / "pyramid.json").read_bytes() == before


class Killed(BaseException):
    pass


@contextlib.contextmanager
def killed_at(step: int, after: bool) -> Iterator[list[str]]:
    """End the process, in effect, before the write with the number `step`, or right after it; the writes that were
    begun.
    """
    begun: list[str] = []

    def dying(what: str, action: Callable[[], Any], **more: Any) -> Any:
        begun.append(what)
        if len(begun) - 1 == step and not after:
            raise Killed
        done = real(what, action, **more)
        if len(begun) - 1 == step:
            raise Killed
        return done

    real = store.retrying
    with pytest.MonkeyPatch.context() as patch:
        for module in (migrate, beside, store, commit, journal, upsert):
            patch.setattr(module, "retrying", dying)
        yield begun


@pytest.mark.parametrize(("number", "after"), [(1, False), (3, True)])
def test_a_kill_anywhere_leaves_what_the_same_command_ends(tmp_path: Path, number: int, after: bool) -> None:
    whole = held(unpacked(number, tmp_path / "whole"))
    with killed_at(-1, after) as steps:
        migrate.migrate(str(tmp_path / "whole"))
    assert len(steps) > 15
    for step in range(len(steps)):
        place = unpacked(number, tmp_path / str(step))
        with killed_at(step, after), pytest.raises(Killed):
            migrate.migrate(str(place))
        about = json.loads((place / "pyramid.json").read_text())
        names = lance.dataset(f"{place}/clips.lance").schema.names
        if about["format"] < FORMAT_VERSION:
            assert {"embedding", "caption_model"} <= {*names}, "an older version still works on it"
        if about.get("under_way") or about["format"] < FORMAT_VERSION:
            with pytest.raises(UserError, match="ziggurat migrate"):
                Pyramid.open(place)
        migrate.migrate(str(place))
        journal.recover(Pyramid.open(place))  # as any run does, where only that was left to do
        assert holds(place, whole), steps[step]


def test_of_two_on_a_disk_one_is_told_to_wait(old: Path) -> None:
    before = held(old)
    with migrate.only_holder(Pyramid.open(old, unready=True)), pytest.raises(UserError, match="or migration"):
        migrate.migrate(str(old))
    migrate.migrate(str(old))
    assert holds(old, before)


def test_two_where_there_are_no_locks_come_to_the_same(old: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = held(old)
    monkeypatch.setattr(migrate, "only_holder", lambda pyramid: contextlib.nullcontext())
    failed: list[BaseException] = []
    barrier = threading.Barrier(3)

    def one() -> None:
        barrier.wait()
        try:
            migrate.migrate(str(old))
        except BaseException as error:  # whatever it is, the test fails by it
            failed.append(error)

    threads = [threading.Thread(target=one) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failed
    assert holds(old, before, twins=True)
    upkeep(Pyramid.open(old), timedelta(0), timedelta(0), idle=True)
    assert holds(old, before)


@pytest.mark.parametrize("name", ["clips", "videos", "samples", "media"])
def test_a_pyramid_that_lacks_a_dataset_or_a_file_is_left_as_it_is(old: Path, name: str) -> None:
    about = (old / "pyramid.json").read_bytes()
    shutil.move(old / f"{name}.lance", old / "away")
    with pytest.raises(UserError, match="missing or damaged"):
        migrate.migrate(str(old))
    shutil.move(old / "away", old / f"{name}.lance")
    if name == "clips":
        (file, *_) = lance.dataset(f"{old}/clips.lance").get_fragments()[0].metadata.files
        victim = old / "clips.lance" / "data" / file.path
        victim.rename(old / "away")
        with pytest.raises(UserError, match="is gone"):
            migrate.migrate(str(old))
        (old / "away").rename(victim)
    assert (old / "pyramid.json").read_bytes() == about
    before = held(old)
    migrate.migrate(str(old))
    assert holds(old, before)


class Beside:
    """An older version at work: adds a clip with a vector and a caption at a moment of the migration."""

    def __init__(self, place: Path, row: dict[str, Any]) -> None:
        self.place, self.row, self.done = place, row, False

    def __call__(self) -> None:
        clips = lance.dataset(f"{self.place}/clips.lance")
        lacking = [field for field in OLD if field.name not in clips.schema.names]
        if lacking:  # as its `writable` does
            clips.add_columns(pa.schema(lacking))
        row = {name: value for name, value in self.row.items() if name in clips.schema.names}
        clips.insert(pa.Table.from_pylist([dict.fromkeys(clips.schema.names) | row], schema=clips.schema))
        self.done = True


OLD = pa.schema([("embedding", pa.list_(pa.float16(), 768)), ("caption_model", pa.string())])
LATE = {
    "clip_id": "late", "video_id": "v1", "start_s": 0.0, "end_s": 1.0, "caption": "late words", "caption_model": "m",
    "aesthetic": 5.0, "aesthetic_by": "aesthetic-1", "embedding": [0.25] * 768,
}  # fmt: skip


@pytest.mark.parametrize("step", range(3))
def test_what_an_older_version_still_commits_beside_it_is_not_lost(
    old: Path, monkeypatch: pytest.MonkeyPatch, step: int
) -> None:
    """Before the column is taken away, in the very moment, and after it."""
    late = Beside(old, LATE)
    drop: Any = lance.LanceDataset.drop_columns

    def dropping(dataset: lance.LanceDataset, columns: list[str]) -> Any:
        if step == 0 and not late.done:
            late()
        found = drop(dataset, columns)
        if step == 1 and not late.done:
            late()
        return found

    copy = migrate._copy_vectors

    def copying(pyramid: Pyramid, clips: Any) -> int:
        found = copy(pyramid, clips)
        if step == 2 and not late.done and pyramid.about.under_way:
            late()
        return found

    monkeypatch.setattr(lance.LanceDataset, "drop_columns", dropping)
    monkeypatch.setattr(migrate, "_copy_vectors", copying)
    migrate.migrate(str(old))
    assert late.done
    check_late(old)


def test_what_it_commits_before_a_kill_that_follows_the_column_is_not_lost(
    old: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Then the column is gone, and with it whatever was not copied before."""
    take, drop = migrate._take_vectors_away, lance.LanceDataset.drop_columns

    def taking(pyramid: Pyramid) -> int:
        Beside(old, LATE)()
        return take(pyramid)

    def killed(dataset: lance.LanceDataset, columns: list[str]) -> None:
        drop(dataset, columns)
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(migrate, "_take_vectors_away", taking)
        patched.setattr(lance.LanceDataset, "drop_columns", killed)
        with pytest.raises(KeyboardInterrupt):
            migrate.migrate(str(old))
    migrate.migrate(str(old))
    check_late(old)


def test_what_an_older_version_brings_back_afterwards_is_put_right_by_the_same_command(old: Path) -> None:
    migrate.migrate(str(old))
    before = held_now(old)
    Beside(old, LATE)()
    assert {"embedding", "caption_model"} <= {*lance.dataset(f"{old}/clips.lance").schema.names}
    assert migrate.migrate(str(old)).vectors == 1
    check_late(old)
    assert held_now(old).items() >= before.items()


def held_now(place: Path) -> dict[str, Any]:
    rows = table(place, "clips")
    return {
        row["clip_id"]: sorted((name, str(value)) for name, value in row.items() if value is not None) for row in rows
    }


def check_late(place: Path) -> None:
    pyramid = Pyramid.open(place)
    assert not {"embedding", "caption_model"} & {*pyramid.dataset("clips").schema.names}
    (row,) = pyramid.where(clip_id="late").columns("caption", "caption_by", "aesthetic").to_table().to_pylist()
    assert row == {"caption": "late words", "caption_by": "m", "aesthetic": 5.0}
    assert list(pyramid.vectors(["late"])) == [("late", "aesthetic-1", [0.25] * 768)]
    assert len(list(pyramid.vectors(pyramid.query().ids()))) == 9


def test_a_vector_beside_a_later_makers_failure_is_not_that_makers(old: Path) -> None:
    clips = lance.dataset(f"{old}/clips.lance")
    name = clip_ids("v1", 3)[0]
    clips.update({"aesthetic": "NULL", "aesthetic_by": "'aesthetic-2'"}, where=f"clip_id = '{name}'")
    migrate.migrate(str(old))
    assert [by for _, by, _ in Pyramid.open(old).vectors([name])] == ["unknown"]


def test_what_is_no_migration_is_not_ended_by_it(old: Path) -> None:
    migrate.migrate(str(old))
    Pyramid.open(old).made_by("ziggurat merge /a /b --to /c")
    with pytest.raises(UserError, match="ziggurat merge"):
        migrate.migrate(str(old))
    assert Pyramid.open(old, unready=True).about.under_way


def test_upkeep_frees_what_the_vectors_took(old: Path) -> None:
    migrate.migrate(str(old))
    pyramid = Pyramid.open(old)
    before = held_now(old)
    pyramid.unpin("then")
    upkeep(pyramid, timedelta(0), timedelta(0), idle=True)
    data = b"".join(path.read_bytes() for path in (old / "clips.lance" / "data").iterdir())
    files = [file for one in pyramid.dataset("clips").get_fragments() for file in one.metadata.files]
    known = {field.id() for field in pyramid.dataset("clips").lance_schema.fields()}
    children = {child.id() for one in pyramid.dataset("clips").lance_schema.fields() for child in one.children()}
    assert all({*file.fields} <= known | children for file in files) and len(data) < 200_000
    assert held_now(old) == before
