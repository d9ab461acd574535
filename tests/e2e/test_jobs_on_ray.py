"""Jobs on a cluster of Ray's own making: sent, followed, listed, cancelled in the middle, sent again by Ray's command,
and told the truth of when the cluster is gone.
"""

from __future__ import annotations

import os
import shlex
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

from curation.pyramid.history import runs
from curation.pyramid.storage.files import Files
from tests.support import jobs, ray_head, without_ray

pytestmark = pytest.mark.slow
RAYS_OWN = ("ray::IDLE", "default_worker.py", "ray::_", "ray::ActorLocationTracker", "multiprocessing", "ray-dashboard")
"""Processes of a node that are of no job: workers in reserve, Ray's actors for the whole cluster, its dashboard."""


def until(question: Callable[[], object]) -> None:
    end = time.monotonic() + ray_head.PATIENCE_S
    while not question():
        assert time.monotonic() < end
        time.sleep(0.1)


def said(head: ray_head.Head, *arguments: str) -> list[dict[str, Any]]:
    done = jobs.run(*arguments, **head.environment)
    assert done.code == 0, done.error
    return done.events


def send(head: ray_head.Head, videos: Path, pyramid: Path, recipe: str) -> dict[str, Any]:
    what = ("curate", str(videos), "--to", str(pyramid), "--recipe", recipe, "--json")
    (found,) = said(head, "submit", "--address", head.address, "--json", *what)
    return found


def follow(head: ray_head.Head, job: str) -> str:
    """What a job says to its end."""
    process = jobs.start("logs", job, "-f", "--address", head.address, code="", cwd=jobs.ROOT, **head.environment)
    out, error = process.communicate(timeout=600)
    assert process.returncode == 0, error
    return out


def states(head: ray_head.Head, pyramid: Path) -> dict[str, tuple[str, str | None]]:
    found = said(head, "jobs", str(pyramid), "--address", head.address, "--json")
    return {one["id"]: (one["state"], (one["ray"] or {}).get("status")) for one in found if one["record"]}


def of_jobs(head: ray_head.Head) -> list[str]:
    """The processes of the cluster that work for a job."""
    found = []
    for process in jobs.of_run(head.run):
        try:
            line = " ".join(process.cmdline())
            above = " ".join(name for parent in process.parents() for name in parent.cmdline())
        except psutil.Error:
            continue
        if "raylet_socket_name" in above and not any(
            own in line for own in (*RAYS_OWN, "ray::DashboardA", "ray::RuntimeEnv")
        ):
            found.append(line)
    return found


def test_a_job_is_sent_followed_listed_cancelled_sent_again_and_never_called_running_when_dead(tmp_path: Path) -> None:
    pytest.importorskip("aiohttp", reason="needs the extra `jobs`")
    videos, recipe = jobs.corpus(tmp_path / "my videos"), jobs.recipe(tmp_path, jobs.WITHOUT_TEXT)
    without_ray.curate(videos, tmp_path / "alone", recipe)
    whole = jobs.rows(tmp_path / "alone")
    first, second, third = tmp_path / "p", tmp_path / "cancelled", tmp_path / "lost"
    with ray_head.head() as head:
        sent = send(head, videos, first, recipe)
        assert '"event": "summary"' in follow(head, sent["id"])
        assert states(head, first) == {sent["id"]: ("done", "SUCCEEDED")}
        assert jobs.rows(first) == whole

        # As printed, in a shell, elsewhere.
        line = subprocess.run(
            sent["line"], shell=True, cwd="/", env={**os.environ, **head.environment}, capture_output=True, text=True
        )
        assert line.returncode == 0, line.stdout + line.stderr
        job = shlex.split(sent["line"])[6]
        assert states(head, first)[job] == ("done", "SUCCEEDED") and jobs.rows(first) == whole
        until(lambda: not of_jobs(head))

        sent = send(head, videos, second, recipe)
        until(lambda: any(run.stage for run in runs.listed(Files(str(second)))) and len(of_jobs(head)) > 3)
        (cancelled,) = said(head, "cancel", sent["id"], "--address", head.address, "--json")
        assert (cancelled["status"], cancelled["asked"]) == ("STOPPED", True)
        until(lambda: not of_jobs(head))
        ((state, status),) = states(head, second).values()
        assert state.split()[0] in ("terminated", "killed") and status == "STOPPED"
        again = send(head, videos, second, recipe)
        follow(head, again["id"])
        assert states(head, second)[again["id"]] == ("done", "SUCCEEDED") and jobs.rows(second) == whole

        wrong = jobs.run("submit", "--address", head.address, "curate", str(videos), "--colour", **head.environment)
        refused = jobs.run("jobs", "--address", head.address, **{**head.environment, "RAY_AUTH_TOKEN": "another"})
        assert (wrong.code, refused.code) == (2, 2) and "does not let us in" in refused.error

        lost = send(head, videos, third, recipe)
        until(lambda: any(run.stage for run in runs.listed(Files(str(third)))))
        assert states(head, third) == {lost["id"]: ("running", "RUNNING")}
        head.kill()
        (found,) = said(head, "jobs", str(third), "--json")
        assert (found["id"], found["state"]) == (lost["id"], "killed (its process is gone)")
        assert found["record"]["progress"] is not None
        gone = jobs.run("jobs", "--address", head.address, **head.environment)
        assert gone.code == 2 and "no Ray job server answers" in gone.error
