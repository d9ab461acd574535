"""Remote listings over a real client: any key is found and read, names inherit the store, a rerun reads nothing."""

from __future__ import annotations

import builtins
import itertools
import logging
import tempfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.parse import unquote, urlsplit

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from curation.contract import Reason, Source, Verdict
from curation.errors import UserError
from curation.inputs import listed, odd_keys, uris
from curation.inputs.sources import Refused, list_sources
from curation.inputs.staging import stage


@dataclass
class Bucket(logging.Handler):
    """A bucket of a server on this machine, which counts the requests for objects by method."""

    client: Any
    options: str
    asked: Counter[str] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        super().__init__()

    __hash__ = logging.Handler.__hash__

    def emit(self, record: logging.LogRecord) -> None:
        for method in ("GET", "HEAD"):
            if f"{method} /videos/" in record.getMessage() and ".mp4" in record.getMessage():
                self.asked[method] += 1

    def put(self, *keys: str) -> None:
        for key in keys:
            self.client.put_object(Bucket="videos", Key=key, Body=key.encode())

    def uri(self, place: str) -> str:
        return f"s3://videos{place}{self.options}"


@pytest.fixture(scope="module")
def bucket() -> Iterator[Bucket]:
    server_module = pytest.importorskip("moto.server", reason="needs moto[server]: pip install 'moto[server]' boto3")
    boto3 = pytest.importorskip("boto3", reason="needs boto3")
    server = server_module.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    keys = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", "AWS_EC2_METADATA_DISABLED": "true"}
    with pytest.MonkeyPatch.context() as patch:
        for key, value in {**keys, "NO_PROXY": "127.0.0.1", "no_proxy": "127.0.0.1"}.items():
            patch.setenv(key, value)
        server.start()
        host = "{}:{}".format(*server.get_host_and_port())
        client = boto3.client("s3", endpoint_url=f"http://{host}", region_name="us-east-1")
        client.create_bucket(Bucket="videos")
        one = Bucket(client, f"?endpoint_override={host}&scheme=http&region=us-east-1")
        log = logging.getLogger("werkzeug")
        log.addHandler(one)
        yield one
        log.removeHandler(one)
        server.stop()


def key_of(uri: str) -> str:
    return unquote(urlsplit(uri).path)[1:]


_number = itertools.count()
_PARTS = st.sampled_from(
    ["a", "b.mp4", "c.mp4", "", "", ".", "..", ".hid", "a b", "q?x", "h#x", "p%2Fx", "%2e%2e", "é", "+", "\\", "x&y=z"]
)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.lists(_PARTS, min_size=1, max_size=4).map("/".join), min_size=1, max_size=4, unique=True))
@example(["day//v.mp4", "w.mp4"])
@example(["/v.mp4", "//w.mp4", "./x.mp4", "../y.mp4"])
@example(["v.mp4/", "v.mp4/w.mp4", "v.mp4"])
@example(["a//b//c.mp4", "a/b/c.mp4", "a//b.mp4", "a/b//"])
def test_every_object_is_one_entry_that_can_be_read_or_is_refused_by_name(bucket: Bucket, names: list[str]) -> None:
    top = f"set{next(_number)}"
    keys = {f"{top}/{name}.mp4" if not name.endswith((".mp4", "/")) else f"{top}/{name}" for name in names}
    bucket.put(f"{top}/always.mp4", *keys)
    there = {one["Key"] for one in bucket.client.list_objects_v2(Bucket="videos", Prefix=f"{top}/")["Contents"]}
    wanted = {key for key in there if key.endswith(".mp4") and not hidden(key)}
    entries = list(list_sources([bucket.uri(f"/{top}")]))
    found = [key_of(one.uri) for one in entries]
    assert len(set(found)) == len(found)
    assert wanted <= set(found)
    # pyarrow lists an object "a//b.mp4/" without its last slash: staging says that it is not there.
    assert all(f"{key}/" in there for key in set(found) - wanted)
    with tempfile.TemporaryDirectory() as folder:
        for one in entries:
            if isinstance(one, Refused):
                assert ".." in key_of(one.uri).split("/")
                assert one.verdict.reason is Reason.OUTSIDE
                continue
            staged = stage(one, Path(folder), pause_s=0)
            if key_of(one.uri) not in wanted:
                assert staged == Verdict(Reason.UNREADABLE, detail="does not exist")
                continue
            assert not isinstance(staged, Verdict), (one.uri, staged)
            assert staged.path.read_bytes() == key_of(one.uri).encode()
            assert (staged.raw.source.bytes, staged.raw.source.modified) == (one.bytes, one.modified)


def hidden(key: str) -> bool:
    return any(part.startswith(".") and part not in (".", "..") for part in key.split("/"))


def test_an_odd_key_may_be_named_outright_and_its_absence_is_told(bucket: Bucket) -> None:
    bucket.put("odd//one.mp4")
    (one,) = list_sources([bucket.uri("/odd//one.mp4")])
    assert isinstance(one, Source)
    assert one.bytes == len("odd//one.mp4")
    with pytest.raises(UserError, match=r"does not exist; .* is listed from the folder above it"):
        list_sources([bucket.uri("/odd//two.mp4")])


def test_without_boto3_a_listing_with_an_odd_key_ends_with_the_command_that_gets_it(
    bucket: Bucket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is the set-up that lacks something: no video is blamed for it, in a folder, a list, by name or in a worker."""
    real = builtins.__import__

    def missing(name: str, *rest: Any, **named: Any) -> Any:
        if name == "boto3":
            raise ImportError(name)
        return real(name, *rest, **named)

    bucket.put("plain//one.mp4", "plain/two.mp4")
    bucket.client.put_object(Bucket="videos", Key="plain/l.txt", Body=b"two.mp4\ns3://videos/plain//one.mp4\n")
    found = [one for one in list_sources([bucket.uri("/plain")]) if isinstance(one, Source)]
    odd = next(one for one in found if odd_keys.is_odd(one.uri))
    odd_keys._bucket.cache_clear()
    monkeypatch.setattr(builtins, "__import__", missing)
    for argument in (bucket.uri("/plain"), bucket.uri("/plain//one.mp4"), bucket.uri("/plain/l.txt")):
        with pytest.raises(UserError, match="pip install boto3"):
            list(list_sources([argument], allow_outside=True))
    with pytest.raises(UserError, match="pip install boto3"):
        stage(odd, tmp_path, pause_s=0)


# --- names in lists ---


def test_names_in_a_list_inherit_the_store_of_the_list(bucket: Bucket, tmp_path: Path) -> None:
    bucket.put("l/a.mp4", "m/b.mp4")
    text = "s3://videos/l/a.mp4\na.mp4\ns3://videos/m/b.mp4\ns3://videos/l/gone.mp4\ns3://videos/l\n"
    bucket.client.put_object(Bucket="videos", Key="l/list.txt", Body=text.encode())
    found = list(list_sources([bucket.uri("/l/list.txt")], allow_outside=True))
    assert [one.uri for one in found] == [bucket.uri(f"/{name}") for name in ("l/a.mp4", "m/b.mp4", "l/gone.mp4", "l")]
    assert [one.bytes for one in found if isinstance(one, Source)] == [7, 7]
    refused = [one.verdict for one in found if isinstance(one, Refused)]
    assert [(one.reason, one.detail) for one in refused] == [
        (Reason.UNREADABLE, "does not exist"),
        (Reason.NOT_A_FILE, "a folder"),
    ]
    assert not isinstance(stage(next(one for one in found if isinstance(one, Source)), tmp_path), Verdict)


@pytest.mark.parametrize(
    ("name", "uri"),
    [
        ("s3://b/in/x.mp4", "s3://b/in/x.mp4?endpoint_override=here&scheme=http"),
        ("s3://b/in/x.mp4?", "s3://b/in/x.mp4?endpoint_override=here&scheme=http"),
        ("s3://b/in/x.mp4?endpoint_override=here&scheme=http", "s3://b/in/x.mp4?endpoint_override=here&scheme=http"),
        ("s3://other/x.mp4", "s3://other/x.mp4"),
        ("gs://b/x.mp4", "gs://b/x.mp4"),
        ("s3://b/in/x.mp4?endpoint_override=evil", None),
        ("s3://b/in/x.mp4?endpoint_override=here", None),
        ("s3://other/x.mp4?endpoint_override=evil", None),
    ],
)
def test_the_store_is_inherited_in_the_same_bucket_and_never_chosen_by_a_list(name: str, uri: str | None) -> None:
    base = "s3://b/in?endpoint_override=here&scheme=http"
    if uri is None:
        with pytest.raises(uris.Forbidden, match="a query in a listed URI"):
            uris.resolve(name, base, allow_outside=True)
    else:
        assert uris.resolve(name, base, allow_outside=True) == uri


def test_a_store_that_does_not_answer_is_left_to_the_staging(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def silent(uri: str) -> Any:
        asked.append(uri)
        raise OSError("no answer")

    monkeypatch.setattr(uris, "remote", silent)
    monkeypatch.setattr(listed, "_AT_A_TIME", 1)
    names = [f"s3://b/{number}.mp4" for number in range(1000)]
    (tmp_path / "l.txt").write_text("\n".join(names))
    found = list(list_sources([str(tmp_path / "l.txt")], allow_outside=True))
    assert found == [Source(name, 0) for name in names]
    assert len(asked) == listed._GIVE_UP


def test_storage_that_is_not_set_up_ends_the_listing_and_the_staging(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A verdict would blame the videos, and settle them for ever."""
    monkeypatch.delenv(uris.AZURE_ACCOUNT, raising=False)
    (tmp_path / "l.txt").write_text("az://container/a.mp4\naz://container/b.mp4\n")
    with pytest.raises(UserError, match=f"storage account in {uris.AZURE_ACCOUNT}.*; set it"):
        list(list_sources([str(tmp_path / "l.txt")], allow_outside=True))
    with pytest.raises(UserError, match=uris.AZURE_ACCOUNT):
        stage(Source("az://container/a.mp4", 0), tmp_path)

    def not_built(place: str) -> Any:
        raise pa.ArrowNotImplementedError("Got GCS URI but Arrow compiled without GCS support")

    monkeypatch.setattr(uris, "fs", SimpleNamespace(FileSystem=SimpleNamespace(from_uri=not_built)))
    with pytest.raises(UserError, match="without gs:// storage"):
        stage(Source("gs://nowhere-at-all/a.mp4", 0), tmp_path)


def test_azure_is_named_as_its_users_name_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(uris.AZURE_ACCOUNT, "account")
    assert uris.remote("az://container/a/b.mp4")[1] == "container/a/b.mp4"
    assert uris.place("az://container/a") == "abfs://account@container/"
    monkeypatch.delenv(uris.AZURE_ACCOUNT)
    with pytest.raises(UserError, match=f"storage account in {uris.AZURE_ACCOUNT}"):
        list_sources(["az://container/a"])
    with pytest.raises(uris.Forbidden, match="credentials"):
        uris.check("abfs://account:secret@container/a")


# --- reruns ---


@pytest.mark.parametrize("place", ["/again", "/again/*.mp4", "/again/list.csv", "/again//odd.mp4"])
def test_a_rerun_reads_no_object(bucket: Bucket, tmp_path: Path, place: str) -> None:
    """What was staged once has the size and time that it is listed with again: the ledger settles it by these."""
    bucket.put("again/a.mp4", "again/b.mp4", "again//odd.mp4")
    table = f"path,caption\na.mp4,one\n{bucket.uri('/again/b.mp4')},two\n"
    bucket.client.put_object(Bucket="videos", Key="again/list.csv", Body=table.encode())

    def listing() -> list[Source]:
        return [one for one in list_sources([bucket.uri(place)]) if isinstance(one, Source)]

    recorded = set()
    for one in listing():
        staged = stage(one, tmp_path)
        assert not isinstance(staged, Verdict)
        recorded.add(staged.raw.source)
    bucket.asked.clear()
    again = listing()
    assert again
    assert set(again) <= recorded
    assert bucket.asked["GET"] == 0
