"""The service's JSON becomes the data that functions of commands give, checked by their types."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, TypeVar

import pyarrow as pa
from pydantic import TypeAdapter, ValidationError

from curation.contract import CAPTIONS, CLIPS, VIDEOS
from curation.pyramid.history.ledger import History
from curation.pyramid.history.waiting import Waiting
from curation.pyramid.queries.histogram import Histogram
from curation.pyramid.storage.about import Moved
from curation.pyramid.tiering.retention import TierRow
from curation.shards.manifest import Manifest
from curation.spaces import Space
from curation.stats.report import Stats
from pipelines.client.errors import ServiceError
from pipelines.client.pages import Page
from pipelines.commands.pyramid.query import Beside
from pipelines.commands.pyramid.runs import Seen
from pipelines.commands.pyramid.tiers import TierTable
from pipelines.commands.shards.manifests import Shown
from pipelines.commands.similar.search import Answer as Similar

Row = dict[str, Any]
_TIMES = {field.name for schema in (VIDEOS, CLIPS, CAPTIONS) for field in schema if pa.types.is_timestamp(field.type)}
_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Known:
    """All that is known of a clip: its row, its video's, what models said of it, and the other clips of its group."""

    clip: Row
    video: Row | None
    captions: tuple[Row, ...]
    copies: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Video:
    """A video, and its clips; `more`: it has more than are listed."""

    video: Row
    clips: tuple[Row, ...]
    more: bool


@dataclass(frozen=True, slots=True)
class Columns:
    """What a query may ask by: scores in the order of what they cost, all numbers, all texts."""

    scores: tuple[str, ...]
    numbers: tuple[str, ...]
    texts: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Outcomes:
    """How many videos came to which end and why; how many clips there are, are cut, and are in each tier."""

    videos: Mapping[str, int]
    reasons: Mapping[str, int]
    clips: int
    cut: int
    tiers: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Manifests:
    """All manifests."""

    manifests: tuple[Shown, ...]


@dataclass(frozen=True, slots=True)
class Runs:
    """A page of records, as rows; `next`: where the page that follows begins."""

    runs: tuple[Row, ...]
    next: str | None


@dataclass(frozen=True, slots=True)
class _Tiers:
    pyramid: str
    tiers: tuple[TierRow, ...]
    moved: tuple[Moved, ...]
    changed: int | None
    waiting: Mapping[str, int]
    notes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Search:
    about: Space
    by: str
    exact: bool
    notes: tuple[str, ...]


_TYPES = (Beside, Columns, Histogram, History, Known, Manifest, Manifests, Outcomes, Runs, Seen, Shown, Stats, Video)
_ADAPTERS: dict[Any, TypeAdapter[Any]] = {kind: TypeAdapter(kind) for kind in (*_TYPES, _Search, _Tiers)}


def of(kind: type[_T], data: Any) -> _T:
    """A value of a type; keys of later versions are skipped."""
    try:
        return _ADAPTERS[kind].validate_python(data)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = ".".join(map(str, (kind.__name__, *first["loc"])))
        raise ServiceError(
            f"the service's answer is not understood ({place}: {first['msg']})", "is it as new as this client?", 200
        ) from None


def tiers(data: Any) -> TierTable:
    found = of(_Tiers, data)
    left = Waiting.of(found.waiting) if found.waiting else None
    return TierTable(found.pyramid, found.tiers, found.moved, found.changed, left, found.notes)


def history(data: Any) -> History:
    found = of(History, data)
    videos, clips, captions = (tuple(map(timed, rows)) for rows in (found.videos, found.clips, found.captions))
    return History(videos, clips, found.cut, captions)


def known(data: Any) -> Known:
    found = of(Known, data)
    video = None if found.video is None else timed(found.video)
    return Known(timed(found.clip), video, tuple(map(timed, found.captions)), found.copies)


def video(data: Any) -> Video:
    found = of(Video, data)
    return Video(timed(found.video), tuple(map(timed, found.clips)), found.more)


def seen(data: Any) -> Seen:
    return of(Seen, {"run": data, "state": data.get("state")})


def similar(found: Page) -> Similar:
    told = of(_Search, found.beside)
    return Similar(told.about, told.by, found.rows, told.exact, told.notes)


def timed(row: Row) -> Row:
    """A row of JSON with its times as times."""
    return {
        name: datetime.fromisoformat(one) if name in _TIMES and isinstance(one, str) else one
        for name, one in row.items()
    }
