"""`ziggurat logs` and `cancel`: what a job says, and its end."""

from __future__ import annotations

import pytest

from curation.errors import UserError
from pipelines.commands.jobs.running import CANCEL_S, cancel, logs
from tests.support import ray_jobs


class Clock:
    def __init__(self) -> None:
        self.seconds = 0.0

    def now(self) -> float:
        return self.seconds

    def sleep(self, seconds: float) -> None:
        self.seconds += seconds


def test_cancel_returns_when_the_job_has_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    client, clock = ray_jobs.Client(looks=5), Clock()
    client.add("one", "RUNNING")
    found = cancel("one", None, lambda address: ray_jobs.server(monkeypatch, client), clock.now, clock.sleep)
    assert (found.status, found.asked, client.asked) == ("STOPPED", True, ["one"])
    assert 0 < found.seconds == clock.seconds < 10


def test_a_job_that_had_ended_is_told_so(monkeypatch: pytest.MonkeyPatch) -> None:
    client = ray_jobs.Client(looks=99)
    client.add("one", "SUCCEEDED")
    found = cancel("one", None, lambda address: ray_jobs.server(monkeypatch, client))
    assert (found.status, found.asked) == ("SUCCEEDED", False)


def test_a_job_that_does_not_end_is_one_line_after_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    client, clock = ray_jobs.Client(looks=10**9), Clock()
    client.add("one", "RUNNING")
    with pytest.raises(UserError, match="one was told to stop and is RUNNING"):
        cancel("one", None, lambda address: ray_jobs.server(monkeypatch, client), clock.now, clock.sleep)
    assert CANCEL_S < clock.seconds < CANCEL_S + 1


def test_logs_so_far_and_to_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    client, told = ray_jobs.Client(), list[str]()
    client.add("one", "RUNNING")
    logs("one", None, False, told.append, lambda address: ray_jobs.server(monkeypatch, client))
    assert told == ["Running entrypoint for job one\n"]
    logs("one", None, True, told.append, lambda address: ray_jobs.server(monkeypatch, client))
    assert told[1:] == ["Running entrypoint for job one\n", "one\n", "two\n"]


def test_a_job_that_is_not_there_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    client = ray_jobs.Client()
    for follow in (False, True):
        with pytest.raises(UserError, match="knows no job 'one'"):
            logs("one", None, follow, print, lambda address: ray_jobs.server(monkeypatch, client))
    with pytest.raises(UserError, match="knows no job 'one'"):
        cancel("one", None, lambda address: ray_jobs.server(monkeypatch, client))
