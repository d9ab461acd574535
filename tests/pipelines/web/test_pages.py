"""Pages as the server draws them: what they show is what the pyramid holds, whatever stands in their address."""

from __future__ import annotations

import html
import re

import pyarrow as pa
import pytest
from fastapi.testclient import TestClient

from curation.contract import LIKENESS
from curation.pyramid.commits.commit import Batch, Committer
from curation.pyramid.storage.columns import add_scores
from curation.pyramid.store import Pyramid
from pipelines.api.guard import COOKIE, HEADERS
from pipelines.api.served import Served
from pipelines.web.state import State
from training.data import bucket_table

CARD = re.compile(r'<a class="picture" href="/clips/([0-9a-f]+)">')
MORE = re.compile(r'hx-get="(/grid[^"]*)"')


def scrolled(client: TestClient, path: str) -> list[str]:
    """The clips of a grid, scrolled to its end."""
    answer = client.get(path)
    assert answer.status_code == 200, answer.text
    found = CARD.findall(answer.text)
    more = MORE.search(answer.text)
    return found + (scrolled(client, html.unescape(more[1])) if more else [])


def test_the_grid_scrolls_through_all_clips_once(
    client: TestClient, pyramid: Pyramid, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipelines.web.pages.A_PAGE", 3)
    assert scrolled(client, "/") == pyramid.query().ids()
    assert scrolled(client, "/?order=-motion") == pyramid.query().order("motion", True).limit(99).ids()
    value = sorted(row["motion"] for row in pyramid.query().to_table().to_pylist())[4]
    wanted = pyramid.query().where(motion=(value, None)).ids()
    assert scrolled(client, f"/?motion={value}..") == wanted
    assert f"{len(wanted):,} clips" in client.get(f"/?motion={value}..").text


def test_tried_bounds_replace_those_of_the_tier_and_can_be_saved(client: TestClient, pyramid: Pyramid) -> None:
    values = sorted(row["motion"] for row in pyramid.query().to_table().to_pylist())
    before = pyramid.files.read("pyramid.json")
    assert len(scrolled(client, "/?tier=moving")) == pyramid.tier("moving").count()
    tried = f"tier=moving&motion={values[6]}.."
    assert len(scrolled(client, f"/?{tried}")) == len(values) - 6
    assert len(scrolled(client, "/?tier=moving&motion=0..")) == len(values), "looser than the tier, too"
    assert pyramid.files.read("pyramid.json") == before
    answer = client.post(f"/tiers/moving?{tried}", follow_redirects=False)
    assert answer.status_code == 303 and answer.headers["location"] == "/?tier=moving"
    assert pyramid.refreshed().tier("moving").count() == len(values) - 6
    assert client.post("/tiers/moving?tier=all&motion=1..").status_code == 422
    assert client.post("/tiers/moving?tier=moving").status_code == 422


def test_both_sides_of_a_bound(client: TestClient, pyramid: Pyramid) -> None:
    rows = sorted(pyramid.query().to_table().to_pylist(), key=lambda row: row["motion"])
    edge = rows[4]["motion"]
    for side, motion in (("low", f"{edge}.."), ("high", f"..{edge}")):
        text = client.get("/near", params={"motion": motion, "column": "motion", "side": side}).text
        below, above = (CARD.findall(part) for part in text.split("<section")[1:])
        at = 4 if side == "low" else 5
        assert below == [row["clip_id"] for row in reversed(rows[:at])]
        assert above == [row["clip_id"] for row in rows[at:]]
        kept, dropped = (above, below) if side == "low" else (below, above)
        assert rows[4]["clip_id"] in kept and rows[4]["clip_id"] not in dropped
    assert client.get("/near?column=motion&side=low").status_code == 404


def test_a_clip_s_page_has_its_scores_its_film_and_its_source(client: TestClient, pyramid: Pyramid) -> None:
    row = pyramid.query().whole().limit(1).to_table().to_pylist()[0]
    text = client.get(f"/clips/{row['clip_id']}").text
    assert f'src="/api/clips/{row["clip_id"]}/video"' in text and row["source"] in text
    assert f"{row['motion']:.4g}" in text and row["video_id"] in text and row["aesthetic_why"] in text
    frames = next(len(found) for _, found in pyramid.samples([row["clip_id"]]))
    assert text.count("/frames/") == frames
    assert client.get(f"/clips/{'f' * 32}").status_code == 404


def test_videos_that_were_not_taken_and_runs(client: TestClient) -> None:
    text = client.get("/videos?status=rejected").text
    assert "broken.mp4" in text and "not_media" in text and "1 videos" in text
    assert "broken.mp4" not in client.get("/videos?status=done").text
    assert client.get("/videos?status=lost").status_code == 422
    assert "curate" in client.get("/runs").text


def test_copies_stand_beside_the_better_ones(client: TestClient, pyramid: Pyramid) -> None:
    assert "ziggurat duplicates" in client.get("/copies").text
    add_scores(pyramid, [LIKENESS])
    opened = pyramid.having([LIKENESS])
    best, *others = opened.query().ids()
    rows = [
        {"clip_id": name, LIKENESS: 2.0 + at / 10, f"{LIKENESS}_by": "r", "duplicate_of": best if at < 3 else None}
        for at, name in enumerate(others)
    ]
    schema = pa.schema([opened.schema("clips").field(name) for name in rows[0]])
    Committer(opened).commit(Batch(clip_updates=[pa.Table.from_pylist(rows, schema=schema)]))
    text = client.get("/copies").text
    assert "3 clips are copies" in text
    assert CARD.findall(text) == [name for one in others[:3] for name in (one, best)]
    assert set(client.get(f"/api/clips/{best}").json()["copies"]) == set(others[:3])
    assert client.get(f"/api/clips/{others[0]}").json()["copies"][0] == best


def test_what_is_looked_at_is_frozen(client: TestClient, pyramid: Pyramid, monkeypatch: pytest.MonkeyPatch) -> None:
    table = bucket_table.from_toml("side_multiple = 32\n[buckets.128px]\n16 = { batch = 2 }\n")
    monkeypatch.setitem(bucket_table.PRESETS, "stage1", table)
    assert "nothing was frozen yet" in client.get("/manifests").text
    tried = client.post("/manifests?tier=moving&motion=1..", data={"name": "first"})
    assert tried.status_code == 422 and "not those of moving" in tried.text
    assert client.post("/manifests?tier=moving", data={"name": "../x"}).status_code == 422
    assert client.post("/manifests?tier=moving", data={"name": "first"}).status_code == 422, "no clip has a caption"
    done = client.post("/manifests?tier=moving", data={"name": "first", "bare": "on"}, follow_redirects=False)
    assert done.status_code == 303, done.text
    assert "first" in client.get("/manifests").text
    assert client.post("/manifests", content=b"a=" + b"b" * 20_000).status_code == 413


def test_the_link_leads_in_and_no_page_opens_without(stranger: TestClient, served: Served) -> None:
    for path in (
        "/",
        "/grid",
        "/near?column=motion&side=low",
        "/videos",
        "/runs",
        "/copies",
        "/manifests",
        f"/clips/{'f' * 32}",
    ):
        assert stranger.get(path).status_code == 401, path
    assert stranger.post("/tiers/moving?tier=moving&motion=1..").status_code == 401
    assert stranger.get("/enter?key=wrong").status_code == 403
    key = served.sessions.link()
    answer = stranger.get(f"/enter?key={key}", follow_redirects=False)
    assert answer.status_code == 303 and answer.headers["location"] == "/"
    cookie = answer.headers["set-cookie"].lower()
    assert "httponly" in cookie and "samesite=strict" in cookie and cookie.startswith(COOKIE)
    assert stranger.get("/").status_code == 200
    assert stranger.get(f"/enter?key={key}").status_code == 403, "the link is good once"
    evil = {"Origin": "http://evil.example"}
    assert stranger.post("/tiers/moving?tier=moving&motion=1..", headers=evil).status_code == 403


def test_assets_come_from_here_alone_and_run_no_text(client: TestClient) -> None:
    text = client.get("/").text
    for address in re.findall(r'(?:src|href)="([^"]+)"', text):
        assert address == "data:," or (address.startswith(("/", "#")) and not address.startswith("//")), address
    assert "<script>" not in text and " onclick" not in text and "style=" not in text
    for path in re.findall(r'"(/assets/[^"]+)"', text):
        assert client.get(path).status_code == 200, path
    assert client.get("/").headers["content-security-policy"] == HEADERS["Content-Security-Policy"]
    for path in ("/assets/../pages.py", "/assets/%2e%2e/pages.py", "/assets//etc/passwd"):
        assert client.get(path).status_code == 404


def test_hostile_addresses(client: TestClient) -> None:
    bad = ["<script>alert(1)</script>", '"><img src=x onerror=alert(1)>', "\x00", "5..1", "null", "ü" * 300]
    for name in ("tier", "order", "motion", "kind", "source", "width", "like", "text", "x", "<b>", '"onx='):
        for value in bad:
            answer = client.get("/", params={name: value})
            assert answer.status_code == 200, (name, value, answer.text[:300])
            assert "<script>alert" not in answer.text and "<img src=x" not in answer.text, (name, value)
            assert '"onx=' not in answer.text and "<b>" not in answer.text


def test_an_address_keeps_what_is_looked_at(pyramid: Pyramid) -> None:
    look = State.of(pyramid, [("tier", "moving"), ("motion", "1..8"), ("source", "a.mp4"), ("width", "5")])
    assert set(look.bounds) == {"motion"} and set(look.others) == {"source", "width"} and not look.wrong
    assert look.address("/near", column="motion") == "/near?tier=moving&motion=1..8&source=a.mp4&width=5&column=motion"
    assert look.address("/", tier=None, motion=None) == "/?source=a.mp4&width=5"
