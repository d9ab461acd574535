"""`/clips`: pages of clips by the command line's query language, their number, and one clip with all that is known."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Path, Query, Request
from pydantic import BaseModel

from curation.pyramid.history.ledger import Ledger
from curation.pyramid.queries.paging import Place, page
from curation.pyramid.similar.places import BEST
from pipelines.api import shapes
from pipelines.api.guard import Here
from pipelines.api.problems import not_found
from pipelines.api.shapes import AS_ARROW, WHERE, After, Asked, Clips, Columns, Limit, Order, Row
from pipelines.commands.pyramid import query

router = APIRouter(tags=["clips"])
ClipId = Annotated[str, Path(pattern=r"^[0-9A-Za-z_-]{1,80}$", description="A clip's whole id.")]


class Count(BaseModel):
    """How many clips a query keeps. `scores`: those that it asks for; `absent`: those of them that no clip has."""

    clips: int
    notes: list[str]
    scores: list[str]
    absent: list[str]


class Known(BaseModel):
    """All that is known of a clip: its row, its video's, what models said of it, and what it is a copy of or has copies
    of.
    """

    clip: Row
    video: Row | None
    captions: list[Row]
    copies: list[str]


@router.get("/clips", openapi_extra=WHERE, response_model=Clips, responses=AS_ARROW)
def clips(
    request: Request,
    found: Asked,
    limit: Limit = 50,
    after: After = None,
    order: Order = None,
    columns: Columns = None,
    total: Annotated[bool, Query(description="Count all pages as well, and tell what is left out.")] = False,
) -> Any:
    """A page of clips. Clips that lack the column of an order have no place in it."""
    wanted = shapes.ordered(shapes.selected(found, columns), order)
    got = page(wanted, limit, None if after is None else Place.of(after))
    told = Clips(
        clips=[],
        next=None if got.following is None else got.following.encoded(),
        version=got.version,
        total=wanted.at(got.version).count() if total else None,
        notes=query.notes(wanted.at(got.version), None) if total else [],
    )
    return shapes.page_of(request, got.rows, "clips", told)


@router.get("/clips/count", openapi_extra=WHERE)
def count(
    found: Asked,
    order: Order = None,
    limit: Annotated[int | None, Query(ge=0, lt=1 << 31, description="A note tells how many more there are.")] = None,
) -> Count:
    """How many clips a query keeps, and what is to be known beside its rows."""
    wanted = shapes.ordered(found, order)
    beside = query.beside(wanted, limit)
    return Count(clips=wanted.count(), notes=list(beside.notes), scores=list(beside.scores), absent=list(beside.absent))


@router.get("/clips/{clip_id}")
def clip(clip_id: ClipId, pyramid: Here) -> Known:
    """One clip."""
    row = shapes.clip(pyramid, clip_id)
    if row is None:
        raise not_found(f"there is no clip {clip_id}")
    history = Ledger(pyramid).history(clip_id)
    of_clip = [one for one in history.captions if one["clip_id"] == clip_id]
    video = next((one for one in history.videos if one["video_id"] == row["video_id"]), None)
    return Known(
        clip=row,
        video=None if video is None else shapes.plain(video),
        captions=shapes.plain(of_clip),
        copies=_copies(pyramid, row),
    )


def _copies(pyramid: Here, row: Row) -> list[str]:
    """The other clips of the group that a clip is of; the best one first, where it is not this one."""
    if BEST not in pyramid.dataset("clips").schema.names:
        return []
    best = row.get(BEST) or row["clip_id"]
    group = pyramid.query().where(**{BEST: best}).limit(shapes.MOST_ROWS).ids()
    return [name for name in dict.fromkeys((best, *group)) if name != row["clip_id"]]
