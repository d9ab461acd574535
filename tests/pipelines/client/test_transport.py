"""Where a token goes and where it does not; what is asked again and what is not; what is wrong is one line."""

from __future__ import annotations

import json
import logging
import traceback

import pytest

from curation.errors import UserError
from pipelines.client.address import address
from pipelines.client.client import Client
from pipelines.client.errors import ServiceError, UnreachableError
from pipelines.client.transport import Retries
from tests.support import scripted
from tests.support.scripted import Said

TOKEN = "zt-the-secret-of-a-test"
COLUMNS = Said(body=json.dumps({"scores": ["motion"], "numbers": [], "texts": []}).encode())
BUSY = Said(503, b"{}", (("Retry-After", "7"),))
LOST = Said(cut=-1)
HALF = Said(body=COLUMNS.body, cut=5)
MOVED = Said(body=b'{"pyramid": "p", "tiers": [], "moved": [], "changed": 0, "waiting": {}, "notes": []}')


def client(url: str, slept: list[float] | None = None, times: int = 3) -> Client:
    return Client(url, TOKEN, retries=Retries(times, sleep=([] if slept is None else slept).append))


@pytest.mark.parametrize("first", [(BUSY,), (LOST,), (HALF,), (LOST, BUSY, HALF)], ids=len)
def test_what_only_reads_is_asked_again(first: tuple[Said, ...]) -> None:
    slept: list[float] = []
    with scripted.serving(*first, COLUMNS) as server:
        assert client(server.url, slept).columns().scores == ("motion",)
        assert len(server.asked) == len(first) + 1 == len(slept) + 1


def test_it_waits_as_long_as_the_service_says_else_longer_each_time() -> None:
    slept: list[float] = []
    with scripted.serving(BUSY, LOST, LOST, COLUMNS) as server:
        client(server.url, slept).columns()
    said, second, third = slept
    assert said == 7.0 and 0.75 <= second <= 1.0 and 1.5 <= third <= 2.0
    assert Retries(most_s=3.0).wait_s(0, "86400") == 3.0 == Retries(most_s=3.0).wait_s(0, "3")


@pytest.mark.parametrize(("last", "kind"), [(BUSY, ServiceError), (LOST, UnreachableError)])
def test_it_gives_up(last: Said, kind: type[UserError]) -> None:
    slept: list[float] = []
    with scripted.serving(last) as server, pytest.raises(kind):
        client(server.url, slept).columns()
    assert len(server.asked) == 4 and len(slept) == 3


@pytest.mark.parametrize("last", [BUSY, LOST, HALF])
def test_what_writes_is_asked_once(last: Said) -> None:
    with scripted.serving(last, MOVED) as server, pytest.raises(UserError):
        client(server.url).move("low", {"motion": (1, None)})
    assert len(server.asked) == 1
    with scripted.serving(last, MOVED) as server, pytest.raises(UserError) as told:
        client(server.url).freeze("first")
    assert len(server.asked) == 1
    assert ("whether it was done is not known" in str(told.value)) == (last is not BUSY)


def test_where_nothing_listens_nothing_was_done() -> None:
    with pytest.raises(UnreachableError, match="no service answers") as told:
        client("http://127.0.0.1:9").move("low", {"motion": (1, None)})
    assert "not known" not in str(told.value)


def test_a_question_that_is_posted_is_asked_again() -> None:
    with scripted.serving(LOST, MOVED) as server:
        assert client(server.url).tried({"low": {"motion": (1, None)}}) == ()
    assert [method for method, *_ in server.asked] == ["POST", "POST"]


@pytest.mark.parametrize("status", [301, 302, 307, 308])
def test_a_token_is_not_sent_on(status: int) -> None:
    with scripted.serving(COLUMNS) as stranger:
        said = Said(status, b"", (("Location", f"{stranger.url}/api/columns"),))
        with scripted.serving(said) as server, pytest.raises(ServiceError, match="elsewhere") as told:
            client(server.url).columns()
        assert stranger.asked == [] and server.asked[0][2]["authorization"] == f"Bearer {TOKEN}"
    assert stranger.url in str(told.value) and TOKEN not in str(told.value)


def test_no_proxy_sees_a_token_in_plain(monkeypatch: pytest.MonkeyPatch) -> None:
    with scripted.serving(COLUMNS) as proxy, scripted.serving(COLUMNS) as server:
        for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
            monkeypatch.setenv(name, proxy.url)
        for name in ("no_proxy", "NO_PROXY"):
            monkeypatch.delenv(name, raising=False)
        client(server.url).columns()
    assert proxy.asked == [] and len(server.asked) == 1


def test_no_text_shows_a_token(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    with scripted.serving(LOST, BUSY, COLUMNS, Said(500, b"{}")) as server:
        ours = client(server.url)
        ours.columns()
        with pytest.raises(ServiceError) as told:
            ours.columns()
    shown = repr(ours) + repr(ours._at.address) + repr(told.value) + "".join(traceback.format_exception(told.value))
    assert caplog.text and TOKEN not in caplog.text and TOKEN not in shown and server.url in shown


def test_the_token_is_the_environment_s_unless_one_is_given(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ZIGGURAT_TOKEN", "of-the-environment\n")
    assert address("http://127.0.0.1:1").token == "of-the-environment"
    assert address("http://127.0.0.1:1", TOKEN).token == TOKEN
    assert address("http://127.0.0.1:1", "").token is None


@pytest.mark.parametrize(
    "url", ["http://127.0.0.1:8470", "http://localhost:1/", "http://[::1]:8470", "https://films.example/under/"]
)
def test_an_address_that_may_have_a_token(url: str) -> None:
    assert address(url, TOKEN).url == url.rstrip("/")


@pytest.mark.parametrize(
    ("url", "token", "why"),
    [
        ("http://films.example", TOKEN, "for everybody to read"),
        ("http://10.0.0.7:8470", TOKEN, "for everybody to read"),
        ("http://localhost.films.example", TOKEN, "for everybody to read"),
        ("https://me:secret@films.example", TOKEN, "no password in it"),
        ("ftp://films.example", TOKEN, "no address"),
        ("https://", TOKEN, "no address"),
        ("http://[::1", TOKEN, "no address"),
        ("https://films example", TOKEN, "no address"),
        ("https://films..example", TOKEN, "no address"),
        ("https://films.example:99999", TOKEN, "no address"),
        ("https://films.example?token=secret", "", "no address"),
        ("https://films.example", "two\nlines", "no token has"),
        ("https://films.example", "zürich", "no token has"),
    ],
)
def test_an_address_that_is_refused(url: str, token: str, why: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ZIGGURAT_PLAIN_HTTP", raising=False)
    with pytest.raises(UserError, match=why) as told:
        Client(url, token)
    assert "me:secret" not in str(told.value) and TOKEN not in str(told.value) and "two\n" not in str(told.value)


def test_plain_http_where_a_person_says_so_or_without_a_token(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ZIGGURAT_TOKEN", raising=False)
    assert address("http://films.example").token is None
    assert address("http://films.example", TOKEN, plain_http=True).token == TOKEN
    monkeypatch.setenv("ZIGGURAT_PLAIN_HTTP", "1")
    assert address("http://films.example", TOKEN).token == TOKEN
    with pytest.raises(UserError):
        address("http://films.example", TOKEN, plain_http=False)


@pytest.mark.parametrize(
    ("said", "status", "field", "told"),
    [
        (
            Said(422, b'{"detail": "no  range\\nat all", "remedy": "write one", "field": "motion"}'),
            422,
            "motion",
            "no range",
        ),
        (Said(401, b"{}"), 401, None, "ZIGGURAT_TOKEN"),
        (Said(403, b'{"detail": "this token is not good for write"}'), 403, None, "not good for write"),
        (Said(500, b"<html>\x1b[31m</html>"), 500, None, "answers 500 (Internal Server Error)"),
        (Said(404, b"[1]"), 404, None, "answers 404"),
        (Said(200, b"<html>"), 200, None, "no service of a pyramid"),
        (Said(200, b"[]"), 200, None, "no service of a pyramid"),
        (Said(200, b'{"scores": 7}'), 200, None, "is not understood (Columns.scores"),
    ],
)
def test_a_refusal_is_one_line(said: Said, status: int, field: str | None, told: str) -> None:
    with scripted.serving(said) as server, pytest.raises(ServiceError) as error:
        client(server.url).columns()
    assert (error.value.status, error.value.field) == (status, field)
    assert told in str(error.value) and str(error.value).isprintable() and error.value.remedy
