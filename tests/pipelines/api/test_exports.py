"""Exports over REST: within the roots, the command's own bytes, two at once, cancelled between two parts."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from curation.exports.export import Exported
from pipelines.commands.pyramid.export import Prepared, Request, export
from tests.support.service import Working


@pytest.fixture
def client(working: Working) -> TestClient:
    return working.client


def ended(client: TestClient, name: str) -> dict[str, Any]:
    """An export once it has ended."""
    for thread in threading.enumerate():
        if thread.name == name:
            thread.join(60)
    found = client.get(f"/api/exports/{name}").json()
    assert found["state"] != "running"
    return found


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_it_writes_the_bytes_of_the_command(client: TestClient, working: Working, tmp_path: Path) -> None:
    asked = {"layout": "pairs", "output": f"{working.data}/pairs", "tier": "moving", "where": {"motion": "0.2.."}}
    answer = client.post("/api/exports", json=asked)
    assert answer.status_code == 201, answer.text
    done = ended(client, answer.json()["id"])
    by_command = export(Request(str(working.place), "pairs", str(tmp_path / "by"), ("--motion=0.2..",), "moving"))
    assert files(working.data / "pairs") == files(tmp_path / "by") and by_command.clips > 0
    assert (done["state"], done["clips"], done["by"]) == ("done", by_command.clips, "a test")
    assert done["total"] == by_command.total and done["exported"]["bytes"] == by_command.bytes
    again = ended(client, client.post("/api/exports", json=asked).json()["id"])
    assert again["state"] == "failed" and "holds a whole export already" in again["why"]


def test_no_place_out_of_bounds_is_written(client: TestClient, working: Working) -> None:
    before = client.get("/api/exports").json()
    for place in (
        "/tmp/x",
        f"{working.place}/x",
        f"{working.data}/../x",
        f"{working.data}/out/x",
        f"{working.data}",
        "x",
    ):
        answer = client.post("/api/exports", json={"layout": "jsonl", "output": place})
        assert (answer.status_code, answer.json()["field"]) == (422, "output"), (place, answer.text)
    inside = f"{working.data}/x"
    for given, field in (
        ({"layout": "zip"}, "layout"),
        ({"where": {"motion": "x"}}, None),
        ({"tier": "none"}, None),
        ({"buckets": "/etc/passwd"}, "buckets"),
        ({"names": "{secret}"}, None),
        ({"names": "../{clip_id}"}, None),
        ({"recipe": "x"}, "recipe"),
    ):
        answer = client.post("/api/exports", json={"layout": "jsonl", "output": inside, **given})
        assert answer.status_code == 422 and answer.json()["field"] == field, (given, answer.text)
    assert client.get("/api/exports").json() == before and not (working.data / "x").exists()


def test_two_are_written_at_once_and_one_ends_when_it_is_told(
    client: TestClient, working: Working, monkeypatch: pytest.MonkeyPatch
) -> None:
    part, go = threading.Semaphore(0), threading.Event()

    def write(self: Prepared, told: Callable[[int], None]) -> Exported:
        told(1)
        part.release()
        assert go.wait(60)
        told(2)
        return Exported(self.output, "jsonl", 2, 0, 0, 1, 0)

    monkeypatch.setattr(Prepared, "write", write)

    def begin(name: str) -> Any:
        return client.post("/api/exports", json={"layout": "jsonl", "output": f"{working.data}/{name}"})

    first, second = begin("a").json()["id"], begin("b").json()["id"]
    assert part.acquire(timeout=60) and part.acquire(timeout=60)
    assert client.get(f"/api/exports/{first}").json()["clips"] == 1
    assert "is at work" in begin("a").json()["detail"]
    assert begin("c").status_code == 429
    assert client.post(f"/api/exports/{first}/cancel").status_code == 200
    go.set()
    assert (ended(client, first)["state"], ended(client, second)["state"]) == ("cancelled", "done")
    assert client.get("/api/exports/export-1").status_code == 404


def test_what_goes_wrong_on_the_way_is_told(
    client: TestClient, working: Working, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(error: Exception) -> Callable[..., Exported]:
        def write(self: Prepared, told: Callable[[int], None]) -> Exported:
            raise error

        return write

    for name, error, why in (
        ("d", OSError(28, "No space left on device"), "no space left"),
        ("e", ZeroDivisionError("inner"), "a fault of the service"),
    ):
        monkeypatch.setattr(Prepared, "write", failing(error))
        answer = client.post("/api/exports", json={"layout": "jsonl", "output": f"{working.data}/{name}"})
        found = ended(client, answer.json()["id"])
        assert found["state"] == "failed" and why in found["why"] and "inner" not in found["why"]
