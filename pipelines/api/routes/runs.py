"""`/runs`: the records of the runs that have worked on the pyramid, also while they are at work."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Path, Query
from pydantic import BaseModel

from curation.pyramid.history import runs as records
from pipelines.api.guard import Here
from pipelines.api.problems import not_found
from pipelines.api.shapes import Row, plain
from pipelines.commands.pyramid.tiers import plain as as_data

router = APIRouter(tags=["runs"])


class Runs(BaseModel):
    """The newest first. `state` of each is judged now: a run whose driver is dead is not at work."""

    runs: list[Row]


@router.get("/runs")
def runs(pyramid: Here, limit: Annotated[int, Query(ge=1, le=1000)] = 50) -> Runs:
    """The newest runs."""
    return Runs(runs=[_row(run) for run in reversed(records.listed(pyramid.files)[-limit:])])


@router.get("/runs/{run}")
def run(run: Annotated[str, Path(pattern=r"^[A-Za-z0-9-]{1,64}$")], pyramid: Here) -> Row:
    """The record of one run, with its state."""
    found = records.read(pyramid.files, run)
    if found is None:
        raise not_found(f"there is no run {run}")
    return _row(found)


def _row(run: records.Run) -> Row:
    return {**plain(as_data(run)), "state": records.state(run)}
