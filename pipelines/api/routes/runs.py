"""`/runs`: the records of the runs that have worked on the pyramid, also while they are at work."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Path, Query
from pydantic import BaseModel

from curation.errors import UserError
from curation.pyramid.history import runs as records
from pipelines.api.guard import Here
from pipelines.api.problems import not_found
from pipelines.api.shapes import Row, plain
from pipelines.client.wire import MOST_ROWS
from pipelines.commands.pyramid.tiers import plain as as_data

router = APIRouter(tags=["runs"])
_ID = r"^[A-Za-z0-9-]{1,64}$"


class Runs(BaseModel):
    """The newest first. `state` of each is judged now: a run whose driver is dead is not at work. `next`: the argument
    `after` of the page that follows.
    """

    runs: list[Row]
    next: str | None


@router.get("/runs")
def runs(
    pyramid: Here,
    limit: Annotated[int, Query(ge=1, le=MOST_ROWS)] = 50,
    after: Annotated[str | None, Query(pattern=_ID, description="A run: go on with what is older.")] = None,
) -> Runs:
    """The newest runs."""
    found = records.listed(pyramid.files)
    if after is not None:
        ids = [run.run for run in found]
        if after not in ids:
            raise not_found(f"there is no run {after}", "ask for the first page again")
        found = found[: ids.index(after)]
    some = found[-limit:]
    return Runs(runs=[_row(run) for run in reversed(some)], next=some[0].run if len(found) > len(some) else None)


@router.get("/runs/{run}")
def run(run: Annotated[str, Path(pattern=_ID, description="An id, or the beginning of one.")], pyramid: Here) -> Row:
    """The record of one run, with its state."""
    try:
        return _row(records.find(pyramid.files, run))
    except UserError as error:
        raise not_found(error.cause, error.remedy) from None


def _row(run: records.Run) -> Row:
    return {**plain(as_data(run)), "state": records.state(run)}
