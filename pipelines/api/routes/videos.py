"""`/videos`: the sources, by what became of them, and why; `/history`: all that is known of a name."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Path, Query, Request
from pydantic import BaseModel, Field

from curation.contract import Reason, Status
from curation.pyramid.history.census import apart, census
from curation.pyramid.history.ledger import Ledger
from curation.pyramid.queries.paging import Place
from curation.pyramid.queries.videos import listing
from pipelines.api import shapes
from pipelines.api.guard import Here
from pipelines.api.problems import not_found
from pipelines.api.shapes import AS_ARROW, After, Columns, Limit, Row
from pipelines.commands.pyramid.query import selected
from pipelines.commands.pyramid.why import why

router = APIRouter(tags=["videos"])
VideoId = Annotated[str, Path(pattern=r"^[0-9A-Za-z_-]{1,80}$", description="A video's whole id.")]


class Videos(BaseModel):
    """A page of videos. `next`: the argument `after` of the page that follows."""

    videos: list[Row]
    next: str | None
    total: int


class Outcomes(BaseModel):
    """How many videos came to which end, how many clips there are, are cut, and are in each tier."""

    videos: dict[str, int]
    reasons: dict[str, int]
    clips: int
    cut: int
    tiers: dict[str, int]


class Video(BaseModel):
    """A video, and the clips of it."""

    video: Row
    clips: list[Row]
    more: bool = Field(description="whether it has more clips than are listed")


class History(BaseModel):
    """The videos and clips that a name means, and what models said of these; `cut`: more match than are listed."""

    videos: list[Row]
    clips: list[Row]
    captions: list[Row]
    cut: bool


@router.get("/videos", response_model=Videos, responses=AS_ARROW)
def videos(
    request: Request,
    pyramid: Here,
    limit: Limit = 50,
    after: After = None,
    status: Status | None = None,
    reason: Reason | None = None,
    columns: Columns = None,
) -> Any:
    """A page of videos."""
    found = listing(pyramid, status, reason)
    found = found.columns(*selected(columns)) if columns else found
    rows, end = found.page(limit, None if after is None else Place.of(after))
    told = Videos(videos=[], next=None if end is None else end.encoded(), total=found.count())
    return shapes.page_of(request, rows, "videos", told)


@router.get("/history")
def history(
    name: Annotated[str, Query(max_length=4000, description="An id, its beginning, a URI or a file name.")],
    pyramid: Here,
) -> History:
    """The whole history of a video or a clip."""
    found = why(pyramid.uri, name)
    rows = (shapes.plain(some) for some in (found.videos, found.clips, found.captions))
    return History(**dict(zip(("videos", "clips", "captions"), rows, strict=True)), cut=found.cut)


@router.get("/outcomes")
def outcomes(pyramid: Here) -> Outcomes:
    """What the pyramid holds by now, in numbers."""
    found = census(pyramid)
    by_status, reasons = apart(found.videos)
    return Outcomes(videos=by_status, reasons=reasons, clips=found.clips, cut=found.cut, tiers=dict(found.tiers))


@router.get("/videos/{video_id}")
def video(video_id: VideoId, pyramid: Here) -> Video:
    """One video."""
    known = Ledger(pyramid).history(video_id)
    row = next((one for one in known.videos if one["video_id"] == video_id), None)
    if row is None:
        raise not_found(f"there is no video {video_id}")
    found = pyramid.query().whole().where(video_id=video_id).limit(shapes.MOST_ROWS + 1)
    clips = sorted(shapes.rows(found.to_table()), key=lambda clip: clip["start_frame"] or 0)
    return Video(video=shapes.plain(row), clips=clips[: shapes.MOST_ROWS], more=len(clips) > shapes.MOST_ROWS)
