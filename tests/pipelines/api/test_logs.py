"""Structured logs of a run and of the service as they are read back: one object a line, with run, video and clip."""

from __future__ import annotations

import json
import signal
import urllib.request
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from curation.pyramid.history import runs
from curation.pyramid.store import Pyramid
from tests.support import jobs, media, without_ray


def read(text: str) -> list[dict[str, Any]]:
    """The objects of a log, every line of which is one."""
    found = [json.loads(line) for line in text.splitlines()]
    for one in found:
        assert {"time", "level", "logger", "message"} <= one.keys()
        assert datetime.fromisoformat(one["time"]).tzinfo is not None
    return found


@pytest.fixture
def more(tmp_path: Path) -> Path:
    """A folder with a film that is new, and one that is none."""
    folder = tmp_path / "more"
    folder.mkdir()
    media.scenes(folder / "new.mp4", [3.5], sources=["gradients"], crf=31)
    (folder / "broken.mp4").write_bytes(b"no film either")
    return folder


def test_every_line_of_a_run_is_an_object_that_says_whose_it_is(place: Path, more: Path) -> None:
    done = without_ray.run("--log-format", "json", "curate", str(more), "--to", str(place), "--json")
    assert done.code == 0, done.error
    found, pyramid = read(done.error), Pyramid.open(place)
    (run,) = [one for one in runs.listed(pyramid.files) if str(more) in one.command]
    of_run = [one for one in found if one.get("run") == run.run]
    first, last = of_run[0], of_run[-1]
    assert (first["message"], last["message"], last["exit"]) == ("the run begins", "the run ends", 0)
    rows = pyramid.dataset("videos").to_table(columns=["video_id", "uris", "status", "reason", "job"]).to_pylist()
    wanted = {row["video_id"]: row for row in rows if row["job"] == run.run}
    told = {one["video"]: one for one in of_run if "video" in one and one["message"].startswith("video ")}
    assert len(told) == 2 and told.keys() == wanted.keys()
    for name, one in told.items():
        row = wanted[name]
        assert (one["message"], one.get("reason")) == (f"video {row['status']}", row["reason"])
        assert one["uri"] == row["uris"][0] and one["stage"] == "measure"
    stages = [one["stage"] for one in of_run if one["message"] == "the stage begins"]
    assert stages == list(run.stages) == [one["stage"] for one in of_run if one["message"] == "the stage ends"]
    assert done.summary["done"] == 1, "results stay on standard output"


def test_without_the_option_nothing_changes(place: Path) -> None:
    done = without_ray.run("curate", str(place), "--fill", "--json")
    assert done.code == 0
    assert "{" not in done.error and "the run begins" not in done.error


@pytest.mark.parametrize("given", ["option", "variable"])
def test_what_a_command_ends_with_is_an_object_too(place: Path, given: str) -> None:
    if given == "option":
        done = jobs.run("--log-format=json", "tiers", str(place), "--move", "no such tier", "--motion", "1..2")
    else:
        done = jobs.run("tiers", str(place), "--move", "no such tier", "--motion", "1..2", ZIGGURAT_LOG_FORMAT="json")
    assert done.code == 2
    (line,) = read(done.error)
    assert line["level"] == "ERROR" and line["logger"] == "ziggurat" and "no such tier" in line["message"]


@pytest.mark.parametrize("variable", [False, True])
def test_an_unknown_format_is_one_line(variable: bool) -> None:
    done = jobs.run("doctor", ZIGGURAT_LOG_FORMAT="xml") if variable else jobs.run("--log-format", "xml", "doctor")
    assert done.code == 2
    assert done.error == "ziggurat: 'xml' is no format of logs; say text or json (--log-format, ZIGGURAT_LOG_FORMAT)\n"


def test_an_error_of_ours_is_one_line_with_its_trace() -> None:
    code = "from pipelines import logs; logs.configure('json'); import sys; print('a\\nb', file=sys.stderr); 1 / 0"
    process = jobs.start(code=code)
    _, error = process.communicate(timeout=60)
    first, second, last = read(error)
    assert (first["message"], second["message"]) == ("a", "b")
    assert last["level"] == "CRITICAL" and "ZeroDivisionError" in last["error"]
    assert process.returncode == 1


def test_the_service_logs_each_request_and_no_secret(place: Path) -> None:
    token = jobs.run("tokens", str(place), "--make", "a program", "--json").events[0]["token"]
    clip = Pyramid.open(place).dataset("clips").to_table(columns=["clip_id"])["clip_id"][0].as_py()
    process = jobs.start("serve", str(place), "--port", "0", "--json", ZIGGURAT_LOG_FORMAT="json")
    try:
        assert process.stdout is not None
        started = json.loads(process.stdout.readline())
        headers = {"Authorization": f"Bearer {token}"}
        for path in (f"/api/clips/{clip}?columns=motion", "/health"):
            urllib.request.urlopen(
                urllib.request.Request(started["address"] + path, headers=headers), timeout=60
            ).read()
        browser = urllib.request.build_opener(urllib.request.HTTPCookieProcessor())
        assert browser.open(started["link"], timeout=60).status == 200
    finally:
        process.send_signal(signal.SIGTERM)
        _, error = process.communicate(timeout=60)
    found = read(error)
    (asked,) = [one for one in found if one.get("route") == "/api/clips/{clip_id}"]
    assert (asked["clip"], asked["method"], asked["status"], asked["message"]) == (clip, "GET", "200", "request")
    assert token not in error and started["link"].partition("key=")[2] not in error
    assert found[-1]["message"].startswith("terminated")
