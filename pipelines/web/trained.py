"""Pages of training runs: which there are, and one with its curves, checkpoints and sampled videos."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse, Response

from pipelines.api.guard import Here, Reading, Service
from pipelines.api.routes import training
from pipelines.api.routes.training import Folder
from pipelines.watching import runs as watching
from pipelines.watching import samples as sampled
from pipelines.watching.curves import Log
from pipelines.web.charts import Chart, chart
from pipelines.web.drawn import drawn

router = APIRouter(include_in_schema=False, dependencies=[Reading], default_response_class=HTMLResponse)
POINTS, VIDEOS = 300, 48
CHARTS: Mapping[str, Sequence[str]] = {
    "Loss": ("loss", "validation/loss"),
    "Validation loss by time": tuple(f"validation/t=0.{number}" for number in range(1, 10)),
    "MFU": ("mfu_dit", "mfu_step"),
    "Share of waiting": ("waiting",),
    "Norm of the gradient": ("norm",),
    "Learning rate": ("rate",),
}
"""The charts of a page; what else a validation measures has one each."""


@router.get("/training")
def runs(request: Request, pyramid: Here, here: Service) -> Response:
    """The training runs in the roots."""
    found = training.runs(here)
    return drawn(request, pyramid, "trained.html", runs=found.runs, notes=found.notes)


@router.get("/training/run")
def run(request: Request, pyramid: Here, here: Service, folder: Folder) -> Response:
    """One of them, as it stands now."""
    found, log = watching.seen(folder, here.logs), here.logs.of(folder)
    videos = sampled.samples(folder)
    shown = {"run": found, "charts": [] if log is None else charts(log), "samples": videos[:VIDEOS]}
    return drawn(request, pyramid, "run.html", more=max(0, len(videos) - VIDEOS), **shown)


def charts(log: Log) -> list[Chart]:
    """Those that a log has curves for."""
    names = log.names
    known = {name for some in CHARTS.values() for name in some}
    others = {name: (name,) for name in names if name.startswith("validation/") and name not in known}
    found: list[Chart] = []
    for title, wanted in {**CHARTS, **others}.items():
        curves = {name: curve for name in wanted if (curve := log.curve(name, POINTS)) is not None and curve.steps}
        if curves:
            found.append(chart(title, curves))
    return found
