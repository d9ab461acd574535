"""`/search`: clips by words, by a clip that is like them, or by a picture, together with a tier and ranges."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Body, Query, Request
from pydantic import BaseModel

from pipelines.api.guard import Here
from pipelines.api.shapes import WHERE, Row, Tier, conditions, rows
from pipelines.commands.similar import search as command

router = APIRouter(tags=["search"])
MOST = 200
_OURS = ("text", "like", "space")
Limit = Annotated[int, Query(ge=1, le=MOST)]
Space = Annotated[str | None, Query(max_length=32, description="Which vectors; by default the first that can.")]


class Found(BaseModel):
    """The clips, the most alike first, each with its `similarity`; in which `space`; whether all vectors were compared
    (`exact`).
    """

    clips: list[Row]
    space: str
    by: str
    exact: bool
    notes: list[str]


@router.get("/search", openapi_extra=WHERE)
def search(
    request: Request,
    pyramid: Here,
    text: Annotated[str | None, Query(max_length=2000, description="Words that say what is seen.")] = None,
    like: Annotated[str | None, Query(max_length=80, description="The id of a clip.")] = None,
    space: Space = None,
    tier: Tier = None,
    limit: Limit = 20,
) -> Found:
    """The clips most like some words or a clip: one of `text` and `like` is given."""
    asked = command.Request(pyramid.uri, text, like, None, space, conditions(request, *_OURS), tier, limit)
    return _of(command.search(asked))


@router.post("/search/image", openapi_extra=WHERE)
def by_picture(
    request: Request,
    pyramid: Here,
    picture: Annotated[bytes, Body(media_type="application/octet-stream", max_length=command.MOST_BYTES)],
    space: Space = None,
    tier: Tier = None,
    limit: Limit = 20,
) -> Found:
    """The clips most like a picture (JPEG, PNG, WebP), which is decoded in the sandbox."""
    asked = command.Request(pyramid.uri, None, None, picture, space, conditions(request, *_OURS), tier, limit)
    return _of(command.search(asked))


def _of(found: command.Answer) -> Found:
    clips = rows(found.rows)
    return Found(clips=clips, space=found.space.name, by=found.by, exact=found.exact, notes=list(found.notes))
