"""The sheet of a comparison: clips that only one of two pyramids has, and those that both cut, otherwise, side by side.

`ziggurat compare A B -o FILE.png`. It looks like a contact sheet, and its tiles are made as there. The clips are chosen
while the pyramids are compared; memory holds the chosen ones.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain

import pyarrow as pa

from curation import outputs
from curation.pyramid.queries.comparison import Compared, Comparison
from curation.pyramid.queries.matching import ALONE, CHANGED
from curation.pyramid.queries.query import Query
from curation.pyramid.store import Pyramid
from pipelines.sheet.canvas import Canvas, decoded, shortened
from pipelines.sheet.contact_sheet import keyed, tiles_of
from pipelines.sheet.layout import (
    DROPPED,
    GAP,
    HEADING_H,
    INK,
    KEPT,
    MARGIN,
    PAGE,
    SOFT,
    TILE_W,
    Box,
    Tile,
    columns,
    draw_badge,
    draw_frames,
    draw_heading,
    draw_tile,
    in_rows,
)

_HEADER_H = 140


@dataclass(slots=True)
class Choice:
    """The clips to show, by a keyed hash of their ids: up to `clips` of each group. A pair is told by its clip of A."""

    clips: int
    seed: int
    only_a: list[tuple[bytes, str]] = field(default_factory=list)
    only_b: list[tuple[bytes, str]] = field(default_factory=list)
    changed: list[tuple[bytes, str]] = field(default_factory=list)
    partner: dict[str, str] = field(default_factory=dict)

    def take(self, compared: Compared) -> None:
        """Look at the clips of another range."""
        a, b, matched = compared.a["clip_id"], compared.b["clip_id"], compared.matched
        self.only_a = self._smallest(self.only_a, a.filter(pa.array(matched.a == ALONE)))
        self.only_b = self._smallest(self.only_b, b.filter(pa.array(matched.b == ALONE)))
        pairs = matched.pairs[matched.a[matched.pairs[:, 0]] == CHANGED]
        of_a = a.take(pa.array(pairs[:, 0]))
        self.changed = self._smallest(self.changed, of_a)
        wanted = {name for _, name in self.changed}
        chosen = [row for row, name in enumerate(of_a.to_pylist()) if name in wanted]
        for a_row, b_row in pairs[chosen].tolist():
            self.partner[a[a_row].as_py()] = b[b_row].as_py()

    def _smallest(self, held: list[tuple[bytes, str]], more: pa.ChunkedArray) -> list[tuple[bytes, str]]:
        names: Iterable[str] = (name.as_py() for name in more)
        return heapq.nsmallest(self.clips, chain(held, keyed(names, self.seed)))


@dataclass(frozen=True, slots=True)
class _Shown:
    """A tile, and whether it is of A or of B."""

    tile: Tile
    of_a: bool

    @property
    def clip_id(self) -> str:
        return self.tile.row["clip_id"]


@dataclass(frozen=True, slots=True)
class _Group:
    """Tiles under one heading. `clips`: how many there are of them in all."""

    word: str
    clips: int
    tiles: tuple[_Shown, ...]


def draw(a: Pyramid, b: Pyramid, found: Comparison, choice: Choice, output: str) -> int:
    """Write the sheet to `output`, a path or URI; returns how many clips it shows, and writes none that shows none."""
    groups = list(_groups(a, b, found, choice))
    shown = sum(len(group.tiles) for group in groups)
    if not shown:
        return 0
    across = columns(shown, 0) // 2 * 2  # a pair stands in one row
    placed: list[tuple[_Shown, Box]] = []
    tops: list[int] = []
    y = _HEADER_H
    for group in groups:
        tops.append(y)
        boxes, y = in_rows([one.tile for one in group.tiles], across, y + HEADING_H)
        placed += zip(group.tiles, boxes, strict=True)
    canvas = Canvas(2 * MARGIN + across * (TILE_W + GAP) - GAP, y + MARGIN, PAGE)
    _draw_header(canvas, a, b, found)
    for group, top in zip(groups, tops, strict=True):
        draw_heading(canvas, top, group.word, group.clips, len(group.tiles), INK, "")
    for one, box in placed:
        draw_tile(canvas, box, one.tile, DROPPED if one.of_a else KEPT)
    for pyramid, of_a in ((a, True), (b, False)):
        _draw_frames(canvas, pyramid, [(one.clip_id, box) for one, box in placed if one.of_a is of_a])
    for one, box in placed:
        draw_badge(canvas, box, one.tile)
    outputs.write(output, canvas.png())
    return shown


def _draw_frames(canvas: Canvas, pyramid: Pyramid, placed: Sequence[tuple[str, Box]]) -> None:
    """A clip may stand in several boxes: two clips of A may be pieces of one of B."""
    for clip_id, frames in pyramid.samples(dict.fromkeys(name for name, _ in placed)):
        pictures = [decoded(frame) for frame in frames]
        for box in [box for name, box in placed if name == clip_id]:
            draw_frames(canvas, box, pictures)


def _ids(of_a: bool, choice: Choice) -> set[str]:
    """The chosen clips of one pyramid."""
    changed = [name for _, name in choice.changed]
    if of_a:
        return {name for _, name in choice.only_a} | set(changed)
    return {name for _, name in choice.only_b} | {choice.partner[name] for name in changed}


def _groups(a: Pyramid, b: Pyramid, found: Comparison, choice: Choice) -> Iterator[_Group]:
    of_a, of_b = (_tiles(one, first, _ids(first, choice)) for one, first in ((a, True), (b, False)))
    counts = found.clips
    yield _Group("Only in A", counts.only_a, _some(of_a, (name for _, name in choice.only_a)))
    yield _Group("Only in B", counts.only_b, _some(of_b, (name for _, name in choice.only_b)))
    pairs = [(name, choice.partner[name]) for _, name in choice.changed]
    both = ((of_a[left], of_b[right]) for left, right in pairs if left in of_a and right in of_b)
    yield _Group("Other bounds, A beside B:", counts.changed_a, tuple(chain.from_iterable(both)))


def _tiles(pyramid: Pyramid, of_a: bool, ids: set[str]) -> dict[str, _Shown]:
    tiles = tiles_of(Query(pyramid), None, sorted(ids)) if ids else {}
    return {name: _Shown(tile, of_a) for name, tile in tiles.items()}


def _some(tiles: Mapping[str, _Shown], names: Iterable[str]) -> tuple[_Shown, ...]:
    return tuple(tiles[name] for name in names if name in tiles)


def _draw_header(canvas: Canvas, a: Pyramid, b: Pyramid, found: Comparison) -> None:
    """Which is A and which is B, with their sizes, and what both have."""
    for y, letter, pyramid, size, ink in ((44, "A", a, found.a, DROPPED), (78, "B", b, found.b, KEPT)):
        x = canvas.text(MARGIN, y, letter, 26, ink, 700) + 14
        words = f"{size.clips:,} clips of {sum(size.videos.values()):,} videos   ·   recipe {pyramid.recipe_name}"
        room = canvas.width - x - MARGIN
        canvas.text(x, y, shortened(f"{words}   ·   {pyramid.uri}", room, 18, keep_end=True), 18, SOFT)
    same = f"{found.clips.unchanged:,} clips are the same source frames in both"
    canvas.text(MARGIN, 112, same, 18, SOFT)
