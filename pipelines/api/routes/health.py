"""`/health` and `/ready`: whether the process lives, and whether it can answer. Both without a token, and without a
word of what is served.
"""

from __future__ import annotations

from http import HTTPStatus
from typing import Annotated, Literal

from fastapi import APIRouter, Depends
from pydantic import BaseModel

from pipelines.api.guard import served
from pipelines.api.problems import ProblemError
from pipelines.api.served import Served

router = APIRouter(tags=["health"])


class Health(BaseModel):
    status: Literal["ok"] = "ok"


@router.get("/health")
def health() -> Health:
    """The process lives."""
    return Health()


@router.get("/ready")
def ready(here: Annotated[Served, Depends(served)]) -> Health:
    """The pyramid can be read."""
    try:
        here.pyramid().dataset("clips").count_rows()
    except Exception as error:
        told = "the pyramid cannot be read at the moment; the service's log has more"
        raise ProblemError(HTTPStatus.SERVICE_UNAVAILABLE, told) from error
    return Health()
