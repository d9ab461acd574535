"""Outputs: replaced in one step or left as they were, on a disk and in an object store; wrong places in one line."""

from __future__ import annotations

import contextlib
import json
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import pyarrow as pa
import pytest

from curation import atomic, outputs
from curation.errors import UserError
from curation.pyramid.commits.commit import Batch, Committer
from curation.pyramid.queries import export
from curation.pyramid.storage import address
from curation.pyramid.store import Pyramid
from curation.pyramid.tiering.tiers import Tiers
from tests.curation.pyramid.build import TIERS, clip_ids, clips, whole_video
from tests.support import store

SECRET = "wJalrXUtnFEMI"


@pytest.fixture(scope="module")
def server() -> Iterator[store.Store]:
    with store.served() as made:
        yield made


@pytest.fixture
def options(server: store.Store, monkeypatch: pytest.MonkeyPatch) -> str:
    """What a URI needs to reach the store; only the credentials come from the environment."""
    for name, value in server.environment.items():
        if "ENDPOINT" not in name and "HTTP" not in name:
            monkeypatch.setenv(name, value)
    return f"?endpoint_override=127.0.0.1:{server.port}&scheme=http"


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def fail_in(place: str, error: BaseException) -> None:
    with outputs.replacing(place) as file:
        file.write(b"half")
        raise error


def test_a_file_appears_when_it_is_whole(tmp_path: Path) -> None:
    place = tmp_path / "a.csv"
    with outputs.replacing(str(place)) as file:
        file.write(b"new")
        assert not place.exists()
    assert place.read_bytes() == b"new" and names(tmp_path) == ["a.csv"]
    with outputs.replacing(f"file://{tmp_path}/b%20c.csv") as file:
        file.write(b"uri")
    assert (tmp_path / "b c.csv").read_bytes() == b"uri"


def test_a_file_that_fails_leaves_the_old_one_and_nothing_else(tmp_path: Path) -> None:
    place = tmp_path / "a.csv"
    place.write_bytes(b"old")
    for error in (ValueError("of the block"), KeyboardInterrupt(), UserError("a", "b")):
        with pytest.raises(type(error)):
            fail_in(str(place), error)
    assert place.read_bytes() == b"old" and names(tmp_path) == ["a.csv"]


def test_a_full_disk_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    (tmp_path / "a.csv").write_bytes(b"old")
    monkeypatch.setattr("curation.atomic.os.fsync", full)
    with pytest.raises(UserError, match=r"cannot write .*a\.csv \(No space left"):
        outputs.write(str(tmp_path / "a.csv"), b"new")
    assert (tmp_path / "a.csv").read_bytes() == b"old" and names(tmp_path) == ["a.csv"]


@pytest.mark.parametrize("error", [OSError(28, "x"), OSError("LanceError(IO): Generic S3 error"), RuntimeError("x")])
def test_a_fault_of_what_is_read_is_not_blamed_on_the_output(tmp_path: Path, error: Exception) -> None:
    for kind in export.TABLES:

        def failing() -> Iterator[pa.RecordBatch]:
            yield pa.record_batch({"a": [1]})
            raise error

        with pytest.raises(type(error)) as caught:
            export.save(export.Rows(pa.schema({"a": pa.int64()}), failing()), str(tmp_path / f"a{kind}"))
        assert caught.value is error
    with pytest.raises(type(error)) as caught, outputs.new_folder(str(tmp_path / "f"), "mark"):
        raise error
    assert caught.value is error and names(tmp_path) == []


@pytest.mark.parametrize("buffering", [0, -1])
def test_a_disk_that_fills_while_it_is_written_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, buffering: int
) -> None:
    """On the write itself, or when what is buffered is written at the end."""

    @contextlib.contextmanager
    def full(*_: object) -> Iterator[IO[bytes]]:
        with open("/dev/full", "wb", buffering=buffering) as file:
            yield file

    monkeypatch.setattr(atomic, "replacing", full)
    for kind in export.TABLES:
        rows = export.Rows(pa.schema({"a": pa.int64()}), iter([pa.record_batch({"a": [1]})]))
        with pytest.raises(UserError, match=rf"cannot write .*a\{kind} \(No space left"):
            export.save(rows, str(tmp_path / f"a{kind}"))
    with pytest.raises(UserError, match="No space left"):
        fail_in(str(tmp_path / "b"), ValueError("of the block"))


def test_links_and_permissions_stay(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "real/a.csv").write_bytes(b"old")
    (tmp_path / "real/a.csv").chmod(0o640)
    (tmp_path / "link.csv").symlink_to("real/a.csv")
    outputs.write(str(tmp_path / "link.csv"), b"new")
    assert (tmp_path / "link.csv").is_symlink() and (tmp_path / "real/a.csv").read_bytes() == b"new"
    assert stat.S_IMODE((tmp_path / "real/a.csv").stat().st_mode) == 0o640
    old = os.umask(0o027)
    try:
        with atomic.replacing(tmp_path / "b.csv"):
            pass
    finally:
        os.umask(old)
    assert stat.S_IMODE((tmp_path / "b.csv").stat().st_mode) == 0o640


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("http://host/x.csv", ["http:", "s3://", "file://"]),
        ("s3:x.csv", ["s3:"]),
        ("concat:a.csv", ["concat:", "./concat:"]),
        ("file:x.csv", ["file:///absolute"]),
        ("file://host/x.csv", ["file:///absolute"]),
        ("nowhere/x.csv", ["does not exist", "mkdir -p"]),
        ("file/x.csv", ["does not exist"]),
        ("folder", ["is a folder"]),
        ("pipe", ["not a file"]),
        ("", ["name of a file"]),
        ("a\0b", ["name of a file"]),
        ("s3://bucket", ["names no object"]),
        ("s3://bucket/?region=x", ["names no object"]),
        (f"s3://key:{SECRET}@bucket/x.csv", ["credentials", "environment"]),
        (f"s3://bucket/x.csv?secret_key={SECRET}", ["'secret_key'", "endpoint_override", "environment"]),
        ("s3://bucket/x.csv?scheme=ftp&endpoint_override=h", ["scheme=ftp", "http or https"]),
        ("s3://bucket/x.csv?region=", ["region", "one value"]),
        ("s3://bucket/x.csv?region=a&region=b", ["region", "one value"]),
        ("s3://bucket/x.csv?force_virtual_addressing=yes", ["true or false"]),
        ("az://container/x.csv?region=a", ["no option 'region'", "none"]),
    ],
)
def test_a_wrong_place_is_one_line_and_no_secret(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, words: list[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_text("")
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "pipe")
    for act in (outputs.check_file, lambda place: outputs.write(place, b"x")):
        with pytest.raises(UserError) as caught:
            act(name)
        said = str(caught.value)
        assert all(word in said for word in words) and SECRET not in said and "\n" not in said, said
    assert names(tmp_path) == ["file", "folder", "pipe"]


def test_options_of_a_uri_are_what_lance_calls_them(tmp_path: Path) -> None:
    uri = "s3://b/p/?endpoint_override=h:9&scheme=http&region=r&force_virtual_addressing=true"
    assert address.located(uri) == (
        "s3://b/p",
        {
            "aws_endpoint": "http://h:9",
            "allow_http": "true",
            "aws_region": "r",
            "aws_virtual_hosted_style_request": "true",
        },
    )
    assert address.located("s3://b/p?endpoint_override=h", {"aws_region": "x", "allow_http": "true"}) == (
        "s3://b/p",
        {"aws_endpoint": "https://h", "allow_http": "true", "aws_region": "x"},
    )
    assert address.located("gs://b/p?endpoint_override=h:1&scheme=http") == (
        "gs://b/p",
        {"google_base_url": "http://h:1", "allow_http": "true"},
    )
    assert address.located("s3://b/p") == ("s3://b/p", None)
    assert address.located(tmp_path / "what?region=x") == (str(tmp_path / "what?region=x"), None)


def test_objects_appear_whole_and_keep_their_names(server: store.Store, options: str) -> None:
    for key, uri in (
        ("a/b.csv", "a/b.csv"),
        ("a/b c\u00e9.csv", "a/b%20c%C3%A9.csv"),
        ("a/\u732b#.csv", "a/\u732b%23.csv"),
    ):
        place = f"s3://{store.BUCKET}/{uri}{options}"
        outputs.write(place, b"old")
        with pytest.raises(KeyboardInterrupt):
            fail_in(place, KeyboardInterrupt())
        assert server.content(key) == b"old"
        outputs.write(place, b"x" * 7_000_000)
        assert server.content(key) == b"x" * 7_000_000


def test_a_store_that_refuses_is_one_line(server: store.Store, options: str) -> None:
    with pytest.raises(UserError, match=r"cannot write s3://nobucket/x\.csv: the store fails") as caught:
        outputs.write(f"s3://nobucket/x.csv{options}", b"x")
    assert "\n" not in str(caught.value)


def test_every_export_goes_to_a_store(server: store.Store, options: str, tmp_path: Path) -> None:
    pyramid = Pyramid.create(tmp_path / "p", TIERS, "test")
    Committer(pyramid).commit(whole_video(pyramid, "v1", 3))
    Committer(pyramid).commit(Batch(clips=clips({"clip_id": "f" * 32, "motion": 50.0})))
    query = pyramid.query().whole()
    for kind in export.TABLES:
        export.save(export.Rows.of(query), str(tmp_path / f"x{kind}"))
        export.save(export.Rows.of(query), f"s3://{store.BUCKET}/x{kind}{options}")
        assert server.content(f"x{kind}") == (tmp_path / f"x{kind}").read_bytes()
    done = export.videos(query, f"s3://{store.BUCKET}/clips/{options}", "{source}_{clip_id}")
    assert (done.files, done.missing) == (3, 1)
    keys = [f"clips/v1_{name}.mp4" for name in clip_ids("v1", 3)]
    assert sorted(server.keys("clips/")) == sorted([*keys, f"clips/{export.METADATA}"])
    assert [server.content(key) for key in keys] == [name.encode() * 100 for name in clip_ids("v1", 3)]
    lines = [json.loads(line) for line in server.content(f"clips/{export.METADATA}").splitlines()]
    assert [f"clips/{line['file_name']}" for line in lines] == keys
    with pytest.raises(UserError, match="not empty"):
        export.videos(query, f"s3://{store.BUCKET}/clips{options}")


def test_a_failed_folder_of_a_store_is_empty_again(
    server: store.Store, options: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pyramid = Pyramid.create(tmp_path / "p", TIERS, "test")
    Committer(pyramid).commit(whole_video(pyramid, "v1", 3))
    first, second, _ = pyramid.media(clip_ids("v1", 3))
    monkeypatch.setattr(Pyramid, "media", lambda self, ids: iter([first, (second[0], b"damaged", second[2])]))
    with pytest.raises(UserError, match="checksum"):
        export.videos(pyramid.query(), f"s3://{store.BUCKET}/failed{options}")
    assert server.keys("failed/") == []


def test_a_pyramid_is_where_its_uri_says(server: store.Store, options: str) -> None:
    uri = f"s3://{store.BUCKET}/deep/p{options}"
    made = Pyramid.open_or_create(uri, TIERS, "test")
    Committer(made).commit(whole_video(made, "v1", 2))
    opened = Pyramid.open(uri)
    assert opened.uri == f"s3://{store.BUCKET}/deep/p" and opened.query().count() == 2
    assert opened.with_tiers(Tiers(())).tiers == Pyramid.open(uri).tiers == Tiers(())
    assert len(list(opened.media(clip_ids("v1", 2)))) == 2
    with pytest.raises(UserError, match="is a pyramid already"):
        Pyramid.create(uri, TIERS, "test")
    with pytest.raises(UserError, match="credentials") as caught:
        Pyramid.open(f"s3://key:{SECRET}@{store.BUCKET}/p{options}")
    assert SECRET not in str(caught.value)
