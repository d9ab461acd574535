"""`ziggurat query`: arguments in, one query, and its rows, their number, or a file or folder of them.

A file or a folder gets all rows unless `--limit` is given, and then it is told how many were left out.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from curation import outputs
from curation.contract import AMONG_OTHERS, NOT_OF_IMAGES, Kind
from curation.errors import UserError
from curation.pyramid.queries import export, extra, kinds, lineage
from curation.pyramid.queries.conditions import ALL, Between
from curation.pyramid.queries.extra import Own
from curation.pyramid.queries.naming import Pattern
from curation.pyramid.queries.query import Query
from curation.pyramid.queries.selection import Selection
from curation.pyramid.store import Pyramid
from curation.pyramid.tiering.retier import opened
from curation.pyramid.tiering.tiers import Range
from pipelines.commands.pyramid.conditions import conditions, number_or_range


@dataclass(frozen=True, slots=True)
class Request:
    """The arguments of `ziggurat query`; `wanted` are the conditions as they were typed."""

    pyramid: str
    wanted: Sequence[str] = ()
    tier: str | None = None
    order: str | None = None
    limit: int | None = None
    columns: str | None = None
    version: str | None = None
    output: str | None = None
    names: str | None = None
    count: bool = False
    timeout: float | None = None
    caption_by: str | None = None


@dataclass(frozen=True, slots=True)
class Answer:
    """What a query gives: its rows (`query`, `columns`), or their `count`, or what was `saved`; what is to be known
    `beside` it; and whether captions of named makers were asked for.
    """

    query: Selection
    columns: tuple[str, ...]
    beside: Beside
    count: int | None = None
    saved: Saved | None = None
    by_makers: bool = False


@dataclass(frozen=True, slots=True)
class Beside:
    """What is to be known beside the rows of a query: the `scores` that it asks for, those of them that are `absent`
    from every clip, and in words all that a person would otherwise take for all there is.
    """

    scores: tuple[str, ...]
    absent: tuple[str, ...]
    notes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Saved:
    """What was written: `clips` rows or files at `output`; of files their `bytes`, and how many were `missing`."""

    output: str
    clips: int
    bytes: int | None = None
    missing: int = 0


def query(request: Request) -> Answer:
    """Ask, and write where an output is named; without one the rows are read by whoever takes the answer."""
    check(request)
    found = built(opened(request.pyramid), request)
    count = found.count() if request.count else None
    saved = None if request.output is None else _save(found, request.output, request.names or "{clip_id}")
    told = beside(found, request.limit)
    return Answer(found, selected(request.columns), told, count, saved, request.caption_by is not None)


def check(request: Request) -> None:
    """Before anything is read: UserError for what would be ignored, and for an output that cannot be written."""
    check_count(request)
    if request.output is not None:
        check_output(request.output, request.names)
    elif request.names is not None:
        raise UserError("--names is for a folder of mp4 files", "name one with --output")


def check_count(request: Request) -> None:
    """UserError for an output beside `--count`, which would be ignored."""
    if request.count and request.output is not None:
        raise UserError("--output has no effect beside --count", "leave one of the two out")


def built(pyramid: Pyramid, request: Request) -> Query:
    """The query that a request means, of an open pyramid."""
    query = pyramid.query().where(**asked(pyramid, request.wanted)).within(request.timeout).limit(request.limit)
    query = query.tier(request.tier) if request.tier else query
    version = request.version
    query = query.at(int(version) if version and version.isdigit() else version)
    if request.caption_by is not None:
        query = query.captions_by(*named(request.caption_by))
    if request.order:
        query = query.order(request.order.lstrip("-"), descending=request.order.startswith("-"))
    names = selected(request.columns)
    return query.columns(*names) if names else query.whole()


def asked(pyramid: Pyramid, arguments: Sequence[str]) -> dict[str, Any]:
    """Conditions on any column that a query has; those of the user's own columns by these columns' types."""
    owns: dict[str, Own] = {}

    def other(name: str) -> str | None:
        if name in lineage.SEARCHED:
            return name
        if not owns:
            owns.update(lineage.own(pyramid))
        found = extra.named(owns, name)
        return found.name if found else None

    def all_of_them() -> Sequence[str]:
        scores = (*pyramid.about.scores, *pyramid.own_score_columns)
        return tuple(dict.fromkeys((*ALL, *scores, *lineage.SEARCHED, *lineage.own(pyramid))))

    found = conditions(arguments, other, pyramid.about.scores, all_of_them)
    return {column: _typed(owns[column], text) if column in owns else text for column, text in found.items()}


def _typed(own: Own, text: str) -> Any:
    if text == "null":
        return None
    number = number_or_range(text)
    if pa.types.is_string(own.type):
        return _range(own.name, number) if isinstance(number, tuple) else text
    if pa.types.is_boolean(own.type):
        if text not in ("true", "false"):
            raise UserError(f"--{own.name} {text!r} is no truth value", "write true, false or null")
        return text
    if number is None:
        raise UserError(f"--{own.name} {text!r} is not a range", "write low..high, low.., ..high, a number or null")
    return number


def _range(column: str, bounds: tuple[float | None, float | None]) -> Range:
    try:
        return Range.of(bounds)
    except ValueError as error:
        raise UserError(f"--{column}: {error}", "write low..high") from None


def selected(columns: str | None) -> tuple[str, ...]:
    """The names in `--columns`."""
    return named(columns) if columns else ()


def named(text: str) -> tuple[str, ...]:
    """Names with commas between them."""
    return tuple(name.strip() for name in text.split(","))


def check_output(output: str, names: str | None) -> None:
    """Before anything is read: a wrong place, kind or pattern is told at once."""
    suffix = outputs.suffix(output)
    if suffix and suffix not in export.TABLES:
        raise UserError(
            f"cannot write {suffix} files",
            "name a .jsonl, .csv or .parquet file, or a folder for mp4 files (one with a dot in its name: end it in /)",
        )
    if suffix and names is not None:
        raise UserError("--names is for a folder of mp4 files", f"{output} is one file: leave it out")
    if suffix:
        outputs.check_file(output)
    else:
        Pattern.of(names or "{clip_id}")
        outputs.check(output)


def _save(query: Query, output: str, names: str) -> Saved:
    if outputs.suffix(output):
        return Saved(output, export.save(export.Rows.of(query), output))
    done = export.videos(query, output, names)
    return Saved(output, done.files, done.bytes, done.missing)


def notes(query: Query, limit: int | None) -> list[str]:
    """What a person would otherwise take for all there is."""
    return list(beside(query, limit).notes)


def beside(query: Query, limit: int | None) -> Beside:
    """What is to be known beside the rows; `limit`: how many of them are taken."""
    scores = asked_scores(query)
    nowhere = {score: why for score in scores if (why := absent(query, score)) is not None}
    return Beside(tuple(scores), tuple(nowhere), tuple(_notes(query, limit, nowhere)))


def _notes(query: Query, limit: int | None, nowhere: Mapping[str, str]) -> list[str]:
    told = [*nowhere.values(), *_unplaced(query)]
    whole = query.limit(None)
    if images := _spared_images(whole):
        told.append(f"{images} of the clips are images, which a range over motion, jitter, fps or length does not drop")
    if limit is not None and (total := whole.count()) > limit:
        told.append(f"--limit {limit}: {limit} of {total} clips")
    column = query.ordering[0] if query.ordering else None
    if column is not None and column not in nowhere:
        left_out = Query(query.pyramid, query.conditions, version=query.version).count() - whole.count()
        if left_out:
            told.append(f"{left_out} clips without {column} have no place in the order and are left out")
    return told


def _unplaced(query: Query) -> list[str]:
    """What a query asks for that a command has not made yet, beside the scores."""
    asked = {one.column for one in query.conditions}
    there = Query(query.pyramid).at(query.version)
    return [
        f"no clip of this pyramid has a {one.column}: `ziggurat {one.command} {query.pyramid.uri}` looks for them"
        for one in AMONG_OTHERS.values()
        if one.column in asked and not there.having(one.column).limit(1).ids()
    ]


def _spared_images(query: Query) -> int:
    """How many images a query gives that some condition of it could not judge; 0 where it asks for a kind."""
    asked = [one for one in query.conditions if isinstance(one, Between) and not one.measured]
    chosen = any(one.column == kinds.COLUMN for one in query.conditions)
    if chosen or not any(one.column in NOT_OF_IMAGES for one in asked):
        return 0
    return query.where(kind=str(Kind.IMAGE)).count()


def asked_scores(query: Query) -> list[str]:
    """Scores that the conditions or the order ask for."""
    asked = {one.column for one in query.conditions} | ({query.ordering[0]} if query.ordering else set())
    return [score for score in query.pyramid.scores if score in asked]


def absent(query: Query, score: str) -> str | None:
    """That no clip of the pyramid has `score`, and why; None where one has it, or where there are no clips."""
    everything = Query(query.pyramid).at(query.version)
    if everything.having(score).limit(1).ids():
        return None
    reasons: Counter[str] = Counter()
    for batch in everything.columns(f"{score}_why").batches():
        for pair in batch.column(0).value_counts().to_pylist():
            reasons[pair["values"] or "not computed yet"] += pair["counts"]
    if not reasons:
        return None
    told = ", ".join(f"{why}: {count}" for why, count in reasons.most_common())
    return f"no clip of this pyramid has the score {score} ({told} clips)"
