from __future__ import annotations

import json
import os
import pickle
import subprocess
import sys
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from curation.contract import CLIPS, NEWEST_FORMAT, VIDEOS
from curation.errors import UserError
from curation.pyramid import store
from curation.pyramid.commits.commit import Committer
from curation.pyramid.storage import about
from curation.pyramid.storage.about import About
from curation.pyramid.storage.datasets import BESIDE, NAMES
from curation.pyramid.store import Pyramid
from curation.pyramid.tiering.tiers import Range
from tests.curation.pyramid.build import TIERS, clip_ids, whole_video


def test_all_datasets_exist_with_all_columns_from_version_1(pyramid: Pyramid) -> None:
    for name in NAMES:
        dataset = pyramid.dataset(name)
        assert (dataset.version, dataset.count_rows(), dataset.data_storage_version) == (1, 0, "2.2")
        key = dataset.schema.field(0)
        assert not key.nullable
        assert (key.metadata == {b"lance-schema:unenforced-primary-key": b"true"}) == (name not in BESIDE)
    assert pyramid.dataset("clips").schema.names == CLIPS.names
    assert pyramid.dataset("videos").schema.names == VIDEOS.names
    assert pyramid.dataset("media").schema.names == ["clip_id", "video", "bytes", "sha256"]


def test_open_reads_what_create_wrote(pyramid: Pyramid) -> None:
    again = Pyramid.open(pyramid.uri)
    assert (again.tiers, again.recipe_name) == (TIERS, "test")
    assert pickle.loads(pickle.dumps(again)).query().count() == 0
    assert Pyramid.open_or_create(pyramid.uri, TIERS, "other").recipe_name == "test"


def test_with_tiers_moves_thresholds_without_touching_data(pyramid: Pyramid) -> None:
    moved = TIERS.moved("low", "motion", TIERS.effective("high")["motion"])
    assert pyramid.with_tiers(moved).tiers == moved
    assert Pyramid.open(pyramid.uri).tiers == moved
    assert pyramid.dataset("clips").version == 1
    assert [name for name in os.listdir(pyramid.uri) if name.startswith(".pyramid")] == []


def test_media_and_samples_come_back(pyramid: Pyramid) -> None:
    Committer(pyramid).commit(whole_video(pyramid, "v1", 3))
    ids = clip_ids("v1", 3)
    found = {name: content for name, content, _ in pyramid.media([*ids, "missing"])}
    assert found == {name: name.encode() * 100 for name in ids}
    assert dict(pyramid.samples(ids)) == {name: [b"1", b"2", b"3"] for name in ids}


@pytest.mark.parametrize(
    ("prepare", "cause"),
    [
        (lambda path: None, "does not exist"),
        (lambda path: path.mkdir(), "is not a pyramid"),
        (lambda path: path.write_text("x"), "is not a pyramid"),
        (lambda path: (path.mkdir(), (path / "pyramid.json").write_text("nonsense")), "is not a pyramid"),
        (lambda path: (path.mkdir(), (path / "pyramid.json").write_text('{"format": 1}')), "is damaged"),
    ],
)
def test_what_is_no_pyramid_is_refused_in_one_line(tmp_path: Path, prepare: object, cause: str) -> None:
    path = tmp_path / "p"
    prepare(path)  # type: ignore[operator]
    with pytest.raises(UserError) as caught:
        Pyramid.open(path)
    assert cause in str(caught.value) and str(path) in str(caught.value) and caught.value.remedy
    assert "\n" not in str(caught.value)


def test_a_newer_format_is_refused_and_not_created_over(pyramid: Pyramid) -> None:
    path = Path(pyramid.uri, "pyramid.json")
    path.write_text(json.dumps(json.loads(path.read_text()) | {"format": NEWEST_FORMAT + 1}))
    for attempt in (Pyramid.open, lambda uri: Pyramid.open_or_create(uri, TIERS, "x")):
        with pytest.raises(UserError, match="newer Ziggurat") as caught:
            attempt(pyramid.uri)
        assert "upgrade" in caught.value.remedy


def test_create_refuses_an_existing_pyramid_and_an_unwritable_place(pyramid: Pyramid, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="already"):
        Pyramid.create(pyramid.uri, TIERS, "x")
    (tmp_path / "file").write_text("x")
    with pytest.raises(UserError, match="cannot write"):
        Pyramid.create(tmp_path / "file" / "pyramid", TIERS, "x")
    with pytest.raises(UserError, match="not a path"):
        Pyramid.open("a\x00b")


def test_a_missing_dataset_is_named(pyramid: Pyramid, tmp_path: Path) -> None:
    os.rename(Path(pyramid.uri, "clips.lance"), tmp_path / "gone")
    with pytest.raises(UserError, match=r"clips\.lance is missing"):
        Pyramid.open(pyramid.uri).dataset("clips")
    with pytest.raises(UserError, match="no version 99"):
        pyramid.dataset("videos", 99)


def test_jobs_that_start_together_make_one_pyramid(tmp_path: Path) -> None:
    uri = tmp_path / "p"
    with ThreadPoolExecutor(4) as pool:
        made = list(pool.map(lambda _: Pyramid.open_or_create(uri, TIERS, "r"), range(4)))
    assert all(one.tiers == TIERS for one in made)
    assert [made[0].dataset(name).version for name in NAMES] == [1] * len(NAMES)


def test_a_creation_cut_short_is_completed(tmp_path: Path) -> None:
    made = Pyramid.create(tmp_path / "p", TIERS, "r")
    os.remove(Path(made.uri, "pyramid.json"))
    os.rename(Path(made.uri, "videos.lance"), tmp_path / "gone")
    again = Pyramid.open_or_create(made.uri, TIERS, "r")
    assert [again.dataset(name).version for name in NAMES] == [1] * len(NAMES)


def test_a_pin_keeps_its_versions(pyramid: Pyramid) -> None:
    Committer(pyramid).commit(whole_video(pyramid, "v1", 2))
    pinned = pyramid.pin("frozen")
    Committer(pyramid).commit(whole_video(pyramid, "v2", 2))
    assert pyramid.dataset("clips", "frozen").version == pinned["clips"]
    assert pyramid.query().at("frozen").count() == 2
    pyramid.unpin("frozen")
    with pytest.raises(UserError):
        pyramid.query().at("frozen").count()


def test_tiers_and_conditions_do_without_lance() -> None:
    modules = ("tiering.tiers", "queries.query", "store", "history.ledger", "commits.commit")
    names = ", ".join(f"curation.pyramid.{name}" for name in modules)
    code = f"import sys, {names}; print('lance' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "False\n"


def test_moves_of_two_at_once_both_last(pyramid: Pyramid) -> None:
    """Each from what it had read before the other: on a disk the lock orders them."""
    one, other = Pyramid.open(pyramid.uri), Pyramid.open(pyramid.uri)
    one.moving(lambda tiers: tiers.moved("low", "motion", Range(2.0)))
    other.moving(lambda tiers: tiers.moved("mid", "sharpness", Range(11.0)))
    now = Pyramid.open(pyramid.uri).tiers
    assert (now.steps[0].ranges["motion"], now.steps[1].ranges["sharpness"]) == (Range(2.0), Range(11.0))


@pytest.mark.parametrize("times", [1, 3, 100])
def test_a_move_that_another_writes_over_in_a_store_is_made_again(
    pyramid: Pyramid, monkeypatch: pytest.MonkeyPatch, times: int
) -> None:
    """A store has no lock: another process, which read before, writes after."""
    monkeypatch.setattr(about, "is_remote", lambda uri: True)
    monkeypatch.setattr(store, "_LATER_S", 0.0)
    write, before = about.write, pyramid.about
    written: list[About] = []

    def interrupted(uri: str, one: About, options: Mapping[str, str] | None) -> None:
        written.append(one)
        write(uri, one, options)
        if len(written) <= times:
            write(uri, replace(before, retiering=True), options)

    monkeypatch.setattr(about, "write", interrupted)
    if times == 100:
        with pytest.raises(UserError, match="others keep changing"):
            pyramid.moving(lambda tiers: tiers.moved("low", "motion", Range(2.0)))
        return
    found = pyramid.moving(lambda tiers: tiers.moved("low", "motion", Range(2.0)))
    assert len(written) == times + 1 and found.tiers.steps[0].ranges["motion"] == Range(2.0)
    assert Pyramid.open(pyramid.uri).tiers == found.tiers
    for same in (found.tiers, before.tiers):  # also where it is what the recipe says
        assert pyramid.with_tiers(same).tiers == same
