"""The contact sheet: one PNG with clips that a tier keeps and clips that it drops, their scores, and what they miss.

`ziggurat sheet`. It comes after a run, for a person who asks whether a threshold is right: frames come from `samples`,
so a dropped clip is as easy to look at as a kept one and no source is decoded. Which clips are shown follows from their
ids and the seed alone; memory holds the chosen ones, however large the pyramid is.
"""

from __future__ import annotations

import hashlib
import heapq
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from itertools import chain
from types import MappingProxyType
from typing import Any

import pyarrow as pa

from curation import outputs
from curation.errors import UserError
from curation.pyramid.queries import conditions, kinds
from curation.pyramid.queries.lineage import source_name
from curation.pyramid.queries.query import Query
from curation.pyramid.storage.lookup import select
from curation.pyramid.store import Pyramid
from curation.pyramid.tiering.retention import tier_report
from curation.pyramid.tiering.retier import opened
from curation.pyramid.tiering.tiers import JUDGED
from pipelines.sheet.canvas import Canvas, decoded, printable
from pipelines.sheet.layout import PAGE, Sheet, Tile, arrange, draw_badge, draw_frames, draw_sheet
from pipelines.sheet.misses import misses

_COLUMNS = (
    "clip_id",
    "video_id",
    "start_s",
    "end_s",
    *JUDGED,
    "decision_by",
)


def _scores(pyramid: Pyramid) -> list[str]:
    return [column for score in pyramid.scores for column in (score, f"{score}_why")]


def draw(
    pyramid_uri: str, output: str | os.PathLike[str], tier: str | None, clips: int, seed: int, kind: str | None = None
) -> int:
    """Write the sheet of `tier` (the loosest by default) to `output`, a path or URI; returns how many clips it shows.
    `kind`: only images, or only videos.

    UserError where the pyramid has no such clips, the tier is unknown or the file cannot be written.
    """
    place = os.fspath(output)
    check_output(place)
    pyramid = opened(pyramid_uri)
    name = tier or next(iter(pyramid.tiers.names), None)
    query = (pyramid.query() if name is None else pyramid.tier(name)).pinned()
    of_kind = {} if kind is None else {kinds.COLUMN: kind}
    kept, dropped = chosen(query, clips, seed, of_kind)
    if not kept and not dropped:
        raise UserError(
            f"{pyramid.uri} has no {f'{kind} clips' if kind else 'clips'} to show ({_told(video_counts(pyramid))})",
            "curate videos into it with `ziggurat curate`, or ask `ziggurat why` about one of them",
        )
    sheet = describe(query, name, kept, dropped, of_kind)
    places = arrange(sheet)
    canvas = Canvas(places.width, places.height, PAGE)
    draw_sheet(canvas, sheet, places)
    for clip_id, frames in pyramid.samples([*kept, *dropped]):
        draw_frames(canvas, places.tiles[clip_id], [decoded(frame) for frame in frames])
    for tile in (*sheet.kept, *sheet.dropped):
        draw_badge(canvas, places.tiles[tile.row["clip_id"]], tile)
    outputs.write(place, canvas.png())
    return len(kept) + len(dropped)


def chosen(
    query: Query, clips: int, seed: int, among: Mapping[str, str] = MappingProxyType({})
) -> tuple[list[str], list[str]]:
    """Ids of kept and dropped clips, `clips` in all: half and half, unless one side has fewer. `among`: conditions that
    clips satisfy on either side.

    The order is that of a keyed hash of the id: a clip that is on the sheet stays on it as the pyramid grows, until
    others push it out, and whatever Lance does to the order of rows.
    """
    there = query.pyramid.schema("clips").names  # `Query` gives them all, of older pyramids too
    test = conditions.expression(query.conditions, there)
    bounded = conditions.columns(query.conditions, there) - {"clip_id", "start_s", "end_s"}
    everything = Query(query.pyramid).where(**among).at(query.version).columns("clip_id", "start_s", "end_s", *bounded)
    kept: list[tuple[bytes, str]] = []
    dropped: list[tuple[bytes, str]] = []
    for batch in everything.batches():
        table = pa.Table.from_batches([batch])
        inside = set((table if test is None else table.filter(test))["clip_id"].to_pylist())
        outside = [name for name in table["clip_id"].to_pylist() if name not in inside]
        kept = heapq.nsmallest(clips, chain(kept, keyed(inside, seed)))
        dropped = heapq.nsmallest(clips, chain(dropped, keyed(outside, seed)))
    first = min(len(kept), max(clips - clips // 2, clips - len(dropped)))
    return [name for _, name in kept[:first]], [name for _, name in dropped[: clips - first]]


def keyed(ids: Iterable[str], seed: int) -> Iterator[tuple[bytes, str]]:
    """Ids with what they are chosen by, smallest first."""
    key = str(seed).encode()[:64]
    for name in ids:
        yield hashlib.blake2b(name.encode(), digest_size=8, key=key).digest(), name


def describe(
    query: Query,
    tier: str | None,
    kept: Sequence[str],
    dropped: Sequence[str],
    among: Mapping[str, str] = MappingProxyType({}),
) -> Sheet:
    """Everything that the sheet says, read at the query's version, of the clips that `among` lets be counted."""
    pyramid = query.pyramid
    tiles = tiles_of(Query(pyramid).at(query.version), tier, [*kept, *dropped])
    order = [*pyramid.tiers.effective(tier), "decision"] if tier else []
    return Sheet(
        pyramid=pyramid.uri,
        recipe=pyramid.recipe_name,
        date=datetime.now(UTC).date().isoformat(),
        tier=tier,
        clips=Query(pyramid).where(**among).at(query.version).count(),
        tiers=tuple(tier_report(pyramid, version=query.version, among=among)),
        kept=tuple(sorted((tiles[name] for name in kept), key=_by_name)),
        dropped=tuple(sorted((tiles[name] for name in dropped), key=lambda tile: _by_miss(tile, order))),
        videos=video_counts(pyramid),
    )


def tiles_of(query: Query, tier: str | None, ids: Sequence[str]) -> dict[str, Tile]:
    """The tiles of some clips, by their ids; `tier`: the one whose ranges they are judged by."""
    pyramid = query.pyramid
    table = query.where(clip_id=list(ids)).columns(*_COLUMNS, *_scores(pyramid)).to_table()
    rows = {row["clip_id"]: row for row in table.to_pylist()}
    names = _file_names(pyramid, {row["video_id"] for row in rows.values()})
    return {clip_id: _tile(pyramid, tier, row, names) for clip_id, row in rows.items()}


def _tile(pyramid: Pyramid, tier: str | None, row: dict[str, Any], names: dict[str, str]) -> Tile:
    missed = tuple(misses(pyramid.tiers, tier, row)) if tier else ()
    name = names.get(row["video_id"]) or str(row["video_id"])
    return Tile(row, name, pyramid.tiers.highest(row), missed)


def _by_name(tile: Tile) -> tuple[str, float]:
    return tile.name, tile.row["start_s"]


def _by_miss(tile: Tile, order: Sequence[str]) -> tuple[int, float, str, float]:
    """Those that one filter drops stand together, near misses first: there a threshold is wrong or right."""
    worst = tile.missed[0]
    return order.index(worst.column), worst.by, *_by_name(tile)


def _file_names(pyramid: Pyramid, video_ids: Iterable[str]) -> dict[str, str]:
    rows = select(pyramid.dataset("videos"), "video_id", sorted(video_ids), ["video_id", "uris"]).to_pylist()
    return {row["video_id"]: file_name(row["uris"][0]) for row in rows if row["uris"]}


def file_name(uri: str) -> str:
    """The last part of a path or URI, fit to be drawn."""
    return printable(source_name(uri)) or uri


def video_counts(pyramid: Pyramid) -> Counter[tuple[str, str | None]]:
    """How many videos ended in each (status, reason)."""
    counts: Counter[tuple[str, str | None]] = Counter()
    for batch in pyramid.dataset("videos").to_batches(columns=["status", "reason"]):
        counts.update(zip(batch["status"].to_pylist(), batch["reason"].to_pylist(), strict=True))
    return counts


def _told(counts: Counter[tuple[str, str | None]]) -> str:
    lost = [f"{reason or status} {count}" for (status, reason), count in counts.most_common(4)]
    return f"{counts.total()} videos: {', '.join(lost)}" if lost else "no video was curated yet"


def check_output(output: str) -> None:
    """Before anything is read: a wrong place for the file is told at once."""
    if outputs.suffix(output) != ".png":
        raise UserError(f"{output} is not a .png file, and the sheet is one", "give a name that ends in .png")
    outputs.check_file(output)
