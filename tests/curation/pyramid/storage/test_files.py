"""The small files of a pyramid: the same on a local disk and through the client of an object store."""

from __future__ import annotations

from pathlib import Path

import pytest

from curation.pyramid.commits import journal
from curation.pyramid.commits.journal import Journal
from curation.pyramid.storage.files import Files
from curation.pyramid.store import Pyramid
from tests.curation.pyramid.build import TIERS, clip_ids, whole_video


@pytest.fixture(params=["", "file-object-store://"])
def uri(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A local path, and the same disk behind the client that Lance reaches object stores with."""
    return f"{request.param}{tmp_path}/p"


def test_files_are_written_read_listed_and_removed(uri: str) -> None:
    files = Files(uri)
    assert files.read("a/b.json") is None and files.names("a", ".json") == []
    files.write("a/b.json", b"1")
    files.write("a/c/d.json", b"2")
    files.write("a/b.json", b"\x00\xff")
    files.write("a/e.toml", b"")
    assert files.read("a/b.json") == b"\x00\xff" and files.read("a/e.toml") == b""
    assert files.names("a", ".json") == ["a/b.json", "a/c/d.json"]
    files.remove("a/b.json")
    files.remove("a/b.json")
    assert files.read("a/b.json") is None
    files.remove_folder("a")
    files.remove_folder("a")
    assert files.names("a", "") == []


def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = Files(str(tmp_path))
    files.write("a", b"old")

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="space"):
        files.write("a", b"new")
    assert files.read("a") == b"old" and [path.name for path in tmp_path.iterdir()] == ["a"]


def test_a_pyramid_and_its_journal_are_where_lance_writes(uri: str) -> None:
    """What opens datasets opens the journal too: no scheme is refused by one that the other takes."""
    pyramid = Pyramid.create(uri, TIERS, "test", recipe_text="name = 'test'\n")
    Journal(pyramid.uri, "killed", pyramid.storage_options).keep(whole_video(pyramid, "v1", 2))
    again = Pyramid.open(uri)
    assert again.recipe_text() == "name = 'test'\n" and again.dataset("videos").count_rows() == 0
    assert journal.recover(again) == 1
    assert sorted(again.query().ids()) == sorted(clip_ids("v1", 2)) and journal.recover(again) == 0
    mine = Journal(uri, "mine")
    mine.keep(whole_video(again, "v2", 1))
    mine.close()
    assert journal.recover(again) == 0


@pytest.mark.parametrize("scheme", ["s3", "gs", "az", "abfss"])
def test_the_journal_refuses_no_scheme_itself(scheme: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The files of a store are asked of its client with the pyramid's own options."""
    asked: list[tuple[str, dict[str, str]]] = []

    class Session:
        def __init__(self, uri: str, storage_options: dict[str, str]) -> None:
            asked.append((uri, storage_options))

        def list(self, folder: str) -> list[str]:
            return []

    monkeypatch.setattr("lance.file.LanceFileSession", Session)
    Journal(f"{scheme}://place/{id(asked)}", "run", {"endpoint": "here"}).close()
    assert asked == [(f"{scheme}://place/{id(asked)}", {"client_max_retries": "8", "endpoint": "here"})]
