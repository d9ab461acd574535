"""Decisions and tags over REST: in whose name, of which clips, with which scope; and what is said of what gave way."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from fastapi.testclient import TestClient

from curation.pyramid.store import Pyramid
from pipelines.api import tokens
from pipelines.api.problems import MEDIA_TYPE
from pipelines.api.tokens import Scope


def bearer(pyramid: Pyramid, name: str, *scopes: Scope) -> dict[str, str]:
    return {"Authorization": f"Bearer {tokens.make(pyramid, name, scopes)[1]}"}


def test_a_decision_is_in_the_token_s_name_and_tells_whose_it_replaced(stranger: TestClient, pyramid: Pyramid) -> None:
    both = (Scope.READ, Scope.WRITE)
    anna, ben = bearer(pyramid, "anna", *both), bearer(pyramid, "ben", *both)
    ids = pyramid.query().ids()
    first = stranger.post("/api/decisions", json={"decision": "drop", "clips": ids[:2]}, headers=anna).json()
    assert (first["said"], first["by"], first["changed"], first["replaced"]) == ("drop", "anna", 2, 0)
    then = stranger.post("/api/decisions", json={"decision": "keep", "clips": ids[1:3]}, headers=ben).json()
    assert (then["changed"], then["same"], then["replaced"], then["missing"]) == (2, 0, 1, [])
    (told,) = then["told"]
    assert (told["clip_id"], told["decision"], told["by"]) == (ids[1], "drop", "anna")
    row = stranger.get(f"/api/clips/{ids[1]}", headers=ben).json()["clip"]
    assert (row["decision"], row["decision_by"]) == ("keep", "ben")
    when = datetime.fromisoformat(row["decided_at"])
    assert when.utcoffset() == timedelta(0) and abs(datetime.now(UTC) - when) < timedelta(hours=1)
    kept = stranger.get("/api/clips", params={"decision": "keep", "columns": "clip_id"}, headers=ben).json()
    assert {one["clip_id"] for one in kept["clips"]} == {*ids[1:3]}
    back = stranger.post("/api/decisions", json={"decision": None, "clips": [ids[1]]}, headers=anna).json()
    assert (back["said"], back["changed"], back["told"][0]["by"]) == ("undecide", 1, "ben")


def test_all_of_a_query_are_tagged_and_found(client: TestClient, pyramid: Pyramid) -> None:
    moving = pyramid.tier("moving").where(motion=(1, None)).ids()
    assert 0 < len(moving) < pyramid.query().count()
    meant = {"where": {"motion": "1.."}, "tier": "moving"}
    done = client.post("/api/tags", json={"add": ["lively", "day_1"], **meant}).json()
    assert (done["said"], done["changed"]) == ("tag day_1, lively", len(moving))
    again = client.post("/api/tags", json={"add": ["lively"], **meant}).json()
    assert (again["changed"], again["same"]) == (0, len(moving))
    assert client.get("/api/clips/count", params={"tagged": "lively"}).json()["clips"] == len(moving)
    gone = client.post("/api/tags", json={"remove": ["lively"], "clips": moving[:1]}).json()
    assert gone["changed"] == 1
    assert client.get("/api/clips/count", params={"tagged": "day_1,-lively"}).json()["clips"] == 1
    row = client.get(f"/api/clips/{moving[0]}").json()["clip"]
    assert row["tagged"] == "day_1" and row["tagged_by"] == ["a test"] and len(row["tagged_at"]) == 1


def test_who_may_only_read_says_nothing(stranger: TestClient, pyramid: Pyramid) -> None:
    version, clip = pyramid.dataset("clips").version, pyramid.query().ids()[0]
    eve = bearer(pyramid, "eve", Scope.READ)
    bodies = {"/api/decisions": {"decision": "drop", "clips": [clip]}, "/api/tags": {"add": ["x"], "clips": [clip]}}
    for path, body in bodies.items():
        assert stranger.post(path, json=body).status_code == 401
        assert stranger.post(path, json=body, headers=eve).status_code == 403
    assert pyramid.dataset("clips").version == version


WRONG = [
    ("decisions", {"decision": "drop"}, "no clip is named"),
    ("decisions", {"decision": "drop", "clips": ["f" * 32]}, "no clip has an id"),
    ("decisions", {"decision": "drop", "clips": ["f" * 32], "tier": "moving"}, "by ids and by conditions"),
    ("decisions", {"decision": "perhaps", "tier": "moving"}, "decision"),
    ("decisions", {"tier": "moving"}, "decision"),
    ("decisions", {"decision": "keep", "tier": "none"}, "none"),
    ("decisions", {"decision": "keep", "where": {"moton": "1.."}}, "moton"),
    ("tags", {"tier": "moving"}, "no tag is named"),
    ("tags", {"tier": "moving", "add": ["a b"]}, "cannot be a tag"),
    ("tags", {"tier": "moving", "add": ["a"], "remove": ["a"]}, "both added and removed"),
    ("tags", {"tier": "moving", "add": ["a"], "by": "eve"}, "by"),
]


def test_what_is_wrong_is_told_and_nothing_is_written(client: TestClient, pyramid: Pyramid) -> None:
    version = pyramid.dataset("clips").version
    for path, body, word in WRONG:
        answer = client.post(f"/api/{path}", json=body)
        assert answer.status_code == 422 and answer.headers["content-type"] == MEDIA_TYPE, answer.text
        assert word in answer.text
    assert pyramid.dataset("clips").version == version
