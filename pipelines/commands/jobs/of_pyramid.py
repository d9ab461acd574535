"""The jobs of one pyramid on one Ray cluster, for a service: sent within bounds, listed, cancelled and sent again.

A cluster may have the jobs of others. Ours are those that were sent from here, which Ray's own note beside a job says,
and those whose run has left its record in the pyramid; what is no job of ours is answered as if it were not there.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from curation.errors import BusyError, NotThereError, UserError
from curation.pyramid.storage import address
from pipelines.commands.jobs import listing, running, submit
from pipelines.commands.jobs.listing import Job
from pipelines.commands.jobs.running import Cancelled
from pipelines.commands.jobs.server import LIVE, Server, Submission

MOST_LIVE = 16
"""Jobs of a pyramid that are at work or wait: the driver of each is a process on the cluster's head."""

LONGEST = 64 << 10
"""Characters of a job's command: what runs it is a shell, whose arguments have a bound."""

PYRAMID, REQUEST, BY = "ziggurat_pyramid", "ziggurat_request", "ziggurat_by"
"""What Ray keeps beside a job that was sent from here: of which pyramid it is, what was asked for (JSON), who did."""


class PyramidJobs:
    """`place`: the pyramid as it was named; `connect`: its Ray job server; `group`: the whole command line."""

    def __init__(self, place: str, connect: Callable[[], Server], group: Any) -> None:
        self._place, self._connect, self._group = place, connect, group
        self._mark = address.located(place)[0]
        self._sending = threading.Lock()

    def listed(self) -> list[Job]:
        """All of them, the newest last."""
        found = listing.jobs(self._place, "", lambda _: self._connect())
        return [job for job in found if self._is_ours(job)]

    def one(self, job: str) -> Job:
        """NotThereError: there is none of this id."""
        found = next((one for one in self.listed() if one.id == job), None)
        if found is None:
            raise NotThereError(f"there is no job {job}", "GET /api/jobs lists them")
        return found

    def send(self, words: Sequence[str], request: str, by: str) -> Job:
        """Have `ziggurat` run with these words on the cluster. `request`: what was asked for, kept beside the job.

        BusyError: as many are at work as may be. UserError: the command would not understand it.
        """
        if sum(map(len, words)) > LONGEST:
            raise UserError(f"the command has more than {LONGEST:,} characters", "name a list of sources, or a folder")
        said = {PYRAMID: self._mark, REQUEST: request, BY: by}
        server = self._connect()
        with self._sending:
            live = sum(self._sent_here(one) and one.status in LIVE for one in server.jobs())
            if live >= MOST_LIVE:
                raise BusyError(f"{live} jobs of this pyramid are at work or wait", "wait for one, or cancel one")
            sent = submit.submit(submit.Request(tuple(words), metadata=said), self._group, lambda _: server)
        return listing.by_ray(server.job(sent.id))

    def request(self, job: str) -> str:
        """What was asked for when a job that has ended was sent from here. UserError: it was sent otherwise, or is at
        work.
        """
        there = self.one(job)
        if there.ray is not None and there.ray.status in LIVE:
            raise UserError(f"{job} is at work", "cancel it first")
        found = requested(there)
        if found is None:
            raise UserError(f"{job} was not sent by this service", "send its command anew")
        return found

    def cancel(self, job: str) -> Cancelled:
        """End it, and wait until it has ended. UserError: Ray has forgotten it, or it does not end."""
        self._of_ray(job)
        return running.cancel(job, None, lambda _: self._connect())

    def log(self, job: str) -> str:
        """What it has written so far. NotThereError: Ray has forgotten it."""
        self._of_ray(job)
        return self._connect().logs(job)

    def _of_ray(self, job: str) -> Submission:
        if (found := self.one(job).ray) is None:
            raise NotThereError(f"the cluster knows no job {job} any more", "its record is all that is left")
        return found

    def _is_ours(self, job: Job) -> bool:
        if job.record is not None:
            return job.record.submission is not None
        return job.ray is not None and self._sent_here(job.ray)

    def _sent_here(self, one: Submission) -> bool:
        return one.metadata.get(PYRAMID) == self._mark


def requested(job: Job) -> str | None:
    """What was asked for, as JSON; None of a job that no service has sent."""
    return _said(job).get(REQUEST)


def sender(job: Job) -> str | None:
    """The name of the token by which a job was sent to a service."""
    return _said(job).get(BY)


def _said(job: Job) -> Mapping[str, str]:
    return {} if job.ray is None else job.ray.metadata
