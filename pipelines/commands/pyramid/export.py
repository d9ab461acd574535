"""`ziggurat export`: clips of a tier or of ranges, in the layout that a trainer or a viewer reads; goes on when given
again.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from curation.errors import UserError
from curation.exports import export as exporting
from curation.exports.export import Bucket, Exported, Wanted
from curation.exports.layouts import LAYOUTS
from curation.pyramid.queries.naming import Pattern
from curation.pyramid.queries.query import Query
from curation.pyramid.tiering.retier import opened
from pipelines.commands.pyramid import query
from pipelines.commands.pyramid.conditions import told as in_words


@dataclass(frozen=True, slots=True)
class Request:
    """The arguments of `ziggurat export`; `wanted` are the conditions as they were typed. `buckets`: a table of buckets
    by which webdataset is parted.
    """

    pyramid: str
    layout: str
    output: str
    wanted: Sequence[str] = ()
    tier: str | None = None
    caption_by: str | None = None
    names: str = "{clip_id}"
    buckets: str | None = None
    seed: int = 42


@dataclass(frozen=True, slots=True)
class Prepared:
    """An export that only has to be written."""

    query: Query
    wanted: Wanted
    output: str
    bucket: Bucket | None

    def write(self, told: Callable[[int], None] = lambda _: None) -> Exported:
        """Write, or go on where the same command stopped. `told` gets how many clips are done."""
        return exporting.export(self.query, self.wanted, self.output, self.bucket, told)


def export(request: Request, told: Callable[[int], None] = lambda _: None) -> Exported:
    """Write, or go on where the same command stopped."""
    return prepared(request).write(told)


def prepared(request: Request) -> Prepared:
    """What is wrong in a request is a UserError before anything is written."""
    if request.layout not in LAYOUTS:
        raise UserError(f"no layout {request.layout[:40]!r}", f"there are {', '.join(LAYOUTS)}")
    if request.buckets is not None and request.layout != "webdataset":
        raise UserError(f"{request.layout} is not parted by buckets", "leave --buckets out, or take webdataset")
    Pattern.of(request.names)
    pyramid = opened(request.pyramid)
    asked = query.Request(request.pyramid, request.wanted, request.tier, caption_by=request.caption_by)
    words = list(in_words(request.wanted))
    words += [f"tier {request.tier}"] if request.tier else []
    words += [f"captions by {request.caption_by}"] if request.caption_by else []
    parted = None if request.buckets is None else f"{request.buckets}, seed {request.seed}"
    wanted = Wanted(request.layout, tuple(words), request.names, parted)
    bucket = None if request.buckets is None else _bucket(request.buckets, request.seed)
    return Prepared(query.built(pyramid, asked), wanted, request.output, bucket)


def _bucket(table: str, seed: int) -> Bucket:
    """The bucket rule of training, as a name for a tar file."""
    from training.data import bucket_table
    from training.data.buckets import Assigner, ClipShape, Miss

    assign = Assigner(bucket_table.load(table), seed)

    def named(place: int, row: Mapping[str, Any]) -> str | None:
        found = assign(place, ClipShape.of(row))
        return None if isinstance(found, Miss) else f"{found.resolution}-{found.frames}x{found.height}x{found.width}"

    return named
