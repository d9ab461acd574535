"""What a clip has from its video: where it came from (`uri`, `uris`, `source`) and the user's own columns (`extra`).

These are no columns of `clips`: a video gets more names as it is met again. `Query` finds clips by them (`condition`)
and adds them to its batches (`Joined`), a batch at a time, as the ledger has them at that moment.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

import pyarrow as pa

from curation.errors import UserError
from curation.inputs import uris
from curation.pyramid.queries import conditions
from curation.pyramid.queries.conditions import ALL, OneOf
from curation.pyramid.queries.extra import Own, is_range, matches, named, number, own_columns, parsed, plain

if TYPE_CHECKING:
    from curation.pyramid.store import Pyramid

FIELDS = (
    pa.field("uri", pa.string()),
    pa.field("uris", pa.list_(pa.string())),
    pa.field("source", pa.string()),
    pa.field("extra", pa.string()),
)
"""`uris`: all names that the video was met under; `uri`: the first of them; `source`: its file name. `extra`: the own
columns as they are kept, one JSON object."""

NAMES = tuple(field.name for field in FIELDS)
SEARCHED = ("uri", "source")
TAKEN = frozenset((*ALL, *NAMES, "file_name"))
"""Names that a column of the user's does not get; the last one is an export's."""
_KEPT = 100_000
"""Videos whose names are held at a time, so that one with many clips is read once."""


def source_name(uri: str) -> str:
    """The file name at the end of a path or a URI (without its options, percent signs resolved)."""
    local = uris.local_path(uri)
    if local is None:
        return unquote(uri.partition("?")[0].rstrip("/").rpartition("/")[2])
    name = local.rstrip("/").rpartition("/")[2]
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "replace")


def own(pyramid: Pyramid) -> dict[str, Own]:
    """The user's own columns by their names in a query."""
    return own_columns(pyramid, TAKEN | {*pyramid.own_score_columns})


def known(pyramid: Pyramid, name: str) -> Own | None:
    """The own column called `name`, None for one of `NAMES`; UserError where a video has no such column."""
    if name in NAMES:
        return None
    columns = own(pyramid)
    found = named(columns, name)
    if found is None:
        conditions.known(name, (*ALL, *pyramid.own_score_columns, *NAMES, *columns))
        raise AssertionError(name)
    return found


def condition(pyramid: Pyramid, column: str, value: Any) -> OneOf:
    """What `where(column=value)` means for a column of the videos: the clips of those that have the value."""
    if column in SEARCHED:
        return OneOf("video_id", tuple(sorted(_named(pyramid, column, value))))
    if column in NAMES:
        conditions.known(column, (*conditions.NUMBERS, *conditions.TEXTS, *SEARCHED), "to search by")
    found = known(pyramid, column)
    assert found is not None, column
    test = matches(found, value)
    if is_range(found, value) and not any(_valued(pyramid, found.key, lambda text: number(text) is not None)):
        raise UserError(f"no value of {found.name} is a number, so none is in a range", "give a text of the column")
    return OneOf("video_id", tuple(sorted(_valued(pyramid, found.key, test))))


def _named(pyramid: Pyramid, column: str, value: Any) -> Iterator[str]:
    if value is None:
        raise UserError(f"every clip has a {column}", "give a text")
    wanted = frozenset(conditions.wanted_texts(column, value))
    for batch in pyramid.dataset("videos").scanner(columns=["video_id", "uris"]).to_batches():
        for video_id, names in zip(batch["video_id"].to_pylist(), batch["uris"].to_pylist(), strict=True):
            if any((name if column == "uri" else source_name(name)) in wanted for name in names or ()):
                yield video_id


def _valued(pyramid: Pyramid, key: str, test: Callable[[Any], bool]) -> Iterator[str]:
    for batch in pyramid.dataset("videos").scanner(columns=["video_id", "extra"]).to_batches():
        for video_id, text in zip(batch["video_id"].to_pylist(), batch["extra"].to_pylist(), strict=True):
            if test(parsed(text).get(key)):
                yield video_id


@dataclass(frozen=True, slots=True)
class _Video:
    """What the ledger says of a video, as far as it is a column here."""

    uris: list[str]
    extra: str | None
    own: dict[str, Any]

    def value(self, name: str, own: Own | None) -> Any:
        if own is not None:
            return plain(self.own.get(own.key), own.type)
        if name == "extra":
            return self.extra
        if name == "uris":
            return self.uris
        first = self.uris[0] if self.uris else None
        return source_name(first) if first and name == "source" else first


_UNKNOWN = _Video([], None, {})


class Joined:
    """Adds columns of the videos to batches of clips that hold `video_id`. One for each stream: it remembers videos."""

    def __init__(self, pyramid: Pyramid, columns: Mapping[str, Own | None]) -> None:
        """`columns`: the own column behind each name, None for one of `NAMES`."""
        self._pyramid = pyramid
        self._columns = columns
        self._videos: dict[str, _Video] = {}

    def fields(self) -> list[pa.Field]:
        fixed = {field.name: field for field in FIELDS}
        return [fixed[name] if own is None else pa.field(name, own.type) for name, own in self._columns.items()]

    def add(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        """The batch with the columns behind its own; null for a clip whose video is not in the ledger yet."""
        ids = batch["video_id"].to_pylist()
        self._read([video_id for video_id in dict.fromkeys(ids) if video_id and video_id not in self._videos])
        videos = [self._videos.get(video_id, _UNKNOWN) for video_id in ids]
        for field in self.fields():
            own = self._columns[field.name]
            batch = batch.append_column(field, pa.array([video.value(field.name, own) for video in videos], field.type))
        for video_id in list(self._videos)[: max(0, len(self._videos) - _KEPT)]:
            del self._videos[video_id]
        return batch

    def _read(self, ids: list[str]) -> None:
        from curation.pyramid.storage.lookup import select

        if not ids:
            return
        dataset = self._pyramid.dataset("videos")
        there = [name for name in ("video_id", "uris", "extra") if name in dataset.schema.names]  # it may be older
        for row in select(dataset, "video_id", ids, there).to_pylist():
            text = row.get("extra")
            self._videos[row["video_id"]] = _Video(row["uris"] or [], text, parsed(text))
