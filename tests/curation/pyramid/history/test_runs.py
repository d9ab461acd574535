"""The records of runs: what they say of a run at work, an ended one, and one that was killed."""

from __future__ import annotations

import json
import multiprocessing
import os
import time
from dataclasses import asdict, fields, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import get_type_hints

import pytest
from pydantic import TypeAdapter

from curation.errors import UserError
from curation.pyramid.history import runs
from curation.pyramid.history.runs import Process, Progress, Run, find, listed, state
from curation.pyramid.storage.files import Files

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


def record(name: str = "20260102-030405-abcdef", process: Process | None = None, beat: datetime = NOW) -> Run:
    process = process or runs.this_process()
    return Run(name, ("ziggurat", "curate"), "small", 1, {"python": "3"}, process, runs.utc(NOW), runs.utc(beat))


def test_a_record_comes_back_as_it_was_written(tmp_path: Path) -> None:
    files, run = Files(str(tmp_path)), record()
    run = replace(run, account={"inputs": 3, "reasons": {"broken": 1}}, nodes=("a", "b"), notices=("n",), stage="cut")
    runs.write(files, run)
    assert listed(files) == [run] == [find(files, run.run)] == [find(files, "2026")]
    runs.write(files, replace(run, ended=runs.utc(NOW), exit=0))
    assert [state(one) for one in listed(files)] == ["done"]


def test_what_is_no_record_is_passed_over_and_a_later_versions_keys_too(tmp_path: Path) -> None:
    files = Files(str(tmp_path))
    runs.write(files, record())
    whole = files.read("runs/20260102-030405-abcdef.json")
    assert whole is not None
    files.write("runs/later.json", whole.replace(b'"run": "2026', b'"weather": "fair", "run": "2027'))
    for name, content in (("a", b"{"), ("b", b"[]"), ("c", b"{}"), ("d", whole[: len(whole) // 2])):
        files.write(f"runs/{name}.json", content)
    assert [run.run[:4] for run in listed(files)] == ["2026", "2027"]


def test_how_far_it_is_comes_back_and_a_record_of_before_has_none(tmp_path: Path) -> None:
    files, progress = Files(str(tmp_path)), Progress(3, 9, 12.5, ("clip",))
    runs.write(files, replace(record(), submission="sent", progress=progress))
    (found,) = listed(files)
    assert (found.submission, found.progress) == ("sent", progress)
    whole = json.loads(files.read(f"runs/{found.run}.json") or b"")
    before = {key: value for key, value in whole.items() if key not in ("submission", "progress")}
    files.write(f"runs/{found.run}.json", json.dumps(before).encode())
    assert listed(files) == [record()]


@pytest.mark.parametrize("field", [one.name for one in fields(Run)])
@pytest.mark.parametrize("value", [None, 7, "soon", [1], {"a": 1}, [None]])
def test_a_record_is_read_as_its_types_say_or_told_as_damaged(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, field: str, value: object
) -> None:
    files, other = Files(str(tmp_path)), replace(runs.this_process(), host="elsewhere")
    files.write("runs/a.json", json.dumps({**asdict(record(process=other)), field: value}).encode())
    found = listed(files)
    assert len(found) == ("runs/a.json is damaged" not in caplog.text)
    types = get_type_hints(Run)
    for run in found:
        assert TypeAdapter(types[field]).validate_python(getattr(run, field), strict=True) == getattr(run, field)
        assert state(run)
    if field in ("beat", "started", "process", "command"):
        assert found == []


@pytest.mark.parametrize(
    ("name", "words"), [("x", "no run 'x'"), ("2026", "beginning of 2"), ("../a", "no run"), ("", "no run")]
)
def test_a_run_is_found_by_one_beginning_only(tmp_path: Path, name: str, words: str) -> None:
    files = Files(str(tmp_path))
    for one in ("2026-a", "2026-b"):
        runs.write(files, record(one))
    with pytest.raises(UserError, match=words):
        find(files, name)


@pytest.mark.parametrize(
    ("code", "stopped_by", "said"),
    [
        (0, None, "done"),
        (1, None, "done (something was lost)"),
        (1, "ValueError: x", "failed (1)"),
        (2, "the disk is full; free space", "failed (2)"),
        (130, "a signal", "interrupted"),
    ],
)
def test_an_ended_run_says_how(code: int, stopped_by: str | None, said: str) -> None:
    assert state(replace(record(), ended=runs.utc(NOW), exit=code, stopped_by=stopped_by)) == said


def wait_for(flag: str) -> None:
    while not os.path.exists(flag):
        time.sleep(0.05)


def test_a_run_is_at_work_as_long_as_its_process_is(tmp_path: Path) -> None:
    flag = str(tmp_path / "end")
    child = multiprocessing.get_context("spawn").Process(target=wait_for, args=(flag,))
    child.start()
    import psutil

    assert child.pid is not None
    here = runs.this_process()
    theirs = replace(here, pid=child.pid, started=psutil.Process(child.pid).create_time())
    assert state(record(process=theirs)) == "running", "however old its beat is"
    assert state(record(process=replace(theirs, started=theirs.started - 60))).startswith("killed"), "another's number"
    Path(flag).touch()
    child.join()
    assert state(record(process=theirs)).startswith("killed")


def test_after_a_restart_of_the_machine_no_run_of_before_is_at_work() -> None:
    assert state(record(process=replace(runs.this_process(), boot="an earlier one"))).startswith("killed")


def test_on_another_machine_the_beat_tells() -> None:
    elsewhere = replace(runs.this_process(), host="elsewhere")
    assert state(record(process=elsewhere), NOW + timedelta(seconds=20)) == "running"
    assert state(record(process=elsewhere), NOW + runs.SILENT).startswith("killed (no sign of it since 2026-01-02")
