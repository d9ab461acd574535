"""A job server as Ray's has been seen to behave, in this process: for tests of what the commands make of its answers.

`Client` has the methods of Ray's `JobSubmissionClient` and its words where it refuses (Ray 2.60, against a head on
loopback); `server` is the commands' own wrapper around it, so that the words are read by what reads Ray's.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from types import SimpleNamespace
from typing import Any

import pytest

from pipelines.commands.jobs import server as of_jobs
from pipelines.commands.jobs.server import Server

ADDRESS = "http://127.0.0.1:8265"
_TAKEN = """Request failed with status code 500: Traceback (most recent call last):
  File "job_head.py", line 419, in submit_job
RuntimeError: Request failed with status code 400: Traceback (most recent call last):
ValueError: Job with submission_id {job} already exists. Please use a different submission_id.
.
."""


class Client:
    """`looks`: how often a job that was told to stop is still seen at work."""

    def __init__(self, looks: int = 2) -> None:
        self.found: dict[str, SimpleNamespace] = {}
        self.asked: list[str] = []
        self._looks = looks

    def add(self, job: str | None, status: str, command: str = "ziggurat", began: int = 1_796_000_000_000) -> None:
        """A job with this status. None: a driver that nobody submitted, which Ray lists too."""
        told = SimpleNamespace(submission_id=job, status=SimpleNamespace(value=status), entrypoint=command)
        told.start_time, told.end_time, told.driver_exit_code, told.message = began, 0, None, None
        told.metadata = {}
        self.found[job or "01000000"] = told

    def submit_job(
        self, *, entrypoint: str, submission_id: str, runtime_env: dict[str, Any], metadata: dict[str, str]
    ) -> str:
        if submission_id in self.found:
            raise RuntimeError(_TAKEN.format(job=submission_id))
        self.add(submission_id, "PENDING", entrypoint)
        self.found[submission_id].runtime_env, self.found[submission_id].metadata = runtime_env, metadata
        return submission_id

    def list_jobs(self) -> list[SimpleNamespace]:
        return list(self.found.values())

    def get_job_info(self, job: str) -> SimpleNamespace:
        if job not in self.found:
            raise RuntimeError(f"Request failed with status code 404: Job {job} does not exist.")
        if job in self.asked:
            self._looks -= 1
            if self._looks <= 0:
                self.found[job].status = SimpleNamespace(value="STOPPED")
        return self.found[job]

    def get_job_logs(self, job: str) -> str:
        return f"Running entrypoint for job {self.get_job_info(job).submission_id}\n"

    async def tail_job_logs(self, job: str) -> AsyncIterator[str]:
        if job not in self.found:  # as aiohttp says that the handshake was refused
            raise Exception("404, message='Invalid response status', url='ws://127.0.0.1:8265/api/jobs/x/logs/tail'")
        for line in (self.get_job_logs(job), "one\n", "two\n"):
            yield line

    def stop_job(self, job: str) -> bool:
        was = self.get_job_info(job).status.value in ("PENDING", "RUNNING")
        self.asked.append(job)
        return was


def server(monkeypatch: pytest.MonkeyPatch, client: Client, address: str = ADDRESS) -> Server:
    """The commands' server with this client in the place of Ray's."""
    monkeypatch.setattr(of_jobs._RayServer, "_made", lambda self, address: client)
    return of_jobs.connected(address)
