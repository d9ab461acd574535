"""`ziggurat jobs`: a record and Ray are two witnesses, and "running" is what both say."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from curation.errors import UserError
from curation.pyramid.history import runs
from curation.pyramid.history.runs import Progress, Run
from curation.pyramid.store import Pyramid
from curation.pyramid.tiering.tiers import Tiers
from pipelines.cli import main
from pipelines.commands.jobs.listing import Job, jobs
from tests.support import ray_jobs

LONG_AGO = "2026-01-01T00:00:00+00:00"


@pytest.fixture
def pyramid(tmp_path: Path) -> Pyramid:
    return Pyramid.create(tmp_path / "p", Tiers(), "test")


def record(pyramid: Pyramid, run: str, submission: str | None, **changes: object) -> Run:
    """A run of this process, which is at work, unless `changes` say otherwise."""
    account = {"done": 3, "rejected": 1, "quarantined": 1, "clips": 7, "cut": 5, "caption_usd": 0.5}
    made = Run(run, ("ziggurat", "curate"), "test", 1, {}, runs.this_process(), LONG_AGO, "2026-01-01T02:00:00+00:00")
    made = replace(made, account=account, cpus=4.0, gpus=1.0, submission=submission, **changes)  # type: ignore[arg-type]
    runs.write(pyramid.files, made)
    return made


def states(found: list[Job]) -> dict[str, str]:
    return {job.id: job.state for job in found}


def test_a_job_is_running_where_nobody_who_was_asked_says_otherwise(
    pyramid: Pyramid, monkeypatch: pytest.MonkeyPatch
) -> None:
    gone = replace(runs.this_process(), started=1.0)
    client = ray_jobs.Client()
    for job in ("both", "dead-by-record", "failed-by-ray", "ended"):
        other = {"process": gone} if job == "dead-by-record" else {}
        record(pyramid, job, job, **({"ended": LONG_AGO, "exit": 0} if job == "ended" else other))
    record(pyramid, "typed", None)
    for job, status in (("both", "RUNNING"), ("dead-by-record", "RUNNING"), ("failed-by-ray", "FAILED")):
        client.add(job, status)
    client.add("ended", "RUNNING")
    client.add("queued", "PENDING")
    client.add("unrecorded", "RUNNING")
    client.add(None, "RUNNING")  # the driver of a typed run, which Ray lists too

    alone = states(jobs(pyramid.uri, None))
    killed = "killed (its process is gone)"
    assert alone == {"both": "running", "dead-by-record": killed, "failed-by-ray": "running", "ended": "done"} | {
        "typed": "running"
    }
    joined = states(jobs(pyramid.uri, "h:1", lambda address: ray_jobs.server(monkeypatch, client)))
    assert joined == alone | {
        "failed-by-ray": "killed (Ray says FAILED, and its record has no end)",
        "queued": "PENDING (by Ray alone)",
        "unrecorded": "RUNNING (by Ray alone)",
    }
    by_ray = states(jobs(None, None, lambda address: ray_jobs.server(monkeypatch, client)))
    assert by_ray["dead-by-record"] == "RUNNING (by Ray alone)" and "typed" not in by_ray


def test_a_pyramid_that_its_first_job_has_not_made_yet_is_no_mistake(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = ray_jobs.Client()
    with pytest.raises(UserError, match="does not exist"):
        jobs(str(tmp_path / "p"), "h:1", lambda address: ray_jobs.server(monkeypatch, client))
    client.add("first", "PENDING")
    found = jobs(str(tmp_path / "p"), "h:1", lambda address: ray_jobs.server(monkeypatch, client))
    assert states(found) == {"first": "PENDING (by Ray alone)"}


def test_counts_time_to_come_and_cost_are_shown_without_a_cluster(
    pyramid: Pyramid, capsys: pytest.CaptureFixture[str]
) -> None:
    now, stages = Progress(2, 9, 300.0, ("aesthetic",)), {"measure": {"in": 9, "out": 2, "seconds": 60.0}}
    record(pyramid, "one", "sent", stage="measure", progress=now, stages=stages)
    assert main(["jobs", pyramid.uri]) == 0
    shown = capsys.readouterr().out
    for part in ("sent", "running", "measure 2/9", "5 min + aesthetic", "8.00 CPU h", "2.00 GPU h", "0.50 USD"):
        assert part in " ".join(shown.split()), part
    assert main(["jobs", pyramid.uri, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["cost"] == {"hours": 2.0, "cpu_hours": 8.0, "gpu_hours": 2.0, "usd": 0.5}
    assert told["record"]["stages"] == stages
    assert (told["id"], told["state"], told["ray"]) == ("sent", "running", None)


def test_what_has_not_been_told_what_to_do_knows_no_time_to_come(
    pyramid: Pyramid, capsys: pytest.CaptureFixture[str]
) -> None:
    record(pyramid, "one", "sent", stage="measure", progress=Progress())
    assert main(["jobs", pyramid.uri]) == 0
    assert "unknown" in capsys.readouterr().out
