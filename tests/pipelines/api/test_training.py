"""Training runs over REST: those in the roots, as they stand, and nothing beside them."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from curation.inputs.roots import Roots
from curation.pyramid.history.runs import utc
from pipelines.watching import folders
from tests.support import run_folder
from tests.support.service import Working


@pytest.fixture
def client(working: Working) -> TestClient:
    return working.client


@pytest.fixture
def run(working: Working) -> Iterator[Path]:
    """A run at work, some folders below the root."""
    yield run_folder.written(working.data / "team" / "runs" / "first")
    shutil.rmtree(working.data / "team")


def test_a_run_is_told_as_it_stands(client: TestClient, run: Path) -> None:
    (brief,) = client.get("/api/training").json()["runs"]
    found = client.get("/api/training/run", params={"folder": str(run)}).json()
    assert brief == {name: found[name] for name in brief}
    told = ("state", "step", "steps", "eta_s", "loss", "manifest", "model", "preset", "damaged")
    assert [found[name] for name in told] == ["running", 20, 100, 160.0, 1.0, "first (abc)", "tiny", "tiny", 0]
    assert [(one["step"], one["bytes"]) for one in found["checkpoints"]] == [(10, 1024)]
    assert found["suspect"] == ["step-0000000005.suspect"] and found["restarts"] == ["a worker was lost"]
    with (run / "log.jsonl").open("a") as log:
        log.write('{"kind": "step", "step": 21, "loss": 0.5}\n')
    assert client.get("/api/training/run", params={"folder": str(run)}).json()["step"] == 21


def test_a_run_that_has_ended_has_no_time_to_come(client: TestClient, working: Working, run: Path) -> None:
    run_folder.written(run.parent / "second", ended=utc(), exit=0)
    first, second = client.get("/api/training").json()["runs"]
    assert (first["state"], second["state"], second["eta_s"]) == ("running", "done", None)


def test_curves_by_their_names(client: TestClient, run: Path) -> None:
    asked = {"folder": str(run), "name": ["loss", "validation/t=0.3", "mfu_dit"], "points": 10}
    found = client.get("/api/training/curves", params=asked).json()
    assert found["step"] == 20 and set(found["curves"]) == {"loss", "validation/t=0.3"}
    assert found["curves"]["loss"]["steps"] == [*range(2, 21, 2)]
    assert found["curves"]["validation/t=0.3"] == {
        "steps": [10, 20], "values": [4.0, 4.0], "low": [4.0, 4.0], "high": [4.0, 4.0]
    }  # fmt: skip


def test_samples_with_their_prompts_and_their_films_by_ranges(client: TestClient, run: Path) -> None:
    (sample,) = client.get("/api/training/samples", params={"folder": str(run)}).json()["samples"]
    assert (sample["step"], sample["file"], sample["prompt"]) == (10, run_folder.FILM, "a <red> fox")
    where = {"folder": str(run), "step": 10, "file": run_folder.FILM}
    whole = client.get("/api/training/film", params=where)
    content = (run / "samples" / "step-0000000010" / run_folder.FILM).read_bytes()
    assert whole.content == content and whole.headers["content-type"] == "video/mp4"
    part = client.get("/api/training/film", params=where, headers={"Range": "bytes=5-9"})
    assert (part.status_code, part.content) == (206, content[5:10])
    late = client.get("/api/training/film", params=where, headers={"Range": f"bytes={len(content)}-"})
    assert late.status_code == 416
    for file in ("gone.mp4", "leading.mp4", "../../log.jsonl", "samples.jsonl", "..", "/etc/passwd"):
        assert client.get("/api/training/film", params={**where, "file": file}).status_code == 404, file


def test_what_is_no_run_in_a_root_is_not_shown(client: TestClient, working: Working, run: Path) -> None:
    for place, status in (
        (run.parent, 404),
        (working.place, 422),
        ("/etc", 422),
        (f"{run}/../first", 422),
        ("run", 422),
    ):
        for path in ("run", "curves", "samples"):
            answer = client.get(f"/api/training/{path}", params={"folder": str(place)})
            assert (answer.status_code, answer.json()["field"]) == (status, "folder"), (place, answer.text)
    (working.data / "pyramid.json").touch()
    assert client.get("/api/training").json()["runs"] == [], "a pyramid is not looked into"
    (working.data / "pyramid.json").unlink()


def test_a_look_into_the_roots_is_bounded_and_says_so(
    run: Path, working: Working, monkeypatch: pytest.MonkeyPatch
) -> None:
    roots = Roots.of([str(working.data)])
    assert folders.found(roots).folders == (run,) and folders.found(roots).notes == ()
    monkeypatch.setattr(folders, "MOST", 2)
    assert "only the first 2 entries" in folders.found(roots).notes[0]
    assert "no root is a folder" in folders.found(Roots()).notes[0]
