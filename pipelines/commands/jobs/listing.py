"""`ziggurat jobs`: what is at work and what was, by the records of a pyramid, by Ray, or by both.

A record outlives its cluster and knows what came of its run; Ray knows jobs that have not got to a record. A job is
called running where every witness that was asked says so: a driver that is dead cannot take its word back, and the
record's own beat tells of that a minute later at the latest (`history.runs.state`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

from curation.errors import UserError
from curation.pyramid.history.runs import Progress, Run, state
from pipelines.commands.jobs.server import LIVE, Server, Submission, connected
from pipelines.commands.pyramid.runs import runs

RUNNING = "running"
_DAY_S = 86400


@dataclass(frozen=True, slots=True)
class Job:
    """A job or a run that was typed: by its record, by Ray, or both. `record` or `ray` is there."""

    record: Run | None
    ray: Submission | None
    state: str

    @property
    def id(self) -> str:
        """The id of the submission; of the run where nobody submitted it."""
        if self.ray is not None:
            return self.ray.id
        assert self.record is not None
        return self.record.submission or self.record.run

    @property
    def progress(self) -> Progress | None:
        return None if self.record is None else self.record.progress

    def as_data(self) -> dict[str, Any]:
        """As one JSON object: what Ray says, the record, the state, and what it has cost."""
        record = None if self.record is None else asdict(self.record)
        ray = None if self.ray is None else asdict(self.ray)
        return {"id": self.id, "state": self.state, "ray": ray, "record": record, "cost": self.cost}

    @property
    def cost(self) -> dict[str, float]:
        """So far: hours by the clock, those of all processors and GPUs that the cluster had meanwhile (a bound from
        above, where jobs share it), and dollars that models behind an endpoint took. Nothing without a record.
        """
        if (run := self.record) is None:
            return {}
        end = datetime.fromisoformat(run.ended or run.beat)
        hours = (end - datetime.fromisoformat(run.started)).total_seconds() / 3600
        found = {"hours": hours, "cpu_hours": hours * (run.cpus or 0.0), "gpu_hours": hours * (run.gpus or 0.0)}
        return found | {"usd": float(run.account.get("caption_usd") or 0.0)}


def jobs(place: str | None, address: str | None, connect: Callable[[str | None], Server] = connected) -> list[Job]:
    """The jobs that the records of `place` (a pyramid, or the folder of a training run) tell of, those of the cluster
    at `address`, or both joined; of neither: those of the usual cluster. The newest last.
    """
    submissions = connect(address).jobs() if address is not None or place is None else []
    records = [] if place is None else _records(place, bool(submissions))
    by_id = {one.id: one for one in submissions}
    found = [_joined(run, by_id.get(run.submission or "")) for run in records]
    recorded = {run.submission for run in records}
    found += [by_ray(one) for one in submissions if one.id not in recorded]
    return sorted(found, key=_when)


def _records(place: str, has_submissions: bool) -> list[Run]:
    try:
        return runs(place)
    except UserError:
        if has_submissions:  # the first job of a pyramid, say, which has not come to making it
            return []
        raise


def _joined(run: Run, ray: Submission | None) -> Job:
    return Job(run, ray, joined_state(state(run), run.ended is not None, None if ray is None else ray.status))


def joined_state(recorded: str, has_ended: bool, status: str | None) -> str:
    """What is said of a job whose record says `recorded`, and Ray `status` (None: it knows no such job, or was not
    asked)."""
    if status is None or has_ended or recorded != RUNNING or status in LIVE:
        return recorded
    return f"killed (Ray says {status}, and its record has no end)"


def by_ray(one: Submission) -> Job:
    """A job without a record: Ray's word is all that there is, and is called so."""
    how = "" if one.exit is None else f", exit code {one.exit}"
    return Job(None, one, f"{one.status} (by Ray alone{how})")


def _when(job: Job) -> tuple[str, str]:
    started = job.record.started if job.record is not None else job.ray.started if job.ray is not None else None
    return started or "~", job.id
