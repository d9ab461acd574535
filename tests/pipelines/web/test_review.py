"""What people say on the page: forms that work without scripts, fragments with them, and all that is looked at."""

from __future__ import annotations

import re

from fastapi.testclient import TestClient

from curation.pyramid.review import changing
from curation.pyramid.review.words import Decision
from curation.pyramid.store import Pyramid
from curation.pyramid.tiering.tiers import Range
from pipelines.api.served import Served
from tests.pipelines.web.test_pages import CARD

HTMX = {"HX-Request": "true"}


def row(pyramid: Pyramid, clip: str) -> dict[str, object]:
    return pyramid.query().where(clip_id=clip).to_table().to_pylist()[0]


def pressed(text: str, clip: str) -> list[str]:
    """Which decisions of a clip are shown as taken."""
    return re.findall(rf'<button id="(\w+)-{clip}"[^>]*aria-pressed="true"', text)


def test_forms_without_scripts_lead_back_to_where_they_were_sent_from(client: TestClient, pyramid: Pyramid) -> None:
    clip = pyramid.query().ids()[0]
    came = {"Referer": "http://testserver/?tier=moving&order=-motion"}
    sent = client.post(f"/clips/{clip}/decision", data={"decision": "drop"}, headers=came, follow_redirects=False)
    assert (sent.status_code, sent.headers["location"]) == (303, "/?tier=moving&order=-motion")
    assert row(pyramid, clip)["decision"] == "drop" and row(pyramid, clip)["decision_by"] == "a test"
    page = client.get(f"/clips/{clip}").text
    assert pressed(page, clip) == ["drop"] and "dropped by a test" in page
    client.post(f"/clips/{clip}/tags", data={"tags": "sunset, day-1"}, headers=came)
    client.post(f"/clips/{clip}/tags", data={"tags": "-sunset"}, headers=came)
    page = client.get(f"/clips/{clip}").text
    assert '<a href="/?tagged=day-1">' in page and "/?tagged=sunset" not in page
    client.post(f"/clips/{clip}/decision", data={"decision": ""}, headers=came)
    assert pressed(client.get(f"/clips/{clip}").text, clip) == []
    away = client.post(
        f"/clips/{clip}/decision",
        data={"decision": "keep"},
        headers={"Referer": "http://testserver//evil.example/x"},
        follow_redirects=False,
    )
    assert away.headers["location"] == "/evil.example/x", "a path of ours, never another host"


def test_a_fragment_says_what_stands_and_whose_word_gave_way(client: TestClient, pyramid: Pyramid) -> None:
    clip = pyramid.query().ids()[0]
    changing.decide(pyramid, [clip], Decision.KEEP, "<b>anna</b>")
    sent = client.post(f"/clips/{clip}/decision", data={"decision": "drop"}, headers=HTMX)
    assert sent.status_code == 200 and "<html" not in sent.text and pressed(sent.text, clip) == ["drop"]
    told = re.search(r'<p id="said" hx-swap-oob="innerHTML">(.*)</p>', sent.text)
    assert told and "1 clips dropped by a test" in told[1] and "was kept by &lt;b&gt;anna&lt;/b&gt;" in told[1]
    assert 'name="tags"' not in sent.text, "a card of the grid has no field"
    assert 'name="tags"' in client.post(f"/clips/{clip}/tags", data={"tags": "x", "whole": "1"}, headers=HTMX).text
    assert 'role="status"' in client.get("/").text
    for path, form in (("decision", {"decision": "x"}), ("tags", {"tags": ""}), ("tags", {"tags": "a b"})):
        assert client.post(f"/clips/{clip}/{path}", data=form, headers=HTMX).status_code == 422
    assert client.post(f"/clips/{'f' * 32}/decision", data={"decision": "drop"}, headers=HTMX).status_code == 404


def test_all_that_is_looked_at_is_decided_on_and_nothing_else(client: TestClient, pyramid: Pyramid) -> None:
    values = sorted(one["motion"] for one in pyramid.query().to_table().to_pylist())
    look = f"tier=moving&motion={values[6]}.."
    wanted = pyramid.query().where(motion=Range(values[6])).ids()
    assert client.post(f"/review?{look}", data={"decision": "drop"}).status_code == 422, "nobody has ticked it"
    assert client.post("/review?text=fox", data={"decision": "drop", "all": "on"}).status_code == 422
    assert client.post("/review?motion=x", data={"decision": "drop", "all": "on"}).status_code == 422
    assert pyramid.query().where(decision="drop").count() == 0
    sent = client.post(f"/review?{look}", data={"decision": "drop", "all": "on"})
    assert (
        f"{len(wanted)} clips dropped by a test" in sent.text
        and f'href="/?tier=moving&amp;motion={values[6]}.."' in sent.text
    )
    assert sorted(pyramid.query().where(decision="drop").ids()) == sorted(wanted)
    assert CARD.findall(client.get(f"/?{look}").text) == []
    assert sorted(CARD.findall(client.get(f"/?{look}&decision=drop").text)) == sorted(wanted)
    assert "a person's word" in client.get("/?tier=moving").text
    client.post("/review?decision=drop", data={"tags": "bad, night", "all": "on"})
    assert sorted(CARD.findall(client.get("/?tagged=bad,-day").text)) == sorted(wanted)
    client.post("/review?decision=drop", data={"decision": "", "all": "on"})
    assert pyramid.query().where(decision="drop").count() == 0


def test_nobody_speaks_without_a_token_or_from_another_page(stranger: TestClient, served: Served) -> None:
    clip = served.pyramid().query().ids()[0]
    version = served.pyramid().dataset("clips").version
    for path in (f"/clips/{clip}/decision", f"/clips/{clip}/tags", "/review"):
        assert stranger.post(path, data={"decision": "drop", "tags": "x", "all": "on"}).status_code == 401
    stranger.get("/enter", params={"key": served.sessions.link()})
    evil = {"Origin": "http://evil.example"}
    for path in (f"/clips/{clip}/decision", f"/clips/{clip}/tags", "/review"):
        assert stranger.post(path, data={"decision": "drop", "all": "on"}, headers=evil).status_code == 403
    assert served.pyramid().dataset("clips").version == version
