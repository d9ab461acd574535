"""Staging: same bytes, same id; a private folder with one name in it; what cannot be read is a verdict."""

from __future__ import annotations

import errno
import hashlib
import io
import os
import shutil
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyarrow import fs

from curation import identity
from curation.contract import Reason, Source, Verdict
from curation.errors import UserError
from curation.inputs import staging, uris
from curation.inputs.folders import remote_entry
from curation.inputs.sources import Refused, list_sources
from curation.inputs.staging import Staged, stage
from tests.support import poison


def source(path: Path) -> Source:
    status = path.stat()
    return Source(str(path), status.st_size, status.st_mtime)


def staged(result: Staged | Verdict) -> Staged:
    assert isinstance(result, Staged), result
    return result


def verdict(result: Staged | Verdict) -> Verdict:
    assert isinstance(result, Verdict), result
    return result


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """The staging folder; whatever the outcome, only what is staged may be left in it."""
    path = tmp_path / "staging"
    path.mkdir()
    yield path
    assert [one for one in path.iterdir() if not (one / staging.NAME).exists()] == []


def test_a_local_file_is_hashed_and_linked_under_a_fixed_name(tmp_path: Path, folder: Path) -> None:
    path = tmp_path / "concat:a|b.mp4"
    path.write_bytes(b"moving pictures")
    with staged(stage(Source(str(path), 0), folder)) as one:
        assert one.raw.video_id == hashlib.sha256(b"moving pictures").hexdigest()[:32]
        assert one.raw.source == source(path)  # size and time as found now, not as listed
        assert one.path.name == "video"
        assert one.path.read_bytes() == b"moving pictures"
        assert [entry.name for entry in one.path.parent.iterdir()] == ["video"]
        assert one.path.parent.stat().st_mode & 0o077 == 0
    assert list(folder.iterdir()) == []
    assert path.exists()


def test_the_same_bytes_under_three_names_have_one_id(tmp_path: Path, folder: Path) -> None:
    (tmp_path / "one.mp4").write_bytes(b"x" * 100)
    shutil.copy(tmp_path / "one.mp4", tmp_path / "two.mov")
    (tmp_path / "three.mkv").symlink_to("one.mp4")
    entries = list_sources([str(tmp_path / name) for name in ("one.mp4", "two.mov", "three.mkv")])
    ids = [staged(stage(one, folder)).raw.video_id for one in entries if isinstance(one, Source)]
    assert len(ids) == 3
    assert len(set(ids)) == 1


def test_a_file_that_vanished_after_listing(tmp_path: Path, folder: Path) -> None:
    (tmp_path / "a.mp4").write_bytes(b"x")
    (entry,) = list_sources([str(tmp_path / "a.mp4")])
    (tmp_path / "a.mp4").unlink()
    assert isinstance(entry, Source)
    assert verdict(stage(entry, folder)) == Verdict(Reason.UNREADABLE, None, "No such file or directory")


def test_no_permission(tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.mp4").write_bytes(b"x")

    real = os.open

    def denied(path: Any, *args: Any, **options: Any) -> int:
        if str(path).endswith("a.mp4"):
            raise PermissionError(errno.EACCES, "Permission denied", path)
        return real(path, *args, **options)

    monkeypatch.setattr(os, "open", denied)  # a mode of 000 does not stop root
    got = verdict(stage(source(tmp_path / "a.mp4"), folder))
    assert (got.reason, got.detail) == (Reason.UNREADABLE, "Permission denied")


@pytest.mark.parametrize("change", ["grow", "rewrite", "replace", "shrink"])
def test_a_file_that_changes_while_it_is_read(
    tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch, change: str
) -> None:
    path = tmp_path / "a.mp4"
    path.write_bytes(b"x" * 1000)
    hashed = identity.content_id

    def meddle(stream: Any, sink: Any = None) -> tuple[str, int]:
        if change == "grow":
            path.write_bytes(b"x" * 2000)
        result = hashed(stream, sink)
        if change == "rewrite":
            path.write_bytes(b"y" * 1000)
            os.utime(path, ns=(1, 1))
        elif change == "replace":
            (tmp_path / "new").write_bytes(b"y" * 1000)
            os.replace(tmp_path / "new", path)
        elif change == "shrink":
            os.truncate(path, 10)
        return result

    monkeypatch.setattr(staging.identity, "content_id", meddle)
    got = verdict(stage(source(path), folder))
    assert got.reason == Reason.UNREADABLE
    assert "while it was read" in got.detail


def test_a_pipe_is_never_waited_for(tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    os.mkfifo(tmp_path / "pipe.mp4")
    results: list[Staged | Verdict] = []
    entry = Source(str(tmp_path / "pipe.mp4"), 0)
    real = os.stat

    def stale(path: Any, **options: Any) -> Any:
        return SimpleNamespace(st_mode=0o100644) if str(path) == entry.uri else real(path, **options)

    for swapped_in_after_the_look in (False, True):
        if swapped_in_after_the_look:
            monkeypatch.setattr(os, "stat", stale)
        thread = threading.Thread(target=lambda: results.append(stage(entry, folder)), daemon=True)
        thread.start()
        thread.join(5)
        assert not thread.is_alive()
    assert [verdict(result).reason for result in results] == [Reason.NOT_A_FILE] * 2


@pytest.mark.parametrize("name", ["/dev/zero", "/dev/null", "/tmp"])
def test_devices_and_folders_are_no_files(folder: Path, name: str) -> None:
    assert verdict(stage(Source(name, 0), folder)).reason == Reason.NOT_A_FILE


@pytest.mark.parametrize("uri", ["http://host/x", "concat:/etc/passwd", "s3://b/../x", "data:,x"])
def test_a_forbidden_uri_is_not_opened(folder: Path, uri: str) -> None:
    assert verdict(stage(Source(uri, 0), folder)).reason == Reason.OUTSIDE


def test_a_name_that_no_file_can_have(folder: Path) -> None:
    assert verdict(stage(Source("a\0b", 0), folder)).reason == Reason.UNREADABLE


def test_the_byte_limit(tmp_path: Path, folder: Path) -> None:
    (tmp_path / "a.mp4").write_bytes(b"x" * 101)
    got = verdict(stage(source(tmp_path / "a.mp4"), folder, most_bytes=100))
    assert (got.reason, got.measured) == (Reason.UNREADABLE, 101)
    assert staged(stage(source(tmp_path / "a.mp4"), folder, most_bytes=101))


def test_the_poison_corpus_lists_and_stages_without_a_look_outside(folder: Path) -> None:
    """What never reaches a decoder ends in the reason that the corpus expects; the rest is staged."""
    paths = poison.corpus()
    outcome: dict[str, Reason | None] = {}
    for entry in list_sources([str(paths["zero-bytes.mp4"].parent)]):
        name = Path(entry.uri).name
        result = entry.verdict if isinstance(entry, Refused) else stage(entry, folder)
        outcome[name] = result.reason if isinstance(result, Verdict) else None
    stopped = {name: reason for name, reason in outcome.items() if reason is not None}
    assert stopped == {
        name: poison.EXPECTED[name] for name in ("pipe.mp4", "folder.mp4", "link-outside.mp4", "link-broken.mp4")
    }
    assert set(paths) - set(outcome) == {
        "playlist.m3u8",
        "audio-only.m4a",
        "cover-art.m4a",
    }  # named outright only


# --- remote, with a storage that misbehaves on command ---


@dataclass
class Storage:
    """Stands for a remote file system: `faults` are raised, one for each opening, before bytes flow."""

    content: bytes = b"remote pictures"
    faults: list[Exception] = field(default_factory=list)
    infos: list[tuple[int, int]] = field(default_factory=list)
    opened: int = 0

    def get_file_info(self, path: str) -> Any:
        size, time = self.infos.pop(0) if self.infos else (len(self.content), 5_000_000_000)
        kind = fs.FileType.File if size >= 0 else fs.FileType.NotFound
        return SimpleNamespace(type=kind, size=size, mtime_ns=time)

    def open_input_stream(self, path: str) -> io.BytesIO:
        self.opened += 1
        if self.faults:
            raise self.faults.pop(0)
        return io.BytesIO(self.content)


@pytest.fixture
def storage(monkeypatch: pytest.MonkeyPatch) -> Storage:
    storage = Storage()
    monkeypatch.setattr(uris, "remote", lambda uri: (storage, "bucket/a.mp4"))
    return storage


REMOTE = Source("s3://bucket/a.mp4", 0)


def test_a_remote_object_is_read_once(storage: Storage, folder: Path) -> None:
    one = staged(stage(REMOTE, folder))
    assert storage.opened == 1
    assert one.path.read_bytes() == storage.content
    assert not one.path.is_symlink()
    assert one.raw.video_id == hashlib.sha256(storage.content).hexdigest()[:32]
    assert one.raw.source == Source(REMOTE.uri, len(storage.content), 5.0)


def test_a_listing_in_milliseconds_and_an_answer_in_seconds_are_one_time(storage: Storage, folder: Path) -> None:
    """Stores tell more of an object's time in a listing; the ledger compares what was listed with what was staged."""
    info = fs.FileInfo("bucket/a.mp4", fs.FileType.File, size=len(storage.content), mtime_ns=5_999_000_000)
    entry = remote_entry(REMOTE.uri, info)
    assert staged(stage(entry, folder)).raw.source == entry == Source(REMOTE.uri, len(storage.content), 5.0)


def test_network_errors_are_retried_and_then_a_verdict(
    storage: Storage, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pauses: list[float] = []
    monkeypatch.setattr(staging.time, "sleep", pauses.append)
    storage.faults = [OSError("503"), pa.ArrowInvalid("reset"), OSError("timeout")]
    assert staged(stage(REMOTE, folder, pause_s=0.5))
    assert pauses == [0.5, 1.0, 2.0]
    storage.faults, storage.opened = [OSError(f"fault {number}") for number in range(9)], 0
    got = verdict(stage(REMOTE, folder, attempts=3, pause_s=0))
    assert storage.opened == 3
    assert got == Verdict(Reason.UNREADABLE, 3, "failed 3 times: fault 2")


def test_a_connection_that_ends_early_is_tried_again(storage: Storage, folder: Path) -> None:
    storage.infos = [(99, 1), (99, 1)]
    assert staged(stage(REMOTE, folder, pause_s=0)).raw.source.bytes == len(storage.content)
    assert storage.opened == 2


def test_a_remote_object_that_changes_vanishes_or_lies(storage: Storage, folder: Path) -> None:
    size = len(storage.content)
    for infos, words in (
        ([(size, 1), (size, 2)], "changed while it was read"),
        ([(size - 1, 1)], "grew while it was read"),
        ([(-1, 0)], "does not exist"),
    ):
        storage.infos = infos
        got = verdict(stage(REMOTE, folder))
        assert got.reason == Reason.UNREADABLE
        assert words in got.detail


def test_a_full_disk_is_the_persons_matter_not_the_videos(
    storage: Storage, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(total=1 << 40, free=10, used=0))
    with pytest.raises(UserError, match=r"MB free of .* free some space"):
        stage(REMOTE, folder, wait_s=0)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(total=10, free=10, used=0))
    with pytest.raises(UserError, match="is no larger than 256 MB"):  # no video would fit
        stage(REMOTE, folder)
    total = staging.RESERVE + 1
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(total=total, free=total, used=0))
    assert "larger than the whole disk" in verdict(stage(REMOTE, folder)).detail
    monkeypatch.undo()
    monkeypatch.setattr(uris, "remote", lambda uri: (storage, "x"))
    storage.faults = [OSError(errno.ENOSPC, "No space left on device")]
    with pytest.raises(UserError, match="is full"):
        stage(REMOTE, folder, wait_s=0)


@pytest.mark.parametrize("when", ["before", "while"])
def test_room_that_other_workers_free_is_waited_for(
    storage: Storage, folder: Path, monkeypatch: pytest.MonkeyPatch, when: str
) -> None:
    """Before a video is fetched, or in its middle; what was fetched of it takes no room meanwhile."""
    waits: list[float] = []

    def wait(seconds: float) -> None:
        waits.append(seconds)
        assert [path for path in folder.rglob("*") if path.is_file()] == []

    monkeypatch.setattr(staging.time, "sleep", wait)
    full = iter([True, True, True])
    if when == "before":
        free = lambda path: SimpleNamespace(total=1 << 40, free=10 if next(full, False) else 1 << 40, used=0)  # noqa: E731
        monkeypatch.setattr(shutil, "disk_usage", free)
    else:
        hashed = identity.content_id

        def write(stream: Any, sink: Any = None) -> tuple[str, int]:
            if next(full, False):
                sink(b"half")
                raise OSError(errno.ENOSPC, "No space left on device")
            return hashed(stream, sink)

        monkeypatch.setattr(staging.identity, "content_id", write)
    assert staged(stage(REMOTE, folder)).path.read_bytes() == storage.content
    assert len(waits) == 3
    assert len(set(waits)) == 3, "workers that wait together do not try again together"


def test_room_is_not_waited_for_without_end(storage: Storage, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    waits: list[float] = []
    monkeypatch.setattr(staging.time, "sleep", waits.append)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(total=1 << 40, free=10, used=0))
    with pytest.raises(UserError, match="free some space"):
        stage(REMOTE, folder)
    assert staging.WAIT_FOR_ROOM_S <= sum(waits) <= staging.WAIT_FOR_ROOM_S + 5


# --- remote, over a real client ---


@pytest.fixture(scope="module")
def bucket() -> Iterator[tuple[Any, str]]:
    """A client and the options that a URI needs to reach a local S3 server."""
    server_module = pytest.importorskip("moto.server", reason="needs moto[server]: pip install 'moto[server]' boto3")
    boto3 = pytest.importorskip("boto3", reason="needs boto3")
    server = server_module.ThreadedMotoServer(port=0, verbose=False)
    keys = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", "AWS_EC2_METADATA_DISABLED": "true"}
    with pytest.MonkeyPatch.context() as patch:
        for key, value in keys.items():
            patch.setenv(key, value)
        server.start()
        host, port = server.get_host_and_port()
        client = boto3.client("s3", endpoint_url=f"http://{host}:{port}", region_name="us-east-1")
        client.create_bucket(Bucket="bucket")
        for key in ("v/b.mp4", "v/a b#1?.mp4", "v/deep/é.mkv", "v/notes.md", "v/.hidden.mp4", "w.mp4"):
            client.put_object(Bucket="bucket", Key=key, Body=key.encode())
        yield client, f"?endpoint_override={host}:{port}&scheme=http&region=us-east-1"
        server.stop()


def test_s3_folder_glob_and_object(bucket: tuple[Any, str], folder: Path) -> None:
    _, options = bucket
    entries = list(list_sources([f"s3://bucket/v{options}"]))
    assert all(isinstance(entry, Source) for entry in entries)
    names = ["s3://bucket/v/a%20b%231%3F.mp4", "s3://bucket/v/b.mp4", "s3://bucket/v/deep/%C3%A9.mkv"]
    assert [entry.uri for entry in entries] == [name + options for name in names]
    for entry, key in zip(entries, ("v/a b#1?.mp4", "v/b.mp4", "v/deep/é.mkv"), strict=True):
        assert isinstance(entry, Source)
        assert entry.bytes == len(key.encode())
        assert entry.modified > 1e9
        assert staged(stage(entry, folder)).path.read_bytes() == key.encode()
    assert [e.uri for e in list_sources([f"s3://bucket/**/*.mkv{options}"])] == [names[2] + options]
    (one,) = list_sources([f"s3://bucket/w.mp4{options}"])
    assert isinstance(one, Source)
    assert one.bytes == 5


def test_s3_lists_in_three_formats(bucket: tuple[Any, str], folder: Path) -> None:
    client, options = bucket
    sink = io.BytesIO()
    pq.write_table(pa.table({"uri": ["b.mp4", "../w.mp4", "s3://bucket/w.mp4"]}), sink)
    client.put_object(Bucket="bucket", Key="v/list.parquet", Body=sink.getvalue())
    client.put_object(Bucket="bucket", Key="v/list.txt", Body=b"b.mp4\n../w.mp4\ns3://bucket/w.mp4\n")
    client.put_object(Bucket="bucket", Key="v/list.csv", Body=b"uri\nb.mp4\n../w.mp4\ns3://bucket/w.mp4\n")
    for suffix in ("txt", "csv", "parquet"):
        entries = list(list_sources([f"s3://bucket/v/list.{suffix}{options}"]))
        assert [type(entry).__name__ for entry in entries] == ["Source", "Refused", "Refused"]
        assert isinstance(entries[0], Source)
        assert staged(stage(entries[0], folder)).raw.source.bytes == 7


def test_s3_what_is_not_there(bucket: tuple[Any, str], folder: Path) -> None:
    _, options = bucket
    with pytest.raises(UserError, match="does not exist"):
        list_sources([f"s3://bucket/nothing{options}"])
    with pytest.raises(UserError, match="s3://elsewhere"):
        list_sources([f"s3://elsewhere/x{options}"])
    gone = verdict(stage(Source(f"s3://bucket/gone.mp4{options}", 0), folder))
    assert (gone.reason, gone.detail) == (Reason.UNREADABLE, "does not exist")
