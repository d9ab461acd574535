"""`/search`: clips by words, by a clip that is like them, or by a picture, together with a tier and ranges."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Body, Query, Request
from pydantic import BaseModel

from pipelines.api.guard import Here
from pipelines.api.shapes import AS_ARROW, WHERE, Columns, Row, Tier, conditions, page_of, plain
from pipelines.client.wire import OF_SEARCH
from pipelines.commands.pyramid.tiers import plain as as_data
from pipelines.commands.similar import search as command

router = APIRouter(tags=["search"])
MOST = 200
Limit = Annotated[int, Query(ge=1, le=MOST)]
Space = Annotated[str | None, Query(max_length=32, description="Which vectors; by default the first that can.")]


class Found(BaseModel):
    """The clips, the most alike first, each with its `similarity`; in which `space`, and more `about` that; whether
    all vectors were compared (`exact`).
    """

    clips: list[Row]
    space: str
    about: Row
    by: str
    exact: bool
    notes: list[str]


@router.get("/search", openapi_extra=WHERE, response_model=Found, responses=AS_ARROW)
def search(
    request: Request,
    pyramid: Here,
    text: Annotated[str | None, Query(max_length=2000, description="Words that say what is seen.")] = None,
    like: Annotated[str | None, Query(max_length=80, description="The id of a clip.")] = None,
    space: Space = None,
    tier: Tier = None,
    limit: Limit = 20,
    columns: Columns = None,
) -> Any:
    """The clips most like some words or a clip: one of `text` and `like` is given."""
    wanted = conditions(request, *OF_SEARCH)
    return _of(request, command.Request(pyramid.uri, text, like, None, space, wanted, tier, limit, columns))


@router.post("/search/image", openapi_extra=WHERE, response_model=Found, responses=AS_ARROW)
def by_picture(
    request: Request,
    pyramid: Here,
    picture: Annotated[bytes, Body(media_type="application/octet-stream", max_length=command.MOST_BYTES)],
    space: Space = None,
    tier: Tier = None,
    limit: Limit = 20,
    columns: Columns = None,
) -> Any:
    """The clips most like a picture (JPEG, PNG, WebP), which is decoded in the sandbox."""
    wanted = conditions(request, *OF_SEARCH)
    return _of(request, command.Request(pyramid.uri, None, None, picture, space, wanted, tier, limit, columns))


def _of(request: Request, asked: command.Request) -> Any:
    found = command.search(asked)
    about = plain(as_data(found.space))
    told = Found(clips=[], space=found.space.name, about=about, by=found.by, exact=found.exact, notes=list(found.notes))
    return page_of(request, found.rows, "clips", told)
