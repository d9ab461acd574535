"""Tiers over REST: tried thresholds change nothing, a move is the command's move."""

from __future__ import annotations

from typing import Any

import pytest
from fastapi.testclient import TestClient

from curation.pyramid.store import Pyramid
from curation.pyramid.tiering.retention import tier_report
from curation.pyramid.tiering.tiers import Range
from pipelines.commands.pyramid.tiers import plain
from training.data import bucket_table

TABLE = "side_multiple = 32\n[buckets.128px]\n16 = { batch = 2 }\n"


def files(pyramid: Pyramid) -> dict[str, Any]:
    return {name: pyramid.dataset(name).version for name in pyramid.names} | {
        "about": pyramid.files.read("pyramid.json")
    }


def test_the_table_is_the_command_s(client: TestClient, pyramid: Pyramid) -> None:
    assert client.get("/api/tiers").json()["tiers"] == plain(list(tier_report(pyramid)))


def test_tried_thresholds_give_what_a_move_would_and_write_nothing(client: TestClient, pyramid: Pyramid) -> None:
    before = files(pyramid)
    values = sorted(row["motion"] for row in pyramid.query().to_table().to_pylist())
    for low in (0.0, values[3], values[-1] + 1):
        tried = client.post("/api/tiers/preview", json={"tiers": {"moving": {"motion": [low, None]}}})
        moved = pyramid.tiers.moved("moving", "motion", Range(low))
        assert tried.json()["tiers"] == plain(list(tier_report(pyramid, moved)))
        assert tried.json()["tiers"][1]["clips"] == sum(value >= low for value in values)
    assert files(pyramid) == before


def test_a_move_moves_the_column_with_it(client: TestClient, pyramid: Pyramid) -> None:
    values = sorted(row["motion"] for row in pyramid.query().to_table().to_pylist())
    low = values[5]
    answer = client.put("/api/tiers/moving", json={"motion": [low, None]})
    assert answer.status_code == 200, answer.text
    assert answer.json()["tiers"][1]["clips"] == len(values) - 5 and answer.json()["changed"] > 0
    rows = pyramid.refreshed().query().columns("motion", "tier").to_table().to_pylist()
    assert {row["tier"] for row in rows if row["motion"] >= low} == {"moving"}
    assert client.put("/api/tiers/moving", json={"motion": None}).json()["tiers"][1]["clips"] == len(values)


@pytest.mark.parametrize(
    ("bounds", "field"),
    [
        ({"motion": [5, 1]}, "moving.motion"),
        ({"nothing": [1, 5]}, "moving.nothing"),
        ({"motion": "image"}, "moving.motion"),
        ({"kind": "film"}, "moving.kind"),
        ({"motion": [1]}, None),
        ({"motion": [1, 2, 3]}, None),
        ({"motion": ["a", "b"]}, None),
        ({}, None),
        ([], None),
        ({"clip_id": [1, 2]}, "moving.clip_id"),
    ],
)
def test_a_wrong_bound_is_named_and_nothing_is_written(
    client: TestClient, pyramid: Pyramid, bounds: Any, field: str | None
) -> None:
    before = files(pyramid)
    answer = client.put("/api/tiers/moving", json=bounds)
    assert answer.status_code == 422, answer.text
    if field is not None:
        assert answer.json()["field"] == field and answer.json()["remedy"]
    if isinstance(bounds, dict) and bounds:
        assert client.post("/api/tiers/preview", json={"tiers": {"moving": bounds}}).status_code == 422
    assert client.put("/api/tiers/none", json={"motion": [1, 2]}).status_code == 422
    assert files(pyramid) == before


def test_two_people_who_try_thresholds_do_not_disturb_each_other(client: TestClient) -> None:
    wide = {"tiers": {"moving": {"motion": [0, None]}}}
    narrow = {"tiers": {"moving": {"motion": [1e6, None]}}}
    first = client.post("/api/tiers/preview", json=wide).json()["tiers"][1]["clips"]
    assert client.post("/api/tiers/preview", json=narrow).json()["tiers"][1]["clips"] == 0 < first
    assert client.post("/api/tiers/preview", json=wide).json()["tiers"][1]["clips"] == first


def test_a_manifest_is_made_once(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(bucket_table.PRESETS, "stage1", bucket_table.from_toml(TABLE))
    wanted = {"name": "first", "tier": "all", "without_captions": True}
    made = client.post("/api/manifests", json=wanted)
    assert made.status_code == 201, made.text
    assert client.post("/api/manifests", json=wanted).status_code == 422
    assert [one["manifest"]["name"] for one in client.get("/api/manifests").json()["manifests"]] == ["first"]
    assert client.get("/api/manifests/first").json()["pinned"] is True


@pytest.mark.parametrize(
    "wrong",
    [
        {"preset": "/etc/passwd"},
        {"preset": "tests/../pyproject.toml"},
        {"name": "../out"},
        {"name": ""},
        {"seed": -1},
        {"where": {"motion": "x"}},
        {"tier": "none"},
        {"other": 1},
    ],
)
def test_a_client_names_no_file(client: TestClient, pyramid: Pyramid, wrong: dict[str, Any]) -> None:
    answer = client.post("/api/manifests", json={"name": "first", "without_captions": True, **wrong})
    assert answer.status_code == 422, answer.text
    assert "root:" not in answer.text and client.get("/api/manifests").json() == {"manifests": []}


def test_a_picture_is_searched_by(client: TestClient, pyramid: Pyramid) -> None:
    for content in (b"", b"no picture", b"\xff\xd8" + bytes(100)):
        answer = client.post("/api/search/image", content=content, headers={"Content-Type": "application/octet-stream"})
        assert answer.status_code == 422, answer.text
