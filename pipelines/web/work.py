"""Pages of what is done: jobs on a Ray cluster and exports, with forms that start them.

Each form is drawn of the type by which REST checks the same request.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from http import HTTPStatus
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response
from pydantic import ValidationError

from curation.errors import UserError
from curation.printable import printable
from curation.pyramid.store import Pyramid
from curation.shards import folder
from pipelines.api.guard import Here, Service, Submitter, Submitting
from pipelines.api.problems import ProblemError
from pipelines.api.problems import of as problem
from pipelines.api.routes import exports as of_exports
from pipelines.api.routes import jobs as of_jobs
from pipelines.api.routes.exports import ExportId, WantedExport
from pipelines.api.routes.jobs import Job, JobId, Ours
from pipelines.api.wanted import COMMANDS, WANTED, Command
from pipelines.commands.jobs.server import LIVE
from pipelines.web import forms
from pipelines.web.drawn import Sent, drawn

router = APIRouter(include_in_schema=False, dependencies=[Submitting], default_response_class=HTMLResponse)
NEWEST, LINES = 50, 200
_NOT_HERE = "This service takes no jobs: `ziggurat serve PYRAMID --address URL` names the Ray cluster that does them."


@router.get("/jobs")
def jobs(request: Request, pyramid: Here, here: Service) -> Response:
    """The newest jobs, and a form for each command."""
    return _jobs(request, pyramid, here)


@router.post("/jobs")
def start(request: Request, pyramid: Here, here: Service, ours: Ours, who: Submitter, form: Sent) -> Response:
    """Send a job; where it is wrong, the form again with what is."""
    kind = next((one for one in COMMANDS if _name(one) == form.get("command")), None)
    if kind is None:
        raise ProblemError(HTTPStatus.UNPROCESSABLE_ENTITY, "there is no such job", "start one on the page of jobs")

    def send() -> str:
        wanted = WANTED.validate_python({"command": _name(kind), **forms.read(kind, form)})
        return f"/jobs/{of_jobs.sent(wanted, ours, here, who).id}"

    return _sent(send, lambda wrong, status: _jobs(request, pyramid, here, form, wrong, status))


@router.get("/jobs/{job}")
def job(request: Request, pyramid: Here, ours: Ours, job: JobId) -> Response:
    """One job, and the end of what it says."""
    found = ours.one(job)
    said = [] if found.ray is None else ours.log(job).splitlines()
    is_live = found.ray is not None and found.ray.status in LIVE
    shown = {"job": Job.of(found), "lines": [printable(line) for line in said[-LINES:]], "more": len(said) > LINES}
    return drawn(request, pyramid, "job.html", is_live=is_live, **shown)


@router.post("/jobs/{job}/cancel")
def cancel(ours: Ours, job: JobId) -> Response:
    """End it."""
    ours.cancel(job)
    return RedirectResponse(f"/jobs/{job}", HTTPStatus.SEE_OTHER)


@router.post("/jobs/{job}/retry")
def again(ours: Ours, here: Service, who: Submitter, job: JobId) -> Response:
    """Send it once more."""
    found = of_jobs.sent(WANTED.validate_json(ours.request(job)), ours, here, who)
    return RedirectResponse(f"/jobs/{found.id}", HTTPStatus.SEE_OTHER)


@router.get("/exports")
def exports(request: Request, pyramid: Here, here: Service) -> Response:
    """What the service has been asked to export, and a form."""
    return _exports(request, pyramid, here)


@router.post("/exports")
def export(request: Request, pyramid: Here, here: Service, who: Submitter, form: Sent) -> Response:
    """Begin an export; where it is wrong, the form again with what is."""

    def send() -> str:
        wanted = WantedExport.model_validate(forms.read(WantedExport, form))
        of_exports.begun(wanted, here, who)
        return "/exports"

    return _sent(send, lambda wrong, status: _exports(request, pyramid, here, form, wrong, status))


@router.post("/exports/{name}/cancel")
def end(here: Service, name: ExportId) -> Response:
    """Have it end after the part that it writes."""
    here.exports.cancel(name)
    return RedirectResponse("/exports", HTTPStatus.SEE_OTHER)


def _sent(send: Callable[[], str], again: Callable[[str, HTTPStatus], Response]) -> Response:
    """What a form asks for, done: to the page that shows it; else the form again."""
    try:
        return RedirectResponse(send(), HTTPStatus.SEE_OTHER)
    except ValidationError as error:
        return again(forms.first(error), HTTPStatus.UNPROCESSABLE_ENTITY)
    except (ProblemError, UserError) as error:
        told = error if isinstance(error, ProblemError) else problem(error)
        line = ": ".join([*([told.field] if told.field else []), told.detail])
        return again(f"{line}; {told.remedy}" if told.remedy else line, told.status)


def _jobs(
    request: Request,
    pyramid: Pyramid,
    here: Service,
    given: Mapping[str, str] | None = None,
    wrong: str | None = None,
    status: HTTPStatus = HTTPStatus.OK,
) -> Response:
    found: Sequence[Job] = ()
    if here.jobs is None:
        note = _NOT_HERE
    else:
        try:
            found, note = of_jobs.jobs(here.jobs, NEWEST).jobs, None
        except UserError as error:
            note, status = str(error), problem(error).status
    given = given or {}
    starts = [(_name(one), one.told, _fields(pyramid, one, given)) for one in COMMANDS] if note is None else []
    shown: dict[str, Any] = {"jobs": found, "note": note, "starts": starts, "opened": given.get("command")}
    return drawn(request, pyramid, "jobs.html", status, roots=here.settings.roots.places, wrong=wrong, **shown)


def _exports(
    request: Request,
    pyramid: Pyramid,
    here: Service,
    given: Mapping[str, str] | None = None,
    wrong: str | None = None,
    status: HTTPStatus = HTTPStatus.OK,
) -> Response:
    asked = forms.fields(WantedExport, given or {}, _choices(pyramid))
    found = list(reversed(here.exports.listed()))
    shown: dict[str, Any] = {"exports": found, "fields": asked, "roots": here.settings.roots.places}
    return drawn(request, pyramid, "exports.html", status, wrong=wrong, **shown)


def _fields(pyramid: Pyramid, kind: type[Command], given: Mapping[str, str]) -> list[forms.Field]:
    """The form of a command, filled in where it is the one that was sent."""
    mine = given if given.get("command") == _name(kind) else {}
    return forms.fields(kind, mine, _choices(pyramid))


def _choices(pyramid: Pyramid) -> dict[str, Sequence[str]]:
    return {"tier": pyramid.tiers.names, "manifest": folder.listed(pyramid.files)}


def _name(kind: type[Command]) -> str:
    return kind.model_json_schema()["properties"]["command"]["const"]
