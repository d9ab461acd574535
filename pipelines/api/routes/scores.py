"""`/columns` and `/histogram`: which columns there are to ask by, and how the values of one lie."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Query
from pydantic import BaseModel

from curation.pyramid.queries.conditions import NUMBERS, texts
from curation.pyramid.queries.histogram import MOST_BINS, histogram
from curation.pyramid.review.asking import WORDED
from pipelines.api.guard import Here
from pipelines.api.shapes import WHERE, Asked

router = APIRouter(tags=["scores"])


class Columns(BaseModel):
    """`scores`: in the order of what they cost; `numbers`: all that ranges go over; `texts`: those of text."""

    scores: list[str]
    numbers: list[str]
    texts: list[str]


class Histogram(BaseModel):
    """`counts` between each two of `edges`; how many values lie `below` and `above` all; how many clips have none."""

    column: str
    edges: list[float]
    counts: list[int]
    below: int
    above: int
    null: int


@router.get("/columns")
def columns(pyramid: Here) -> Columns:
    """The columns of clips that a query may ask by."""
    own = pyramid.about.scores
    return Columns(scores=list(pyramid.scores), numbers=[*NUMBERS, *own], texts=[*texts(own), *WORDED])


@router.get("/histogram", openapi_extra=WHERE)
def of_column(
    found: Asked,
    column: Annotated[str, Query(max_length=100)],
    bins: Annotated[int, Query(ge=1, le=MOST_BINS)] = 60,
) -> Histogram:
    """How the values of a column lie among the clips that the conditions keep."""
    got: Any = histogram(found, column, bins)
    return Histogram(**{name: getattr(got, name) for name in Histogram.model_fields})
