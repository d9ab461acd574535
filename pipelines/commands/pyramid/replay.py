"""`ziggurat replay`: one stage on one video or clip, beside what the pyramid holds.

    recipe of the pyramid, or of a run -> the stage, alone -> result -> each value beside the stored one

For whoever asks why a video ended as it did. Nothing is written into the pyramid; calls of an endpoint cost what they
cost.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from curation.errors import UserError
from curation.pyramid.history import recipes
from curation.pyramid.history import runs as records
from curation.pyramid.storage.lookup import select
from curation.pyramid.store import Pyramid
from curation.pyramid.tiering.retier import opened
from curation.rows import CLIP_COLUMNS, frame_columns, frame_fingerprints
from pipelines.commands.pyramid.why import why
from pipelines.config.recipe import Recipe, parsed
from pipelines.execution import alone
from pipelines.stages.results import Captioned, CutDone, Embedded, MeasureDone, Result, Scored, fault_of

_OF_A_VIDEO = ("status", "reason", "clips", "width", "height", "fps", "duration_s", "codec")


@dataclass(frozen=True, slots=True)
class Request:
    """`name`: of a video or a clip, as for `why`. `run`: whose recipe counts; None is the one that the pyramid has."""

    pyramid: str
    name: str
    stage: str
    run: str | None = None


@dataclass(frozen=True, slots=True)
class Value:
    """One column of the video or clip `of`: what the pyramid holds, and what came out now."""

    of: str
    column: str
    stored: Any
    now: Any


@dataclass(frozen=True, slots=True)
class Replayed:
    """What came of it. `fault`: what kept the stage from its work, where that is no matter of the video; `detail`: all
    that is known of a failure. `seconds`: of the stage, its start and the loading of models included.
    """

    stage: str
    of: str
    recipe: str
    seconds: float
    values: tuple[Value, ...]
    fault: str | None
    detail: str


def replay(request: Request) -> Replayed:
    """Run the stage. UserError: no such thing, stage or run; or the set-up lacks what the stage needs."""
    pyramid = opened(request.pyramid)
    recipe = _recipe(pyramid, request.run)
    found = why(request.pyramid, request.name)
    is_first = request.stage == alone.MEASURE
    row = _one(found.videos if is_first else found.clips, request.name, "video" if is_first else "clip")
    began = time.monotonic()
    result = alone.measured(recipe, row) if is_first else alone.worked(pyramid, recipe, row, request.stage)
    seconds = time.monotonic() - began
    values, fault = tuple(_values(pyramid, recipe, result)), fault_of(result)
    of = row["video_id" if is_first else "clip_id"]
    cause = None if fault is None else fault.cause
    return Replayed(request.stage, of, recipe.name, seconds, values, cause, _detail(result))


def _recipe(pyramid: Pyramid, run: str | None) -> Recipe:
    name = f"the recipe of {pyramid.uri}"
    text = pyramid.recipe_text() if run is None else None
    if run is not None:
        record = records.find(pyramid.files, run)
        name = f"the recipe of run {record.run}"
        text = None if record.recipe_version is None else recipes.read(pyramid.files, record.recipe_version)
    if text is None:
        raise UserError(f"{name} was not kept", "name a --run that kept one" if run is None else "name another --run")
    return parsed(text, name)


def _one(rows: Sequence[Mapping[str, Any]], name: str, what: str) -> Mapping[str, Any]:
    if len(rows) != 1:
        told = f"{name!r} means {len(rows)} {what}s, and this stage takes one"
        raise UserError(told, f"give the id of one {what}, as `ziggurat why` shows it")
    return rows[0]


def _detail(result: Result) -> str:
    match result:
        case MeasureDone():
            return str(result.video["detail"] or "")
        case Scored(failed=failed) if failed is not None:
            return failed.detail
        case Captioned() | Embedded():
            return result.fault or ""
        case _:
            return ""


def _values(pyramid: Pyramid, recipe: Recipe, result: Result) -> Iterator[Value]:
    """The columns that the result would write, each beside what is stored."""
    match result:
        case MeasureDone():
            yield from _beside(pyramid, "videos", "video_id", [result.video], _OF_A_VIDEO)
            columns = dict.fromkeys((*CLIP_COLUMNS, *frame_columns(list(frame_fingerprints(recipe.plan)))))
            yield from _beside(pyramid, "clips", "clip_id", _rows(result.clips), columns)
        case Scored():
            yield from _beside(pyramid, "clips", "clip_id", _rows(result.table), result.table.column_names)
        case CutDone():
            rows = [{"clip_id": name, "media_why": result.failed.get(name)} for name in (*result.cut, *result.failed)]
            yield from _beside(pyramid, "clips", "clip_id", rows, ["media_why"])
        case Captioned():
            names = [] if result.clips is None else result.clips.column_names
            yield from _beside(pyramid, "clips", "clip_id", _rows(result.clips), names)
        case Embedded():
            yield from (Value(row["clip_id"], result.space, None, row["why"]) for row in _rows(result.none))
            yield from (
                Value(row["clip_id"], result.space, None, f"{len(row['vector'])} numbers")
                for row in _rows(result.vectors)
            )
        case _:
            raise AssertionError(f"{type(result).__name__} of a stage that knows of nothing else")


def _rows(table: pa.Table | None) -> list[dict[str, Any]]:
    return [] if table is None else table.to_pylist()


def _beside(
    pyramid: Pyramid, dataset: str, key: str, rows: Sequence[Mapping[str, Any]], columns: Collection[str]
) -> Iterator[Value]:
    """What a run says of who made a value is left out: `laplacian`, of several numbers a frame, too."""
    there = pyramid.dataset(dataset)
    shown = [name for name in columns if name in there.schema.names and name not in (key, "laplacian")]
    shown = [name for name in shown if not name.endswith("_by")]
    stored = select(there, key, [row[key] for row in rows], [key, *shown]).to_pylist() if rows else []
    before = {row[key]: row for row in stored}
    for row in rows:
        yield from (Value(row[key], name, before.get(row[key], {}).get(name), row.get(name)) for name in shown)
