"""Rows and values as JSON has them, pages of rows as JSON or Arrow, and the arguments that several routes take."""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import datetime
from typing import Annotated, Any

import pyarrow as pa
from fastapi import Depends, Query, Request
from fastapi.responses import Response
from pydantic import BaseModel, Field

from curation.errors import UserError
from curation.pyramid.store import Pyramid
from pipelines.api import problems
from pipelines.api.guard import Here
from pipelines.client.wire import ARROW, MOST_ROWS, PAGE, RESERVED
from pipelines.commands.pyramid import query

Row = dict[str, Any]
Limit = Annotated[int, Query(ge=1, le=MOST_ROWS, description="Rows of a page.")]
After = Annotated[
    str | None, Query(max_length=500, description="Where to go on: `next` of the page before. Of the same query.")
]
Tier = Annotated[str | None, Query(max_length=200, description="Only clips of this tier.")]
Columns = Annotated[str | None, Query(max_length=2000, description="Names with commas between them.")]
Order = Annotated[str | None, Query(max_length=100, description="A column; `-column`: the largest first.")]
Version = Annotated[str | None, Query(max_length=200, description="A version or tag of the clips, not the latest.")]
CaptionBy = Annotated[str | None, Query(max_length=500, description="Captions of the first of these makers.")]
WHERE: dict[str, Any] = {
    "parameters": [
        {
            "name": "where",
            "in": "query",
            "required": False,
            "style": "form",
            "explode": True,
            "description": (
                "Conditions by column, as on the command line: `motion=1..8`, `aesthetic=5..`, `kind=video`, "
                "`source=day1.mp4`, `caption=null`. A column is given once."
            ),
            "schema": {"type": "object", "additionalProperties": {"type": "string"}},
            "example": {"motion": "1..8"},
        }
    ]
}
"""What OpenAPI says of parameters whose names are columns."""
_BINARY = {"schema": {"type": "string", "format": "binary"}}
AS_ARROW: dict[int | str, dict[str, Any]] = {200: {"content": {ARROW: _BINARY}}}
"""What OpenAPI says of routes whose rows come by `page_of`."""


class Clips(BaseModel):
    """A page of clips. `next`: the argument `after` of the page that follows, null after the last; `version` of the
    clips; `total`: of all pages, where it was asked for.
    """

    clips: list[Row]
    next: str | None
    version: int
    total: int | None = None
    notes: list[str] = Field(default_factory=list, description="what is to be known beside the rows")


def conditions(request: Request, *others: str) -> tuple[str, ...]:
    """The conditions among the parameters, as a command line has them; `others` have a meaning of their own, too."""
    reserved = {*RESERVED, *others}
    return tuple(f"--{name}={value}" for name, value in request.query_params.multi_items() if name not in reserved)


def asked(
    request: Request, pyramid: Here, tier: Tier = None, caption_by: CaptionBy = None, version: Version = None
) -> query.Query:
    """The query of a request: its conditions, and its tier."""
    wanted = conditions(request)
    try:
        return query.built(pyramid, query.Request(pyramid.uri, wanted, tier, caption_by=caption_by, version=version))
    except UserError as error:
        raise problems.of(error, _wrong(pyramid, wanted, tier)) from None


def _wrong(pyramid: Pyramid, wanted: Sequence[str], tier: str | None) -> str | None:
    """Which parameter it is that makes no query."""
    for one in wanted:
        try:
            query.Query(pyramid).where(**query.asked(pyramid, [one]))
        except UserError:
            return one.removeprefix("--").partition("=")[0]
    return "tier" if tier is not None and tier not in pyramid.tiers.names else None


Asked = Annotated[query.Query, Depends(asked)]


def ordered(found: query.Query, order: str | None) -> query.Query:
    """In the order that a request names."""
    return found.order(order.lstrip("-"), order.startswith("-")) if order else found


def selected(found: query.Query, columns: str | None) -> query.Query:
    """With the columns named, or with everything that is told of a clip."""
    names = query.selected(columns)
    return found.columns(*names) if names else found.whole()


def page_of(request: Request, table: pa.Table, field: str, page: BaseModel) -> Any:
    """The page with the rows in its `field`; or where the request asks for it, as an Arrow stream."""
    if ARROW not in request.headers.get("accept", ""):
        return page.model_copy(update={field: rows(table)})
    rest = page.model_dump_json(exclude={field}).encode()
    named = table.replace_schema_metadata({**(table.schema.metadata or {}), PAGE: rest})
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, named.schema) as stream:
        stream.write_table(named)
    return Response(sink.getvalue().to_pybytes(), media_type=ARROW)


def rows(table: pa.Table) -> list[Row]:
    return [plain(row) for row in table.to_pylist()]


def plain(value: Any) -> Any:
    """As JSON has it: times in ISO 8601, bytes in hex, null for what is no number."""
    if isinstance(value, dict):
        return {str(name): plain(one) for name, one in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str | bytes):
        return [plain(one) for one in value]
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, bytes):
        return value.hex()
    return None if isinstance(value, float) and not math.isfinite(value) else value


def clip(pyramid: Pyramid, clip_id: str, *columns: str) -> Row | None:
    """The row of a clip with some columns, or all; None where it is not there."""
    found = query.Query(pyramid).where(clip_id=clip_id)
    found = (found.columns(*columns) if columns else found.whole()).limit(1)
    table = rows(found.to_table())
    return table[0] if table else None
