"""Clips over REST: the command line's query language, pages, one clip, and problems that name the field."""

from __future__ import annotations

import json
from typing import Any

import pytest
from fastapi.testclient import TestClient

from curation.pyramid.store import Pyramid
from pipelines.api.problems import MEDIA_TYPE
from pipelines.commands.pyramid.query import Request, query
from pipelines.commands.pyramid.why import why
from tests.support import without_ray


def pages(client: TestClient, **asked: Any) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    after: dict[str, str] = {}
    while True:
        answer = client.get("/api/clips", params={**asked, **after})
        assert answer.status_code == 200, answer.text
        found += answer.json()["clips"]
        if answer.json()["next"] is None:
            return found
        after = {"after": answer.json()["next"]}


@pytest.mark.parametrize(
    ("asked", "typed", "order"),
    [
        ({}, (), None),
        ({"motion": "0.5.."}, ("--motion", "0.5.."), None),
        ({"motion": "..2", "width": "1..", "kind": "video"}, ("--motion=..2", "--width=1..", "--kind=video"), None),
        ({"order": "-motion"}, (), "-motion"),
        ({"order": "duration_s", "fps": "1..100"}, ("--fps", "1..100"), "duration_s"),
        ({"aesthetic": "null"}, ("--aesthetic", "null"), None),
        ({"source": "0.mp4"}, ("--source", "0.mp4"), None),
    ],
)
def test_a_query_over_rest_is_the_one_of_the_command_line(
    client: TestClient, pyramid: Pyramid, asked: dict[str, str], typed: tuple[str, ...], order: str | None
) -> None:
    batches = query(Request(pyramid.uri, typed, order=order, limit=1000)).query.batches()
    told = [row for batch in batches for row in batch.to_pylist()]
    found = pages(client, limit=3, **asked)
    assert [row["clip_id"] for row in found] == [row["clip_id"] for row in told]
    assert [list(row) for row in found] == [list(row) for row in told], "the same columns in the same order"
    number = client.get("/api/clips/count", params={name: one for name, one in asked.items() if name != "order"})
    if order is None:
        assert number.json()["clips"] == len(told)
    assert client.get("/api/clips", params={**asked, "total": "true", "limit": 1}).json()["total"] == len(told)


def test_a_tier_and_columns(client: TestClient, pyramid: Pyramid) -> None:
    found = pages(client, tier="moving", columns="clip_id,motion,uri", order="-motion")
    assert [row["clip_id"] for row in found] == pyramid.tier("moving").order("motion", True).limit(100).ids()
    assert all(list(row) == ["clip_id", "motion", "uri"] for row in found)


def test_one_clip_with_its_video(client: TestClient, pyramid: Pyramid) -> None:
    row = pyramid.query().whole().limit(1).to_table().to_pylist()[0]
    found = client.get(f"/api/clips/{row['clip_id']}").json()
    assert found["clip"]["clip_id"] == row["clip_id"] and found["clip"]["motion"] == pytest.approx(row["motion"])
    assert found["video"]["video_id"] == row["video_id"] and found["video"]["status"] == "done"
    assert found["captions"] == [] and found["copies"] == []
    whole = client.get(f"/api/videos/{row['video_id']}").json()
    assert row["clip_id"] in [clip["clip_id"] for clip in whole["clips"]] and not whole["more"]
    (line,) = why(pyramid.uri, row["clip_id"]).clips
    assert {name: line[name] for name in ("sharpness", "start_frame", "media")} == {
        name: found["clip"][name] for name in ("sharpness", "start_frame", "media")
    }


def test_videos_by_what_became_of_them(client: TestClient, pyramid: Pyramid) -> None:
    everything = client.get("/api/videos").json()
    assert everything["total"] == 7 == len(everything["videos"]) and everything["next"] is None
    lost = client.get("/api/videos", params={"status": "rejected"}).json()
    assert [row["reason"] for row in lost["videos"]] == ["not_media"] and lost["total"] == 1
    found: list[str] = []
    after: dict[str, str] = {}
    while True:
        some = client.get("/api/videos", params={"limit": 2, **after}).json()
        found += [row["video_id"] for row in some["videos"]]
        if some["next"] is None:
            break
        after = {"after": some["next"]}
    assert found == [row["video_id"] for row in everything["videos"]] and len(set(found)) == 7
    outcomes = client.get("/api/outcomes").json()
    assert outcomes["videos"] == {"done": 6, "rejected": 1} and outcomes["reasons"] == {"not_media": 1}
    assert outcomes["clips"] == outcomes["tiers"]["all"] == pyramid.query().count()


@pytest.mark.parametrize(
    ("path", "status", "field"),
    [
        ("/api/clips?motion=fast", 422, "motion"),
        ("/api/clips?width=1..2&moton=1..2", 422, "moton"),
        ("/api/clips?motion=1..2&motion=2..3", 422, None),
        ("/api/clips?tier=none", 422, "tier"),
        ("/api/clips?limit=0", 422, "limit"),
        ("/api/clips?limit=100000", 422, "limit"),
        ("/api/clips?after=x", 422, None),
        ("/api/clips?order=nothing", 422, None),
        ("/api/clips?columns=nothing", 422, None),
        ("/api/clips?--motion=1..2", 422, "--motion"),
        ("/api/clips?%00=1", 422, None),
        ("/api/clips?caption_by=nobody", 422, None),
        ("/api/clips/..%2f..%2fetc", 404, None),
        ("/api/clips/ffffffffffffffffffffffffffffffff", 404, None),
        ("/api/videos/ffff", 404, None),
        ("/api/videos?status=lost", 422, "status"),
        ("/api/histogram?column=caption", 422, None),
        ("/api/histogram", 422, "column"),
        ("/api/runs/none", 404, None),
        ("/api/manifests/none", 422, None),
        ("/api/search", 422, None),
        ("/api/search?text=fox&space=none", 422, None),
        ("/api/nothing", 404, None),
    ],
)
def test_what_is_wrong_is_a_problem_of_one_line(client: TestClient, path: str, status: int, field: str | None) -> None:
    answer = client.get(path)
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == MEDIA_TYPE
    told = answer.json()
    assert told["status"] == status and told["detail"] and "\n" not in told["detail"] and "Traceback" not in answer.text
    if field is not None:
        assert told["field"] == field


def test_a_fault_inside_says_nothing_of_the_inside(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("the secret of /etc/passwd")

    monkeypatch.setattr("pipelines.api.routes.videos.census", broken)
    answer = client.get("/api/outcomes")
    assert answer.status_code == 500 and answer.headers["content-type"] == MEDIA_TYPE
    assert "secret" not in answer.text and "RuntimeError" not in answer.text


def test_a_store_that_does_not_answer_is_503(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise OSError("LanceError(IO): Generic S3 error: error sending request")

    monkeypatch.setattr("pipelines.api.routes.videos.census", broken)
    answer = client.get("/api/outcomes")
    assert answer.status_code == 503 and answer.headers["retry-after"] and answer.json()["remedy"]


def test_a_histogram_counts_every_clip_once(client: TestClient, pyramid: Pyramid) -> None:
    for column in ("motion", "sharpness", "duration_s", "pixels", "aesthetic", "fps"):
        for bins in (1, 7, 60):
            found = client.get("/api/histogram", params={"column": column, "bins": bins}).json()
            total = sum(found["counts"]) + found["below"] + found["above"] + found["null"]
            assert total == pyramid.query().count(), column
            assert len(found["counts"]) == bins == len(found["edges"]) - 1
    edges = client.get("/api/histogram", params={"column": "motion"}).json()["edges"]
    some = client.get("/api/histogram", params={"column": "motion", "motion": "1.."}).json()
    assert some["edges"] == edges, "edges stay where they are while conditions move"
    assert sum(some["counts"]) + some["below"] + some["above"] == pyramid.query().where(motion=(1, None)).count()


def test_columns_runs_and_stats(client: TestClient, pyramid: Pyramid) -> None:
    assert client.get("/api/columns").json()["scores"] == list(pyramid.scores)
    (run,) = client.get("/api/runs").json()["runs"]
    assert run["state"] == "done" and client.get(f"/api/runs/{run['run']}").json() == run
    told = without_ray.run("stats", pyramid.uri, "--tier", "moving", "--json")
    found = client.get("/api/stats", params={"tier": "moving"}).json()
    assert json.loads(json.dumps(told.events[-1])) == found
