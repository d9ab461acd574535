"""`/training`: the training runs in the roots of the service: how far they are, curves, sampled videos. To start one is
a job (`train`).
"""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query, Request
from fastapi.responses import Response
from pydantic import BaseModel, Field

from curation.errors import UserError
from pipelines.api import problems, ranges
from pipelines.api.guard import Service
from pipelines.watching import folders
from pipelines.watching import runs as watching
from pipelines.watching import samples as sampled

router = APIRouter(tags=["training"])
MOST_POINTS = 5000
_BINARY = {"schema": {"type": "string", "format": "binary"}}
_KINDS = {".mp4": "video/mp4", ".png": "image/png", ".jpg": "image/jpeg"}
_FILM: dict[int | str, dict[str, Any]] = {
    200: {"content": dict.fromkeys(_KINDS.values(), _BINARY)},
    206: ranges.RESPONSES[206] | {"content": dict.fromkeys(_KINDS.values(), _BINARY)},
    416: ranges.RESPONSES[416],
}


class Checkpoint(BaseModel):
    step: int
    bytes: int
    made: str | None


class Brief(BaseModel):
    """A training run. `state`: by its record, as of jobs; `eta_s`: seconds to come at the speed of the last steps;
    `submission`: the job, where it is one.
    """

    folder: str
    state: str
    step: int
    steps: int | None
    eta_s: float | None
    loss: float | None
    manifest: str | None
    model: str | None
    preset: str | None
    started: str | None
    ended: str | None
    submission: str | None


class Run(Brief):
    """All of it. `told`: what a person was told; `curves`: the names of those that it has."""

    stopped_by: str | None
    restarts: list[str]
    told: list[str]
    curves: list[str]
    checkpoints: list[Checkpoint]
    suspect: list[str] = Field(description="checkpoints that were set aside: their numbers may be wrong")
    damaged: int = Field(description="lines of the log that cannot be read")


class Runs(BaseModel):
    """`notes`: what was not looked at."""

    runs: list[Brief]
    notes: list[str]


class Curve(BaseModel):
    """Each point stands for the steps since the one before: their mean, least and most."""

    steps: list[int]
    values: list[float]
    low: list[float]
    high: list[float]


class Curves(BaseModel):
    """By name; one that the run does not have is left out. `step`: how far the log is."""

    step: int
    curves: dict[str, Curve]


class Sample(BaseModel):
    """A video that was sampled of a checkpoint: `/training/film` gives it by `step` and `file`."""

    step: int
    file: str
    prompt: str
    seed: int
    width: int
    height: int
    frames: int
    fps: int


class Samples(BaseModel):
    """The last step first."""

    samples: list[Sample]


def opened(
    here: Service, folder: Annotated[str, Query(min_length=1, max_length=4096, description="Of a run, in a root.")]
) -> Path:
    """The folder of a run that is within bounds."""
    try:
        return folders.opened(here.settings.roots, folder)
    except UserError as error:
        raise problems.of(error, "folder") from None


Folder = Annotated[Path, Depends(opened)]


@router.get("/training")
def runs(here: Service) -> Runs:
    """The training runs in the roots, by their folders."""
    found = folders.found(here.settings.roots)
    return Runs(runs=[Brief(**asdict(watching.brief(one))) for one in found.folders], notes=list(found.notes))


@router.get("/training/run")
def run(folder: Folder, here: Service) -> Run:
    """One run as it stands now."""
    return Run(**asdict(watching.seen(folder, here.logs)))


@router.get("/training/curves")
def curves(
    folder: Folder,
    here: Service,
    name: Annotated[list[str] | None, Query(max_length=100, description="All by default.")] = None,
    points: Annotated[int, Query(ge=1, le=MOST_POINTS, description="Of a curve, at most.")] = 500,
) -> Curves:
    """The curves of a run out of its log."""
    log = here.logs.of(folder)
    found = {} if log is None else {one: log.curve(one, points) for one in (name or log.names)}
    shown = {one: Curve(**asdict(curve)) for one, curve in found.items() if curve is not None}
    return Curves(step=0 if log is None else log.step, curves=shown)


@router.get("/training/samples")
def samples(folder: Folder) -> Samples:
    """The videos that were sampled of the run's checkpoints, with their prompts."""
    return Samples(samples=[Sample(**asdict(one)) for one in sampled.samples(folder)])


@router.get("/training/film", response_class=Response, responses=_FILM)
def film(
    request: Request,
    folder: Folder,
    step: Annotated[int, Query(ge=0, lt=10**10)],
    file: Annotated[str, Query(min_length=1, max_length=250)],
) -> Response:
    """One of these videos; `Range` gives a part of it."""
    path = sampled.film(folder, step, file)
    return ranges.of_file(request, path, _KINDS[path.suffix])
