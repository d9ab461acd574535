"""Films by ranges of bytes, posters and frames: the very bytes that the pyramid holds."""

from __future__ import annotations

import random

import pytest
from fastapi.testclient import TestClient
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from curation.pyramid.store import Pyramid


@pytest.fixture
def film(pyramid: Pyramid) -> tuple[str, bytes]:
    return next((name, content) for name, content, _ in pyramid.media(pyramid.query().having("media").ids()[:1]))


def test_a_film_comes_whole_and_in_parts(client: TestClient, film: tuple[str, bytes]) -> None:
    name, content = film
    path, size = f"/api/clips/{name}/video", len(film[1])
    whole = client.get(path)
    assert whole.status_code == 200 and whole.content == content
    assert whole.headers["content-type"] == "video/mp4" and whole.headers["accept-ranges"] == "bytes"
    assert int(whole.headers["content-length"]) == size
    for start, stop in ((0, size), (0, 1), (size - 1, size), (5, 700)):
        part = client.get(path, headers={"Range": f"bytes={start}-{stop - 1}"})
        assert part.status_code == 206 and part.content == content[start:stop]
        assert part.headers["content-range"] == f"bytes {start}-{stop - 1}/{size}"
    assert client.get(path, headers={"Range": "bytes=0-"}).status_code == 206, "what browsers ask to learn of ranges"
    assert client.get(path, headers={"Range": "bytes=-10"}).content == content[-10:]
    assert client.get(path, headers={"Range": f"bytes=10-{10 * size}"}).content == content[10:]


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.integers(0, 200_000), st.integers(0, 200_000) | st.none())
@example(0, 0)
def test_any_range_is_those_bytes_or_none(
    client: TestClient, film: tuple[str, bytes], start: int, last: int | None
) -> None:
    name, content = film
    asked = f"bytes={start}-{'' if last is None else last}"
    answer = client.get(f"/api/clips/{name}/video", headers={"Range": asked})
    if last is not None and last < start:
        assert answer.status_code == 200 and answer.content == content, "no range at all"
    elif start >= len(content):
        assert answer.status_code == 416 and answer.headers["content-range"] == f"bytes */{len(content)}"
    else:
        assert answer.status_code == 206 and answer.content == content[start : None if last is None else last + 1]


@pytest.mark.parametrize(
    "asked", ["bytes=", "bytes=-", "bytes=a-b", "lines=0-5", "bytes=0-5,7-9", "bytes=-0", "bytes=" + "9" * 30 + "-"]
)
def test_what_is_no_range_gives_all_or_says_so(client: TestClient, film: tuple[str, bytes], asked: str) -> None:
    answer = client.get(f"/api/clips/{film[0]}/video", headers={"Range": asked})
    assert (answer.status_code, answer.content) in [(200, film[1]), (416, b"")]


def test_what_a_client_has_is_not_sent_again(client: TestClient, film: tuple[str, bytes]) -> None:
    for path in ("video", "poster", "frames/0"):
        address = f"/api/clips/{film[0]}/{path}"
        tag = client.get(address).headers["etag"]
        assert client.get(address, headers={"If-None-Match": tag}).status_code == 304
        assert client.get(address, headers={"If-None-Match": '"other"'}).status_code == 200
    changed = {"Range": "bytes=0-9", "If-Range": '"other"'}
    assert client.get(f"/api/clips/{film[0]}/video", headers=changed).status_code == 200


def test_posters_and_frames_are_the_sample_frames(client: TestClient, pyramid: Pyramid) -> None:
    ids = random.Random(1).sample(pyramid.query().ids(), 3)
    for name, frames in pyramid.samples(ids):
        assert client.get(f"/api/clips/{name}/poster").content == frames[len(frames) // 2]
        assert [client.get(f"/api/clips/{name}/frames/{at}").content for at in range(len(frames))] == frames
        assert client.get(f"/api/clips/{name}/frames/{len(frames)}").status_code == 404
        assert client.get(f"/api/clips/{name}/frames/-1").status_code == 404


def test_a_clip_that_is_not_cut_has_no_film(client: TestClient, pyramid: Pyramid) -> None:
    name = pyramid.query().ids()[0]
    pyramid.dataset("media").delete(f"clip_id = '{name}'")
    answer = client.get(f"/api/clips/{name}/video")
    assert answer.status_code == 404 and "ziggurat cut" in answer.json()["remedy"]
    for path in ("video", "poster", "frames/0"):
        assert client.get(f"/api/clips/{'f' * 32}/{path}").status_code == 404
