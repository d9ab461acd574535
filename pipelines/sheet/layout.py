"""What a contact sheet looks like: header with the tiers as a stepped pyramid, kept tiles, dropped tiles, lost videos.

`arrange` says where everything stands, the `draw_` functions put it there. A tile is the middle frame of a clip with
its first and last frame beside it, or an image, then its file and time, its scores, and for a dropped clip the ranges
that it misses. Green edge: kept. Red edge: dropped. The corner of the picture names the clip's highest tier.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from curation.contract import Kind, Reason, Status
from curation.pyramid.queries.kinds import kind_of
from curation.pyramid.tiering.retention import TierRow
from curation.reasons import REASONS
from pipelines.sheet.canvas import Canvas, Colour, colour, shortened, text_width
from pipelines.sheet.misses import Miss, short, span

PAGE, CARD, WELL = colour("101318"), colour("1b2027"), colour("0a0c0f")
INK, SOFT, FAINT = colour("eef1f4"), colour("a3adb8"), colour("7f8a96")
KEPT, DROPPED = colour("38c98a"), colour("ff6a5c")
KEPT_DIM, DROPPED_DIM, BETWEEN = colour("1d5f45"), colour("7a302b"), colour("364150")

MARGIN, GAP, EDGE = 32, 12, 4
# Two small 16:9 frames stacked are as high as one of twice their width: no pixel between them is lost.
SMALL_W, SMALL_H, SEAM = 120, 68, 2
LARGE_W, LARGE_H = 246, 2 * SMALL_H + SEAM
TILE_W = EDGE + LARGE_W + SEAM + SMALL_W
TEXT_H, SCORES_H, LINE_H = 74, 38, 18
ACROSS = 5
"""Scores side by side; those of a pyramid's own begin further rows."""
MOST_LINES, MOST_STEPS = 4, 7
HEADER_H, HEADING_H = 200, 52
FOOT_ROW_H = 26


@dataclass(frozen=True, slots=True)
class Tile:
    """One clip. `highest`: its strictest tier; `missed`: what keeps it out of the sheet's tier."""

    row: Mapping[str, Any]
    name: str
    highest: str | None
    missed: tuple[Miss, ...]

    @property
    def lines(self) -> int:
        return min(len(self.missed), MOST_LINES)

    @property
    def scores(self) -> list[str]:
        return [name for name in self.row if f"{name}_why" in self.row]

    @property
    def text_height(self) -> int:
        """Of what stands under the frames, above the misses."""
        return TEXT_H + SCORES_H * ((len(self.scores) - 1) // ACROSS)


@dataclass(frozen=True, slots=True)
class Sheet:
    """All that is said. `clips`: in the pyramid; `videos`: how many ended in each (status, reason)."""

    pyramid: str
    recipe: str
    date: str
    tier: str | None
    clips: int
    tiers: tuple[TierRow, ...]
    kept: tuple[Tile, ...]
    dropped: tuple[Tile, ...]
    videos: Counter[tuple[str, str | None]]

    @property
    def row(self) -> TierRow | None:
        return next((row for row in self.tiers if row.tier == self.tier), None)

    @property
    def clips_kept(self) -> int:
        return self.clips if self.row is None else self.row.clips


@dataclass(frozen=True, slots=True)
class Box:
    x: int
    y: int
    width: int
    height: int


@dataclass(slots=True)
class Places:
    """Where things stand: the picture's size, the tops of headings and footer, and a box for each clip."""

    width: int
    height: int = 0
    kept_y: int = 0
    dropped_y: int = 0
    footer_y: int = 0
    tiles: dict[str, Box] = field(default_factory=dict)


def arrange(sheet: Sheet) -> Places:
    """Rows of tiles, kept above dropped, about as wide as high; a row is as high as its longest list of misses."""
    across = columns(len(sheet.kept), len(sheet.dropped))
    places = Places(width=2 * MARGIN + across * (TILE_W + GAP) - GAP)
    places.kept_y = HEADER_H
    kept, places.dropped_y = in_rows(sheet.kept, across, places.kept_y + HEADING_H)
    dropped, places.footer_y = in_rows(sheet.dropped, across, places.dropped_y + HEADING_H)
    for tile, box in zip((*sheet.kept, *sheet.dropped), (*kept, *dropped), strict=True):
        places.tiles[tile.row["clip_id"]] = box
    places.height = places.footer_y + HEADING_H + _foot_rows(sheet, places.width) * FOOT_ROW_H + MARGIN
    return places


def columns(kept: int, dropped: int) -> int:
    """How many tiles stand side by side: near the width that suits a screen, the one that leaves the fewest holes."""
    wanted = min(max(round(math.sqrt((kept + dropped) * 0.9)), 4), 12)
    near = [min(max(wanted + step, 4), 12) for step in (0, 1, -1)]  # 4 tiles are as wide as the header
    return min(near, key=lambda across: sum(-group % across for group in (kept, dropped)))


def in_rows(tiles: Sequence[Tile], across: int, y: int) -> tuple[list[Box], int]:
    """A box for each tile, in rows from `y` down, and where the next thing stands."""
    boxes: list[Box] = []
    for start in range(0, len(tiles), across):
        row = tiles[start : start + across]
        height = LARGE_H + max(tile.text_height for tile in row) + LINE_H * max(tile.lines for tile in row)
        boxes += [Box(MARGIN + index * (TILE_W + GAP), y, TILE_W, height) for index in range(len(row))]
        y += height + GAP
    return boxes, y


def draw_sheet(canvas: Canvas, sheet: Sheet, places: Places) -> None:
    """Everything but frames and badges."""
    draw_header(canvas, sheet)
    _draw_headings(canvas, sheet, places)
    for tile in sheet.kept:
        draw_tile(canvas, places.tiles[tile.row["clip_id"]], tile, KEPT)
    for tile in sheet.dropped:
        draw_tile(canvas, places.tiles[tile.row["clip_id"]], tile, DROPPED)
    draw_footer(canvas, sheet, places.footer_y)


def draw_header(canvas: Canvas, sheet: Sheet) -> None:
    """Which pyramid and tier, the ranges that judge, and how many clips each tier keeps."""
    left = canvas.width - MARGIN - 560
    title = sheet.pyramid.rsplit("/", 1)[-1] or sheet.pyramid
    tier = f"tier {sheet.tier}" if sheet.tier else "no tiers"
    room = left - MARGIN - text_width(tier, 34) - 48
    x = canvas.text(MARGIN, 58, shortened(title, room, 34, 700), 34, INK, 700)
    canvas.text(x + 18, 58, tier, 34, SOFT)
    x = canvas.text(MARGIN, 92, f"{sheet.clips_kept:,} kept", 22, KEPT, 700)
    x = canvas.text(x + 20, 92, f"{sheet.clips - sheet.clips_kept:,} dropped", 22, DROPPED, 700)
    canvas.text(x + 20, 92, f"of {sheet.clips:,} clips", 22, SOFT)
    about = f"recipe {sheet.recipe}   ·   {sheet.date}   ·   {sheet.pyramid}"
    canvas.text(MARGIN, 120, shortened(about, left - MARGIN - 30, 16, keep_end=True), 16, SOFT)
    x = MARGIN
    for loss in sheet.row.losses if sheet.row else ():
        words = span(loss.range)
        if x + max(text_width(words, 16, 600), text_width(loss.column, 13)) > left - 30:
            break
        canvas.text(x, 152, loss.column, 13, SOFT)
        x = 26 + max(canvas.text(x, 172, words, 16, INK, 600), x + text_width(loss.column, 13))
    _draw_steps(canvas, sheet, left)


def _draw_steps(canvas: Canvas, sheet: Sheet, left: int) -> None:
    """The tiers as steps, the strictest on top, each as wide as the share of clips that it keeps."""
    rows = [row for row in sheet.tiers if row.tier == sheet.tier or sheet.tiers.index(row) < MOST_STEPS - 1]
    steps = [("all clips", sheet.clips), *((row.tier, row.clips) for row in rows)]
    height, y = min(28, 148 // len(steps)), 178
    for name, clips in steps:
        y -= height
        width = max(2, round(300 * clips / max(1, sheet.clips)))
        ours = name == sheet.tier
        canvas.fill(left + 150 - width // 2, y, width, height - 3, KEPT if ours else colour("3a434e"))
        ink, weight = (INK, 700) if ours else (SOFT, 400)
        canvas.text(left + 320, y + height - 7, shortened(name, 135, 15, weight, keep_end=True), 15, ink, weight)
        canvas.text(left + 505, y + height - 7, f"{clips:,}", 15, ink, weight, "right")
        share = f"{100 * clips / max(1, sheet.clips):.0f} %"
        canvas.text(left + 560, y + height - 7, share, 15, ink, weight, "right")


def _draw_headings(canvas: Canvas, sheet: Sheet, places: Places) -> None:
    draw_heading(canvas, places.kept_y, "Kept", sheet.clips_kept, len(sheet.kept), KEPT, "")
    by = [
        f"{loss.column} {loss.after + sum(loss.after_null.values()):,}"
        for loss in (sheet.row.losses if sheet.row else ())
        if loss.after or loss.after_null
    ]
    first = "in the order of the ranges:   " + "   ·   ".join(by) if by else ""
    lost = sheet.clips - sheet.clips_kept
    draw_heading(canvas, places.dropped_y, "Dropped", lost, len(sheet.dropped), DROPPED, first)


def draw_heading(canvas: Canvas, y: int, word: str, clips: int, shown: int, ink: Colour, more: str) -> None:
    """The line above a group of tiles: how many clips it stands for, and how many of them are shown."""
    canvas.fill(MARGIN, y + 8, canvas.width - 2 * MARGIN, 1, colour("2a313a"))
    x = canvas.text(MARGIN, y + 39, f"{word} {clips:,}", 22, ink, 700)
    if clips and shown < clips:
        x = canvas.text(x + 14, y + 39, f"{shown:,} shown", 16, SOFT)
    if clips == 0:
        x = canvas.text(x + 14, y + 39, "no clip", 16, SOFT)
    canvas.text(x + 34, y + 39, shortened(more, canvas.width - MARGIN - x - 34, 16), 16, SOFT)


def draw_tile(canvas: Canvas, box: Box, tile: Tile, edge: Colour) -> None:
    """A tile without its frames and its badge, which lies on them."""
    canvas.fill(box.x, box.y, box.width, box.height, CARD)
    canvas.fill(box.x, box.y, EDGE, box.height, edge)
    canvas.fill(box.x + EDGE, box.y, box.width - EDGE, LARGE_H, WELL)
    canvas.text(box.x + EDGE + LARGE_W // 2, box.y + LARGE_H // 2, "no frame", 14, FAINT, 400, "middle")
    x, right, y = box.x + EDGE + 10, box.x + box.width - 10, box.y + LARGE_H
    when = place(tile.row)
    canvas.text(right, y + 21, when, 14, SOFT, 400, "right")
    room = right - x - text_width(when, 14) - 14
    canvas.text(x, y + 21, shortened(tile.name, room, 15, 600, keep_end=True), 15, INK, 600)
    _draw_scores(canvas, x, y + 42, tile)
    for index in range(tile.lines):
        _draw_miss(canvas, x, right, y + tile.text_height + 10 + index * LINE_H, tile, index)


def draw_badge(canvas: Canvas, box: Box, tile: Tile) -> None:
    """The clip's highest tier, in the corner of its picture."""
    text = shortened(tile.highest or "no tier", LARGE_W - 40, 13, 600)
    x, width = box.x + EDGE, text_width(text, 13, 600) + 14
    ground = DROPPED_DIM if tile.highest is None else BETWEEN if tile.missed else KEPT_DIM
    canvas.fill(x, box.y, width, 20, ground)
    canvas.text(x + 7, box.y + 15, text, 13, INK, 600)


def _draw_scores(canvas: Canvas, x: int, y: int, tile: Tile) -> None:
    missed = {miss.column for miss in tile.missed}
    step = (TILE_W - EDGE - 20) // ACROSS
    for index, score in enumerate(tile.scores):
        left, top = x + index % ACROSS * step, y + index // ACROSS * SCORES_H
        value = tile.row[score]
        canvas.text(left, top, shortened(score, step - 4, 12), 12, SOFT)
        text, ink, weight = ("–", FAINT, 400) if value is None else (short(value), INK, 500)
        if score in missed and value is not None:
            ink, weight = DROPPED, 700
        canvas.text(left, top + 19, text, 15, ink, weight)


def _draw_miss(canvas: Canvas, x: int, right: int, y: int, tile: Tile, index: int) -> None:
    left_out = len(tile.missed) - MOST_LINES
    if left_out > 0 and index == MOST_LINES - 1:
        canvas.text(x, y, f"and {left_out + 1} more", 14, SOFT)
        return
    miss = tile.missed[index]
    measured = not math.isinf(miss.by)
    of = f"tier {miss.tier}"
    room = right - x - text_width(of, 13) - 12
    canvas.text(x, y, shortened(miss.text, room, 14, 600), 14, DROPPED if measured else SOFT, 600 if measured else 500)
    canvas.text(right, y, of, 13, FAINT, 400, "right")


def draw_frames(canvas: Canvas, box: Box, frames: Sequence[np.ndarray | None]) -> None:
    """The middle frame large, the first and the last one small beside it; a single one as large as there is room."""
    middle, ends = frames[len(frames) // 2 :][:1], [frames[0], frames[-1]] if len(frames) > 1 else []
    x, y, width = box.x + EDGE, box.y, LARGE_W if ends else box.width - EDGE
    canvas.fill(x, y, width, LARGE_H, WELL)
    for image in middle:
        if image is not None:
            canvas.picture(x, y, width, LARGE_H, image)
    for index, image in enumerate(ends):
        if image is not None:
            top = y + index * (SMALL_H + SEAM)
            canvas.picture(x + LARGE_W + SEAM, top, SMALL_W, SMALL_H, image)


def _foot_columns(width: int) -> int:
    return max(1, (width - 2 * MARGIN) // 720)


def _lost(sheet: Sheet) -> list[tuple[str, str, int]]:
    """(status, reason, videos) of what has no clips, the most frequent first."""
    rows = [(status, reason or status, n) for (status, reason), n in sheet.videos.items() if status != Status.DONE]
    return sorted(rows, key=lambda row: (-row[2], row[1]))


def _foot_rows(sheet: Sheet, width: int) -> int:
    return -(-len(_lost(sheet)) // _foot_columns(width))


def draw_footer(canvas: Canvas, sheet: Sheet, y: int) -> None:
    """The videos that never became clips, by reason."""
    lost, total = _lost(sheet), sheet.videos.total()
    canvas.fill(MARGIN, y + 8, canvas.width - 2 * MARGIN, 1, colour("2a313a"))
    x = canvas.text(MARGIN, y + 39, f"Videos {total:,}", 22, INK, 700)
    counts = {status: sum(n for (one, _), n in sheet.videos.items() if one == status) for status in Status}
    canvas.text(x + 14, y + 39, "   ·   ".join(f"{n:,} {status}" for status, n in counts.items()), 16, SOFT)
    across, rows = _foot_columns(canvas.width), _foot_rows(sheet, canvas.width)
    step = (canvas.width - 2 * MARGIN + GAP) // across
    for index, (_, reason, count) in enumerate(lost):
        left, line = MARGIN + (index // rows) * step, y + HEADING_H + 20 + (index % rows) * FOOT_ROW_H
        canvas.fill(left, line - 14, max(2, round(120 * count / lost[0][2])), 18, DROPPED_DIM)
        canvas.text(left + 8, line, f"{count:,}", 15, INK, 700)
        end = canvas.text(left + 134, line, reason, 15, INK, 600)
        meaning = REASONS[Reason(reason)] if reason in set(Reason) else ""
        canvas.text(end + 12, line, shortened(meaning, left + step - GAP - end - 12, 14), 14, FAINT)


def place(row: Mapping[str, Any]) -> str:
    """Where in its video a clip lies; of an image, that it is one."""
    if kind_of(row) == Kind.IMAGE:
        return str(Kind.IMAGE)
    return f"{clock(row['start_s'])}–{clock(row['end_s'])}"


def clock(seconds: float) -> str:
    """12.0 as "0:12.0", an hour and a second as "1:00:01.0"."""
    tenths = round(seconds * 10)
    minutes, rest = divmod(tenths, 600)
    hours, minutes = divmod(minutes, 60)
    end = f"{rest // 10:02d}.{rest % 10}"
    return f"{hours}:{minutes:02d}:{end}" if hours else f"{minutes}:{end}"
