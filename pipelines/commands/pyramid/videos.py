"""`ziggurat query --videos`: what became of each video."""

from __future__ import annotations

from dataclasses import dataclass

from curation import outputs
from curation.errors import UserError
from curation.pyramid.queries import export
from curation.pyramid.queries import videos as listed
from curation.pyramid.queries.export import Rows
from curation.pyramid.queries.selection import Selection
from curation.pyramid.tiering.retier import opened
from pipelines.commands.pyramid.query import Request, check_count, selected


@dataclass(frozen=True, slots=True)
class VideosAnswer:
    """The videos, or their `count`, or how many were `saved` to `output`; `chosen`: whether columns were named."""

    listing: Selection
    chosen: bool
    count: int | None = None
    output: str | None = None
    saved: int = 0


def videos(request: Request, status: str | None, reason: str | None) -> VideosAnswer:
    """The videos of a status and a reason; conditions on clips are refused."""
    check(request)
    return answer(request, listed.listing(opened(request.pyramid), status, reason))


def check(request: Request) -> None:
    """Before anything is read: UserError for what does not go with videos, and for a wrong output."""
    of_clips = (request.wanted, request.tier, request.order, request.version, request.names, request.timeout)
    of_clips += (request.caption_by,)
    if any(argument for argument in of_clips):
        raise UserError("conditions on clips do not go with --videos", "use --status, --reason, --columns, --limit")
    check_count(request)
    if request.output is not None:
        if outputs.suffix(request.output) not in export.TABLES:
            raise UserError(f"cannot write {request.output} for videos", "name a .jsonl, .csv or .parquet file")
        outputs.check_file(request.output)


def answer(request: Request, found: Selection) -> VideosAnswer:
    """What is wanted of a listing, wherever it comes from."""
    names = selected(request.columns)
    found = found.limit(request.limit)
    found = found.columns(*names) if names else found
    if request.count:
        return VideosAnswer(found, bool(names), count=found.count())
    if request.output is not None:
        return VideosAnswer(
            found, bool(names), output=request.output, saved=export.save(Rows.of(found), request.output)
        )
    return VideosAnswer(found, bool(names))
