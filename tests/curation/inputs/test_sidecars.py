"""Captions from files beside videos: which are taken, which are told of, and that none leads out of its folder."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from curation.contract import Source
from curation.errors import UserError
from curation.inputs import own_columns, sidecars
from curation.inputs.folders import Links, Tally
from curation.inputs.sidecars import Sidecars
from curation.inputs.sources import Listing, list_sources

BOTH = Sidecars(("txt", "json"))


def captions(listing: Listing) -> dict[str, str | None]:
    """The caption of each source by its file name."""
    return {Path(one.uri).name: own_columns.caption(one.extra) for one in listing if isinstance(one, Source)}


def beside(folder: Path, content: str | bytes, kind: str = "txt", wanted: Sidecars = BOTH) -> Listing:
    """The listing of a folder with one video, and this beside it."""
    folder.mkdir(exist_ok=True)
    (folder / "a.mp4").write_bytes(b"x")
    (folder / f"a.{kind}").write_bytes(content.encode() if isinstance(content, str) else content)
    return list_sources([str(folder)], sidecars=wanted)


def test_no_file_is_read_unasked(tmp_path: Path) -> None:
    (tmp_path / "a.mp4").write_bytes(b"x")
    (tmp_path / "a.txt").write_text("a fox")
    listing = list_sources([str(tmp_path)])
    assert captions(listing) == {"a.mp4": None} and listing.notices() == []


@pytest.mark.parametrize(
    ("kind", "content"),
    [
        ("txt", "  a fox\r\nruns \n"),
        ("txt", "\ufeffa fox runs"),
        ("txt", "a \x1b[2J\x00fox \u202eruns"),
        ("json", '{"Caption": "a fox runs", "score": 3}'),
        ("json", '{"text": "a fox runs"}'),
        ("json", '{"text": "another", "caption": ["a fox runs"]}'),
        ("json", '"a fox\\ud800 runs"'),
    ],
)
def test_the_text_of_a_sidecar_is_the_caption(tmp_path: Path, kind: str, content: str) -> None:
    listing = beside(tmp_path, content, kind)
    assert captions(listing) == {"a.mp4": "a fox runs"}
    assert listing.notices() == ["1 captions came from sidecar files; 0 videos have none"]


@pytest.mark.parametrize(
    ("kind", "content", "why"),
    [
        ("txt", b"\xff\xfea\x00", "no UTF-8"),
        ("txt", " \n\x07", "empty"),
        ("txt", "x" * 32_769, "longer than 32768 characters"),
        ("txt", b"x" * (sidecars.LARGEST + 1), "larger than 1 MiB"),
        ("json", "{", "no JSON"),
        ("json", "[" * 100_000, "no JSON"),
        ("json", '{"title": "a fox"}', "no caption or text that is a text"),
        ("json", '{"caption": 3}', "no caption or text that is a text"),
        ("json", '{"caption": []}', "no caption or text that is a text"),
        ("json", '{"caption": ["a", "b"]}', "several captions, and one is needed"),
    ],
)
def test_a_sidecar_without_a_caption_is_told(tmp_path: Path, kind: str, content: str | bytes, why: str) -> None:
    listing = beside(tmp_path, content, kind)
    assert captions(listing) == {"a.mp4": None}
    assert listing.notices() == [f"1 sidecar files gave no caption ({why}): {tmp_path}/a.{kind} is the first"]
    assert listing.tally.sidecars_lost == {}


def test_what_the_machine_cannot_read_is_a_loss(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> bytes:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(sidecars, "_read", refuse)
    listing = beside(tmp_path, "a fox")
    assert captions(listing) == {"a.mp4": None} and listing.tally.sidecars_lost == {"Permission denied": 1}
    assert any("Permission denied" in one for one in listing.notices())


def test_a_file_that_the_machine_cannot_look_for_is_a_loss_and_not_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    look = sidecars.os.lstat

    def refuse(path: str) -> object:
        if path.endswith(".txt"):
            raise PermissionError(13, "Permission denied")
        return look(path)

    monkeypatch.setattr(sidecars.os, "lstat", refuse)
    listing = beside(tmp_path, "a fox")
    assert captions(listing) == {"a.mp4": None} and listing.tally.sidecars_lost == {"Permission denied": 1}
    assert listing.tally.without_sidecar == 0


def test_the_kinds_that_are_asked_for_in_their_order(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text('{"caption": "json"}')
    assert captions(beside(tmp_path, "text")) == {"a.mp4": "text"}
    assert captions(beside(tmp_path, "text", wanted=Sidecars.of("json, txt"))) == {"a.mp4": "json"}
    assert captions(beside(tmp_path, "text", wanted=Sidecars.of("json"))) == {"a.mp4": "json"}
    assert Sidecars.of(None) == Sidecars()
    for wrong in ("", "csv", "txt,txt"):
        with pytest.raises(UserError, match="txt or json"):
            Sidecars.of(wrong)


def test_a_row_of_a_list_comes_before_a_sidecar(tmp_path: Path) -> None:
    for name in ("a", "b", "c"):
        (tmp_path / f"{name}.mp4").write_bytes(b"x")
    (tmp_path / "a.txt").write_text("beside a")
    (tmp_path / "b.txt").write_text("beside b")
    (tmp_path / "list.csv").write_text("path;label;caption\na.mp4;1;of the list\nb.mp4;2;\nc.mp4;3;\n")
    listing = list_sources([str(tmp_path / "list.csv")], sidecars=BOTH)
    found = [one for one in listing if isinstance(one, Source)]
    assert [own_columns.caption(one.extra) for one in found] == ["of the list", "beside b", None]
    assert json.loads(found[1].extra) == {"label": "2", "caption": "beside b"}
    assert listing.tally.without_sidecar == 1


def test_a_lists_caption_is_cleaned_alike() -> None:
    columns = json.dumps({"caption": "\x1b[2J\x07", "Text": "a \x00fox\u202e runs"})
    assert own_columns.caption(columns) == "a fox runs", "a caption of which nothing is shown is none"


@pytest.mark.parametrize("argument", ["", "a.mp4", "list.txt", "*.mp4"])
def test_no_sidecar_leads_out_of_its_folder(tmp_path: Path, argument: str) -> None:
    cage = tmp_path / "cage"
    cage.mkdir()
    (tmp_path / "secret").write_text("a secret")
    (cage / "a.mp4").write_bytes(b"x")
    (cage / "a.txt").symlink_to(tmp_path / "secret")
    (cage / "list.txt").write_text("a.mp4\n")
    listing = list_sources([str(cage / argument)], sidecars=Sidecars(("txt",)))
    assert captions(listing) == {"a.mp4": None}
    assert listing.tally.sidecars_unfit == {"a link that leads outside": 1}


def test_links_that_a_person_trusts_and_pipes(tmp_path: Path) -> None:
    inner = tmp_path / "cage"
    inner.mkdir()
    for name in ("a", "b", "c"):
        (inner / f"{name}.mp4").write_bytes(b"x")
    (tmp_path / "there").write_text("a fox")
    (inner / "a.txt").symlink_to(tmp_path / "there")
    (inner / "b.txt").symlink_to(inner / "nothing")
    os.mkfifo(inner / "c.txt")
    listing = list_sources([str(inner)], sidecars=BOTH, follow_links=True)
    assert captions(listing) == {"a.mp4": "a fox", "b.mp4": None, "c.mp4": None}
    assert listing.tally.sidecars_unfit == {"a link to nothing": 1, "no regular file": 1}


def test_remote_stores_are_refused_in_one_line() -> None:
    with pytest.raises(UserError, match="write the captions into a list"):
        list_sources(["s3://bucket/videos"], sidecars=BOTH)
    tally = Tally()
    (there,) = sidecars.attached(iter([Source("s3://bucket/a.mp4", 1)]), BOTH, None, Links.NONE, tally)
    assert isinstance(there, Source) and not there.extra and sum(tally.sidecars_unfit.values()) == 1
