"""`/jobs`: commands on the served pyramid as jobs of a Ray cluster: sent, listed, cancelled, sent again, and what they
say. Where the service was started with `--address`.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from http import HTTPStatus
from typing import Annotated, Any

from fastapi import APIRouter, Body, Depends, Path, Query, Request
from fastapi.responses import Response
from pydantic import BaseModel, Field

from pipelines.api import ranges
from pipelines.api.guard import Service, Submitter
from pipelines.api.problems import ProblemError
from pipelines.api.served import Served
from pipelines.api.shapes import Row, plain
from pipelines.api.tokens import Token
from pipelines.api.wanted import WANTED, Command, Wanted
from pipelines.commands.jobs import listing, of_pyramid
from pipelines.commands.jobs.of_pyramid import PyramidJobs

router = APIRouter(tags=["jobs"])
JobId = Annotated[str, Path(pattern=r"^[A-Za-z0-9_.-]{1,100}$", description="The id of a job.")]
_TEXT = {"content": {"text/plain": {"schema": {"type": "string"}}}}
_LOG: dict[int | str, dict[str, Any]] = {200: _TEXT, 206: ranges.RESPONSES[206] | _TEXT, 416: ranges.RESPONSES[416]}


class Job(BaseModel):
    """A job. `state`: by its record and by Ray; `ray`: Ray's word alone. `request`: what was asked for, of one that was
    sent by a service, `by` whom. `stage`, `done`, `total`, `eta_s` (seconds), `eta_without` (stages of which
    nothing is known): of one that has a record in the pyramid, which all but `train` have.
    """

    id: str
    state: str
    ray: str | None
    command: str
    request: Row | None
    by: str | None
    run: str | None = Field(description="the run in /api/runs")
    started: str | None
    ended: str | None
    stage: str | None
    done: int | None
    total: int | None
    eta_s: float | None
    eta_without: list[str]
    cost: dict[str, float]
    told: str | None = Field(description="the line that an early end was told in")

    @classmethod
    def of(cls, job: listing.Job) -> Job:
        run, ray, progress = job.record, job.ray, job.progress
        asked = of_pyramid.requested(job)
        return cls(
            id=job.id,
            state=job.state,
            ray=None if ray is None else ray.status,
            command=ray.command if ray is not None else " ".join(run.command if run is not None else ()),
            request=None if asked is None else json.loads(asked),
            by=of_pyramid.sender(job),
            run=None if run is None else run.run,
            started=run.started if run is not None else ray.started if ray is not None else None,
            ended=run.ended if run is not None else ray.ended if ray is not None else None,
            stage=None if run is None else run.stage,
            done=None if progress is None else progress.done,
            total=None if progress is None else progress.total,
            eta_s=None if progress is None else plain(progress.eta_s),
            eta_without=[] if progress is None else list(progress.eta_without),
            cost=plain(job.cost),
            told=run.stopped_by if run is not None else ray.message if ray is not None else None,
        )


class Jobs(BaseModel):
    """The newest first."""

    jobs: list[Job]


class Cancelled(BaseModel):
    """A job that has ended. `status`: Ray's word; `asked`: it was at work, and had to be asked."""

    id: str
    status: str
    asked: bool
    seconds: float


def jobs_of(here: Service) -> PyramidJobs:
    """The jobs of the service; 503 where it has none."""
    if here.jobs is None:
        told = "this service was started without a Ray job server"
        raise ProblemError(HTTPStatus.SERVICE_UNAVAILABLE, told, "start it with `ziggurat serve PYRAMID --address URL`")
    return here.jobs


Ours = Annotated[PyramidJobs, Depends(jobs_of)]


def sent(wanted: Command, ours: PyramidJobs, here: Served, who: Token) -> listing.Job:
    """A job that was sent, for the page as well. Its values are judged anew whenever it is."""
    return ours.send(wanted.words(here.bounds()), wanted.model_dump_json(exclude_unset=True), who.name)


@router.get("/jobs")
def jobs(ours: Ours, limit: Annotated[int, Query(ge=1, le=1000)] = 50) -> Jobs:
    """The newest jobs of this pyramid."""
    return Jobs(jobs=[Job.of(job) for job in reversed(ours.listed()[-limit:])])


@router.post("/jobs", status_code=201)
def submit(wanted: Annotated[Wanted, Body()], ours: Ours, here: Service, who: Submitter) -> Job:
    """Have a command work on this pyramid, within the roots that the service was started with."""
    return Job.of(sent(wanted, ours, here, who))


@router.get("/jobs/{job}")
def job(job: JobId, ours: Ours) -> Job:
    """One job."""
    return Job.of(ours.one(job))


@router.post("/jobs/{job}/cancel")
def cancel(job: JobId, ours: Ours) -> Cancelled:
    """End a job: it keeps what is finished. Answers when it has ended, within 20 s."""
    return Cancelled(**asdict(ours.cancel(job)))


@router.post("/jobs/{job}/retry", status_code=201)
def again(job: JobId, ours: Ours, here: Service, who: Submitter) -> Job:
    """Send what a job that has ended was asked for once more, as another job: it goes on where that one stopped."""
    return Job.of(sent(WANTED.validate_json(ours.request(job)), ours, here, who))


@router.get("/jobs/{job}/logs", response_class=Response, responses=_LOG)
def logs(job: JobId, request: Request, ours: Ours) -> Response:
    """What a job has written so far, as text; `Range: bytes=N-` gives what came after so many bytes, 416 if nothing."""
    return ranges.answer(request, ours.log(job).encode(errors="replace"), "text/plain")
