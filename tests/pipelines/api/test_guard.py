"""P15: who is let in. Every route but two needs a token, of the right scope, from a place that may ask."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from fastapi.testclient import TestClient
from starlette.routing import Route

from curation.errors import UserError
from curation.pyramid.store import Pyramid
from pipelines.api import served as serving
from pipelines.api import tokens
from pipelines.api.app import create, described
from pipelines.api.guard import COOKIE, HEADERS
from pipelines.api.problems import MEDIA_TYPE
from pipelines.api.served import Served, Settings
from pipelines.api.tokens import Scope

OPEN = {"/health", "/ready"}
_WRITING = (("PUT", "/api/tiers/{name}"), ("POST", "/api/manifests"), ("POST", "/api/decisions"), ("POST", "/api/tags"))
CHANGING = dict.fromkeys(_WRITING, Scope.WRITE)
"""Routes that ask for more than reading."""
WORKING = ("/api/jobs", "/api/exports")
"""What such routes begin with asks for `submit` alone."""


def routes(served: Served) -> list[tuple[str, str]]:
    """All that the service answers, by what it says of itself; and what it does not say."""
    app = create(served)
    said = described(app)["paths"]
    assert len(said) > 15
    others = [route.path for route in app.routes if isinstance(route, Route)]
    assert others == ["/api/openapi.json"], "a route that nobody guards"
    return [(method.upper(), path) for path, some in said.items() for method in some] + [("GET", one) for one in others]


def carrying(cookie: str) -> dict[str, str]:
    return {"Cookie": f"{COOKIE}={cookie}"}


def bearer(text: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {text}"}


def test_no_route_but_health_answers_without_a_token(stranger: TestClient, served: Served) -> None:
    for method, path in routes(served):
        for headers in ({}, bearer("zig_" + "x" * 43), bearer(""), {"Authorization": "Basic YTpi"}, bearer("ä")):
            raw = {name: value.encode("utf-8") for name, value in headers.items()}
            answer = stranger.request(method, path.replace("{", "").replace("}", ""), headers=raw)  # type: ignore[arg-type]
            if path in OPEN:
                assert answer.status_code == 200, path
                continue
            assert answer.status_code == 401, (method, path, headers)
            assert answer.headers["content-type"] == MEDIA_TYPE and answer.headers["www-authenticate"] == "Bearer"
            assert set(answer.json()) == {"type", "title", "status", "detail", "remedy", "field", "instance"}
    assert stranger.get("/api/openapi.json").status_code == 401


@pytest.mark.parametrize("scope", Scope)
def test_a_token_is_good_for_its_scope_alone(
    stranger: TestClient, pyramid: Pyramid, served: Served, scope: Scope
) -> None:
    _, text = tokens.make(pyramid, "one scope", [scope])
    for method, path in routes(served):
        if path in OPEN:
            continue
        wanted = CHANGING.get((method, path), Scope.READ)
        both = {wanted, Scope.READ}  # what changes something also has to be read
        both = {Scope.SUBMIT} if path.startswith(WORKING) else both
        answer = stranger.request(method, path.replace("{", "").replace("}", ""), headers=bearer(text))
        let_in = answer.status_code not in (401, 403)
        assert let_in == (scope is Scope.ADMIN or both == {scope}), (method, path, answer.status_code)
        if not let_in:
            assert answer.status_code == 403 and answer.json()["title"] == "Forbidden"


def test_a_token_is_kept_as_a_hash_ends_and_can_be_revoked(
    stranger: TestClient, pyramid: Pyramid, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(serving, "FRESH_S", -1.0)
    made, text = tokens.make(pyramid, "someone", [Scope.READ], datetime.now(UTC) + timedelta(days=1))
    content = (pyramid.files.read(tokens.FILE) or b"").decode()
    assert text not in content and text.removeprefix(tokens.PREFIX) not in content and made.sha256 in content
    assert stranger.get("/api/tiers", headers=bearer(text)).status_code == 200
    assert tokens.known([made], text, datetime.now(UTC) + timedelta(days=2)) is None
    other, other_text = tokens.make(pyramid, "another", [Scope.READ])
    tokens.revoke(pyramid, made.id)
    assert stranger.get("/api/tiers", headers=bearer(text)).status_code == 401
    assert stranger.get("/api/tiers", headers=bearer(other_text)).status_code == 200
    assert [one.id for one in tokens.listed(pyramid)] == [other.id]
    with pytest.raises(UserError, match="there is no token"):
        tokens.revoke(pyramid, made.id)


def test_a_damaged_file_of_tokens_lets_nobody_in(
    stranger: TestClient, pyramid: Pyramid, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(serving, "FRESH_S", -1.0)
    _, text = tokens.make(pyramid, "someone", [Scope.READ])
    for content in (b"", b"{}", b"[{}]", (pyramid.files.read(tokens.FILE) or b"")[:-20]):
        pyramid.files.write(tokens.FILE, content)
        answer = stranger.get("/api/tiers", headers=bearer(text))
        assert answer.status_code == 422 and "damaged" in answer.json()["detail"], content


@pytest.mark.parametrize(("name", "scopes"), [("", "read"), ("a\nb", "read"), ("x" * 81, "read"), ("a", "reed")])
def test_what_makes_no_token_is_one_line(pyramid: Pyramid, name: str, scopes: str) -> None:
    with pytest.raises(UserError) as told:
        tokens.make(pyramid, name, tokens.scopes(scopes))
    assert "\n" not in str(told.value)
    assert tokens.listed(pyramid) == ()


def test_the_link_opens_one_session_once(stranger: TestClient, served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    key = served.sessions.link()
    cookie = served.sessions.enter(key)
    assert cookie is not None and served.sessions.enter(key) is None
    assert stranger.get("/api/tiers", headers=carrying(cookie)).status_code == 200
    assert stranger.get("/api/tiers", headers=carrying(cookie + "x")).status_code == 401
    late = served.sessions.link()
    monkeypatch.setattr(serving.time, "monotonic", lambda: 1e9)
    assert served.sessions.enter(late) is None
    assert stranger.get("/api/tiers", headers=carrying(cookie)).status_code == 401, "a session ends"


@pytest.mark.parametrize(
    ("headers", "let_in"),
    [
        ({"Origin": "http://testserver"}, True),
        ({"Sec-Fetch-Site": "same-origin"}, True),
        ({"Origin": "http://evil.example"}, False),
        ({"Origin": "null"}, False),
        ({"Origin": "http://testserver.evil.example"}, False),
        ({"Sec-Fetch-Site": "cross-site"}, False),
        ({"Sec-Fetch-Site": "same-site"}, False),
        ({}, False),
    ],
)
def test_a_cookie_changes_nothing_at_the_wish_of_another_page(
    stranger: TestClient, served: Served, headers: dict[str, str], let_in: bool
) -> None:
    cookie = served.sessions.enter(served.sessions.link())
    assert cookie is not None
    before = served.pyramid().tiers
    answer = stranger.put("/api/tiers/moving", json={"motion": [0.3, None]}, headers={**headers, **carrying(cookie)})
    assert answer.status_code == (200 if let_in else 403), answer.text
    assert (served.pyramid().tiers != before) == let_in


@pytest.mark.parametrize("host", ["evil.example", "evil.example:8470", "localhost.evil.example", "", "[::"])
def test_a_service_on_loopback_answers_to_its_own_names_alone(client: TestClient, host: str) -> None:
    answer = client.get("/health", headers={"Host": host})
    assert answer.status_code in (400, 421), answer.status_code


def test_a_body_that_is_too_large_is_not_read(client: TestClient) -> None:
    large = client.post("/api/tiers/preview", content=b"x" * (2 << 20))
    assert large.status_code == 413 and large.headers["content-type"] == MEDIA_TYPE
    lying = client.post("/api/search/image", content=b"x", headers={"Content-Length": str(1 << 40)})
    assert lying.status_code == 413
    without = client.post("/api/tiers/preview", content=(b"x" for _ in range(3)))
    assert without.status_code == 411
    picture = client.post("/api/search/image", content=bytes(2 << 20))
    assert picture.status_code == 422, "a picture may be larger"


def test_every_answer_keeps_other_pages_out(client: TestClient) -> None:
    for path in ("/health", "/api/tiers", "/api/nothing", "/api/clips?motion=x"):
        found = client.get(path).headers
        assert {name: found[name] for name in HEADERS} == HEADERS
    assert "access-control-allow-origin" not in client.get("/api/tiers", headers={"Origin": "http://a.example"}).headers


def test_without_tokens_everybody_may_but_no_other_page(pyramid: Pyramid) -> None:
    app = create(Served(pyramid, Settings(asks=False, hosts=("testserver",))))
    with TestClient(app) as client:
        assert client.get("/api/tiers").status_code == 200
        body = {"motion": [0.3, None]}
        assert client.put("/api/tiers/moving", json=body, headers={"Origin": "http://evil.example"}).status_code == 403
        assert client.put("/api/tiers/moving", json=body, headers={"Origin": "http://testserver"}).status_code == 200
        wrong = bearer("zig_wrong")
        assert client.get("/api/tiers", headers=wrong).status_code == 401, "who sends a token is judged by it"
