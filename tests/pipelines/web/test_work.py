"""Pages of jobs, exports and training runs: forms ask for what REST takes, and what they show is what there is."""

from __future__ import annotations

import html
import re
import shlex
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from fastapi.testclient import TestClient
from markupsafe import Markup, escape

from pipelines.api.wanted import COMMANDS, Curate, Train
from pipelines.watching.curves import Curve
from pipelines.web import forms
from pipelines.web.charts import chart
from tests.support import run_folder
from tests.support.service import Working


@pytest.fixture
def client(working: Working) -> TestClient:
    return working.client


@pytest.fixture
def run(working: Working) -> Iterator[Path]:
    yield run_folder.written(working.data / "first")
    shutil.rmtree(working.data / "first")


def test_a_job_is_started_watched_cancelled_and_sent_again(client: TestClient, working: Working) -> None:
    text = client.get("/jobs").text
    for kind in COMMANDS:
        assert f">{escape(kind.told)}</summary>" in text
    form = {"command": "curate", "sources": f"{working.data}/videos\r\n\r\n {working.data}/a.mp4 ", "retry": "on"}
    answer = client.post("/jobs", data={**form, "sidecars": ""}, follow_redirects=False)
    assert answer.status_code == 303, answer.text
    ((job, told),) = working.ray.found.items()
    words = shlex.split(told.entrypoint)
    assert words[2:4] == [f"{working.data}/videos", f"{working.data}/a.mp4"] and "--retry" in words
    assert answer.headers["location"] == f"/jobs/{job}" and job in client.get("/jobs").text
    page = client.get(f"/jobs/{job}").text
    assert "Running entrypoint for job" in page and "/cancel" in page and "/retry" not in page and "every 3s" in page
    assert client.post(f"/jobs/{job}/cancel", follow_redirects=False).status_code == 303
    page = client.get(f"/jobs/{job}").text
    assert "/cancel" not in page and "/retry" in page and "every 3s" not in page
    again = client.post(f"/jobs/{job}/retry", follow_redirects=False)
    assert again.status_code == 303 and len(working.ray.found) == 2


def test_a_form_that_is_wrong_comes_back_with_what_was_filled_in(client: TestClient, working: Working) -> None:
    evil = "/etc/<b>x</b>"
    for form, wrong in (
        ({"command": "curate", "sources": evil}, "sources: "),
        ({"command": "curate", "sources": ""}, "sources: Field required"),
        ({"command": "caption", "limit": "many"}, "limit: "),
    ):
        answer = client.post("/jobs", data=form)
        assert answer.status_code == 422 and wrong in answer.text, answer.text
        assert f'<details id="start-{form["command"]}" open>' in answer.text and "<b>x" not in answer.text
    answer = client.post("/exports", data={"layout": "jsonl", "output": evil})
    assert answer.status_code == 422 and escape(evil) in answer.text
    assert client.post("/jobs", data={"command": "serve"}).status_code == 422
    assert working.ray.found == {}


def test_what_a_job_says_is_text(client: TestClient, working: Working, monkeypatch: pytest.MonkeyPatch) -> None:
    job = client.post("/api/jobs", json={"command": "fill"}).json()["id"]
    monkeypatch.setattr(working.ray, "get_job_logs", lambda job: "old\n" * 200 + "<script>alert(1)</script>\x1b[2J\n")
    text = client.get(f"/jobs/{job}").text
    assert "<script>alert" not in text and "\x1b" not in text and "The last 200 lines" in text


def test_an_export_is_begun_and_listed(client: TestClient, working: Working) -> None:
    form = {"layout": "jsonl", "output": f"{working.data}/shown", "where": "motion=0..\nkind=video", "seed": "42"}
    assert client.post("/exports", data=form, follow_redirects=False).status_code == 303
    (export,) = client.get("/api/exports").json()["exports"]
    assert export["output"] == f"{working.data}/shown" and export["id"] in client.get("/exports").text
    assert client.post(f"/exports/{export['id']}/cancel", follow_redirects=False).status_code == 303


def test_a_training_run_has_charts_checkpoints_and_samples(client: TestClient, run: Path) -> None:
    assert f"/training/run?folder={run}" in client.get("/training").text
    text = client.get("/training/run", params={"folder": str(run)}).text
    assert text.count('<svg class="chart"') == 5, "no MFU on a CPU"
    assert "step 20 of 100" in text and "a &lt;red&gt; fox" in text and "<b>3</b>" not in text
    (film,) = re.findall(r'<video class="film" src="([^"]+)"', text)
    assert (
        client.get(html.unescape(film)).content == (run / "samples" / "step-0000000010" / run_folder.FILM).read_bytes()
    )
    assert client.get("/training/run", params={"folder": "/etc"}).status_code == 422


def test_pages_of_work_ask_for_the_scope_of_work(working: Working) -> None:
    for path in ("/jobs", "/jobs/a", "/exports", "/training", "/training/run?folder=/x"):
        assert working.stranger.get(path).status_code == 401, path
    for path in ("/jobs", "/jobs/a/cancel", "/jobs/a/retry", "/exports", "/exports/export-1/cancel"):
        assert working.stranger.post(path).status_code == 401, path


def test_a_service_without_a_cluster_says_so(
    client: TestClient, working: Working, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(working.served, "jobs", None)
    assert "takes no jobs" in client.get("/jobs").text
    assert client.post("/jobs", data={"command": "fill"}).status_code == 503


def test_a_form_reads_each_type_as_json_has_it() -> None:
    names = {one.name: one.kind for one in forms.fields(Train, {}, {"manifest": ("first",)})}
    assert names["changes"] == "lines" and names["workers"] == "number" and names["manifest"] == "choice"
    assert forms.read(Curate, {"sources": "a\r\nb", "retry": "on", "other": "x"}) == {
        "sources": ["a", "b"],
        "retry": True,
    }
    read = forms.read(Train, {"manifest": "first", "steps": "7", "changes": "a=1\n", "engine": ""})
    assert read == {"manifest": "first", "steps": "7", "changes": ["a=1"]}


def test_a_chart_says_in_words_what_it_shows_and_marks_nothing_up() -> None:
    found = chart("Loss", {"<b>": Curve((1, 2), (3.0, 1.0), (3.0, 1.0), (3.0, 1.0))})
    assert 'aria-label="Loss: &lt;b&gt; 1 at step 2"' in found.picture and found.legend == (("<b>", "1"),)
    (line,) = re.findall(r'points="([^"]+)"', found.picture)
    (x0, y0), (x1, y1) = (map(float, point.split(",")) for point in line.split())
    assert x0 < x1 and y0 < y1, "what is smaller lies lower"
    flat = chart("Loss", {"loss": Curve((5,), (0.0,), (0.0,), (0.0,))})
    assert isinstance(flat.picture, Markup) and "nan" not in flat.picture
