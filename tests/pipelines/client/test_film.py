"""A film by ranges: a connection that breaks costs what was in the air, a call that was stopped is gone on with."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from curation.errors import UserError
from curation.pyramid.store import Pyramid
from pipelines.client.client import Client
from pipelines.client.errors import ServiceError, UnreachableError
from pipelines.client.transport import Retries
from tests.support import scripted
from tests.support.scripted import Said

FILM = bytes(range(256)) * 40
TAG = hashlib.sha256(FILM).hexdigest()


def part(start: int, stop: int = len(FILM), cut: int | None = None, content: bytes = FILM, tag: str = TAG) -> Said:
    headers = (("Content-Range", f"bytes {start}-{stop - 1}/{len(content)}"), ("ETag", f'"{tag}"'))
    return Said(206, content[start:stop], headers, cut)


HEAD = part(0, 1)


def client(url: str, times: int = 2) -> Client:
    return Client(url, "", retries=Retries(times, sleep=lambda seconds: None))


def ranges(server: scripted.Scripted) -> list[str]:
    return [headers["range"] for _, _, headers in server.asked]


def test_a_lost_connection_goes_on_where_it_broke(tmp_path: Path) -> None:
    with scripted.serving(HEAD, part(0, cut=3000), Said(cut=-1), part(3000, cut=4000), part(7000)) as server:
        assert client(server.url).film("one", tmp_path / "one.mp4") == tmp_path / "one.mp4"
    assert ranges(server) == ["bytes=0-0", "bytes=0-", "bytes=3000-", "bytes=3000-", "bytes=7000-"]
    assert (tmp_path / "one.mp4").read_bytes() == FILM and [one.name for one in tmp_path.iterdir()] == ["one.mp4"]
    with scripted.serving(HEAD, part(0, cut=3000), part(3000)) as server:
        assert client(server.url).film("one") == FILM


def test_a_call_that_was_stopped_is_gone_on_with(tmp_path: Path) -> None:
    with scripted.serving(HEAD, part(0, cut=3000), Said(cut=-1)) as server, pytest.raises(UnreachableError):
        client(server.url).film("one", tmp_path / "one.mp4")
    assert not (tmp_path / "one.mp4").exists(), "a film that is not whole has no name"
    with scripted.serving(HEAD, part(3000)) as server:
        client(server.url).film("one", tmp_path / "one.mp4")
    assert ranges(server) == ["bytes=0-0", "bytes=3000-"]
    assert (tmp_path / "one.mp4").read_bytes() == FILM


def test_other_bytes_than_the_pyramid_s_are_refused(tmp_path: Path) -> None:
    other = bytes(len(FILM))
    with scripted.serving(HEAD, part(0, content=other)) as server:
        with pytest.raises(ServiceError, match="not what the pyramid holds"):
            client(server.url).film("one", tmp_path / "one.mp4")
        assert list(tmp_path.iterdir()) == []
        with pytest.raises(ServiceError, match="not what the pyramid holds"):
            client(server.url).film("one")
    with (
        scripted.serving(HEAD, part(0, cut=3000), part(3000, tag="0" * 64)) as server,
        pytest.raises(ServiceError, match="another one now"),
    ):
        client(server.url).film("one")


@pytest.mark.parametrize("said", [Said(200, FILM), part(5), Said(206, FILM)], ids=("whole", "other part", "untold"))
def test_what_gives_no_ranges_is_told(said: Said) -> None:
    with scripted.serving(said) as server, pytest.raises(ServiceError, match="by ranges of bytes"):
        client(server.url).film("one")


def test_a_place_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    with scripted.serving(HEAD, part(0)) as server, pytest.raises(UserError, match="cannot write"):
        client(server.url).film("one", tmp_path / "none" / "one.mp4")


def test_a_film_of_a_service(client: Client, pyramid: Pyramid, tmp_path: Path) -> None:
    (name, *_), (uncut, *_) = (pyramid.query().where(video_id=one).ids() for one in ("video2", "v1"))
    ((_, content, _),) = pyramid.media([name])
    assert client.film(name) == content == client.film(name, tmp_path / "one.mp4").read_bytes()
    with pytest.raises(ServiceError, match="has no film"):
        client.film(uncut)
