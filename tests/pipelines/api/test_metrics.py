"""`GET /metrics`: what is told is so, a scrape is cheap and waits for nobody, and ids make no series."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from fastapi.testclient import TestClient
from prometheus_client.parser import text_string_to_metric_families

from curation.pyramid.history import runs as records
from curation.pyramid.history.runs import Run
from curation.pyramid.store import Pyramid
from pipelines.api import gauges, tokens
from pipelines.api.counting import Fresh
from pipelines.api.tokens import Scope

Key = tuple[str, frozenset[tuple[str, str]]]


def scraped(client: TestClient) -> dict[Key, float]:
    answer = client.get("/metrics")
    assert answer.status_code == 200 and answer.headers["content-type"].startswith("text/plain; version=")
    families = text_string_to_metric_families(answer.text)
    return {(one.name, frozenset(one.labels.items())): one.value for family in families for one in family.samples}


def key(name: str, **labels: str) -> Key:
    return f"ziggurat_{name}", frozenset(labels.items())


def at_work(pyramid: Pyramid, **changes: Any) -> Run:
    """The record of a run of this process, written."""
    now = records.utc()
    flow = {"in": 7, "out": 3, "rejected": {"too_short": 2}, "queue": 2, "seconds": 1.5, "bytes": 9, "workers": 2}
    run = Run(
        run="20260101-000000-abcdef",
        command=("ziggurat", "--log-format", "json", "curate", "secret-folder"),
        recipe="small",
        recipe_version=1,
        versions={},
        process=records.this_process(),
        started=now,
        beat=now,
        stage="measure",
        account={"inputs": 7, "reasons": {"too_short": 2}, "clip_hours": 0.5},
        stages={"measure": {**flow, "gpus": 0.25}},
    )
    run = replace(run, **changes)
    records.write(pyramid.files, run)
    return run


def test_it_tells_what_the_pyramid_holds(client: TestClient) -> None:
    outcomes, found = client.get("/api/outcomes").json(), scraped(client)
    assert outcomes["clips"] == 10 and found[key("clips")] == 10
    assert found[key("cut_clips")] == outcomes["cut"]
    for tier, count in outcomes["tiers"].items():
        assert found[key("tier_clips", tier=tier)] == count
    assert found[key("videos", status="done", reason="")] == 6
    (reason,) = outcomes["reasons"]
    (told,) = [value for name, value in found.items() if name[0] == "ziggurat_videos" and ("reason", reason) in name[1]]
    assert told == 1
    assert found[key("scores_missing", score="aesthetic")] == 10, "its filter is off"
    assert found[key("scores_missing", score="motion")] == client.get("/api/clips/count?motion=null").json()["clips"]
    age = datetime.now(UTC).timestamp() - found[key("last_commit_timestamp_seconds", dataset="clips")]
    assert 0 <= age < 3600


def test_requests_are_counted_by_route_and_status_whatever_becomes_of_them(client: TestClient) -> None:
    (clip,) = client.get("/api/clips?limit=1").json()["clips"]
    film = client.get(f"/api/clips/{clip['clip_id']}/video").content
    client.get(f"/api/clips/{clip['clip_id']}/video", headers={"Range": "bytes=0-9"})
    client.get(f"/clips/{clip['clip_id']}")
    client.get("/api/clips/no-such-clip")
    client.get("/api/clips?limit=0")
    client.get("/not/a/route")
    client.get("/nor/this")
    client.get("/health", headers={"Host": "evil.example"})
    client.get("/api/tiers", headers={"Authorization": "Bearer wrong"})
    client.request("BREW", "/api/tiers")
    found = scraped(client)

    def requests(route: str, status: int, method: str = "GET") -> float:
        return found[key("http_requests_total", method=method, route=route, status=str(status))]

    assert requests("/api/clips/{clip_id}/video", 200) == requests("/api/clips/{clip_id}/video", 206) == 1
    assert requests("/api/clips/{clip_id}", 404) == 1 and requests("/clips/{clip_id}", 200) == 1
    assert requests("/api/clips", 200) == requests("/api/clips", 422) == 1
    assert requests("(none)", 404) == 2 and requests("(none)", 421) == 1
    assert requests("/api/tiers", 401) == 1
    others = [name for name in found if ("method", "other") in name[1] and name[0].endswith("_total")]
    assert [found[name] for name in others] == [1], "a method of the client's making is a label"
    assert found[key("film_sent_bytes_total")] == len(film) + 10
    assert found[key("http_requests_in_flight")] == 1, "the scrape itself"
    assert found[key("http_request_seconds_count", route="/api/clips")] == 2
    assert not any(clip["clip_id"] in value for _, labels in found for _, value in labels), "an id made a series"


def test_what_no_route_expects_counts_by_the_status_that_it_is_answered_with(
    client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    for error, status in ((RuntimeError("ours"), 500), (OSError(28, "No space left on device"), 503)):

        def falls(*_: Any, error: Exception = error) -> None:
            raise error

        monkeypatch.setattr("pipelines.api.routes.runs.records.listed", falls)
        assert client.get("/api/runs").status_code == status
    monkeypatch.undo()
    found = scraped(client)
    for status in ("500", "503"):
        assert found[key("http_requests_total", method="GET", route="/api/runs", status=status)] == 1


def test_a_run_at_work_is_told_with_its_stages_and_one_of_yesterday_is_not(
    client: TestClient, pyramid: Pyramid
) -> None:
    run = at_work(pyramid)
    before = records.utc(datetime.now(UTC) - timedelta(days=1))
    at_work(pyramid, run="20251231-000000-abcdef", started=before, beat=before, ended=before, exit=0)
    gone = replace(records.this_process(), pid=2**22 + 1)
    killed = at_work(pyramid, run="20260101-000001-abcdef", process=gone)
    found = scraped(client)
    of_one, names = {"run": run.run, "stage": "measure"}, {"command": "curate", "stage": "measure"}
    assert found[key("runs_at_work", stage="measure")] == 1
    assert found[key("run_info", run=run.run, state="running", **names)] == 1
    assert found[key("run_info", run=killed.run, state="killed", **names)] == 1
    assert found[key("run_count", run=run.run, what="inputs", of="")] == 7
    assert found[key("run_count", run=run.run, what="reasons", of="too_short")] == 2
    assert found[key("stage_in_total", **of_one)] == 7 and found[key("stage_out_total", **of_one)] == 3
    assert found[key("stage_rejected_total", reason="too_short", **of_one)] == 2
    assert found[key("stage_queue", **of_one)] == 2 and found[key("stage_gpus", **of_one)] == 0.25
    assert not any("20251231" in value or "secret" in value for _, labels in found for _, value in labels)


def test_the_record_of_a_real_run_tells_what_went_through_each_stage(pyramid: Pyramid) -> None:
    (run,) = records.listed(pyramid.files)
    assert list(run.stages) == ["measure", "cut"]
    for flow in run.stages.values():
        assert flow["in"] == flow["out"] + sum(flow["rejected"].values()), flow
        assert flow["queue"] == flow["workers"] == 0 and flow["seconds"] > 0
    measured, cut = run.stages["measure"], run.stages["cut"]
    assert measured["in"] == 7 and measured["out"] == 6 and measured["rejected"] == run.account["reasons"]
    videos = pyramid.dataset("videos").to_table(columns=["bytes"])["bytes"]
    assert measured["bytes"] == sum(videos.to_pylist())
    assert (cut["in"], cut["out"], cut["bytes"]) == (10, 10, run.account["cut_bytes"])


def test_a_run_that_is_long_over_is_read_once(pyramid: Pyramid, monkeypatch: pytest.MonkeyPatch) -> None:
    before = records.utc(datetime.now(UTC) - timedelta(days=1))
    over = at_work(pyramid, started=before, beat=before, ended=before, exit=0)
    counting = gauges.Counting(lambda: pyramid)
    assert over.run in counting().past
    read: list[str] = []
    monkeypatch.setattr(records, "_read", lambda name, content: read.append(name))
    counting()
    assert f"runs/{over.run}.json" not in read


def test_a_thousand_scrapes_count_the_pyramid_once_in_thirty_seconds() -> None:
    now, calls = [100.0], []
    fresh = Fresh(lambda: calls.append(1) or len(calls), clock=lambda: now[0], wait_s=60)
    for _ in range(1000):
        found = fresh.get()
        assert found is not None and found.value == 1
    now[0] += 29.9
    fresh.get()
    assert len(calls) == 1
    now[0] += 0.2
    assert (found := fresh.get()) is not None and found.value == 2 == len(calls)


@pytest.fixture
def stuck() -> Iterator[tuple[threading.Event, threading.Event]]:
    """Let go, and begun."""
    events = threading.Event(), threading.Event()
    yield events
    events[0].set()


def test_a_scrape_waits_for_no_count_that_hangs(
    client: TestClient, monkeypatch: pytest.MonkeyPatch, stuck: tuple[threading.Event, threading.Event]
) -> None:
    let_go, begun = stuck
    held: Any = client.app.state.metrics.counted  # type: ignore[attr-defined]
    assert scraped(client)[key("clips")] == 10
    now = [held._begun]
    monkeypatch.setattr(held, "_clock", lambda: now[0])
    monkeypatch.setattr(held, "_wait_s", 0.0)

    def hangs() -> Any:
        begun.set()
        let_go.wait()
        raise OSError("the store is away")

    monkeypatch.setattr(held, "_find", hangs)
    now[0] += 31
    first = scraped(client)
    assert begun.wait(60)
    second = scraped(client)
    assert first[key("clips")] == second[key("clips")] == 10
    assert client.get("/api/tiers").status_code == 200
    let_go.set()
    assert held._ended.wait(60)
    third = scraped(client)
    assert third[key("count_failures_total")] == 1 and third[key("clips")] == 10
    assert third[key("counted_timestamp_seconds")] == first[key("counted_timestamp_seconds")]


@pytest.mark.parametrize(("scope", "status"), [(None, 401), (Scope.READ, 200), (Scope.WRITE, 403)])
def test_it_asks_for_a_token_that_may_read(
    stranger: TestClient, pyramid: Pyramid, scope: Scope | None, status: int
) -> None:
    headers = {} if scope is None else {"Authorization": f"Bearer {tokens.make(pyramid, 'p', [scope])[1]}"}
    assert stranger.get("/metrics", headers=headers).status_code == status
