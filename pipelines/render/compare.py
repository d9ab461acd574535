"""How a comparison of two pyramids is shown: `render` of `ziggurat compare`."""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Any

from rich import filesize
from rich.console import Console
from rich.table import Table

from curation.pyramid.queries.comparison import Changes, Size
from pipelines.commands.pyramid.compare import Compared
from pipelines.render.lines import note
from pipelines.render.pyramid import searching

_MOST_KEYS = 40


def comparing(as_json: bool) -> AbstractContextManager[Any]:
    """Tells a person that it takes its time."""
    return searching(as_json)("both pyramids are read")


def compare(found: Compared, as_json: bool) -> None:
    """Of `compare.compare`."""
    for one in found.notes:
        note(one)
    if as_json:
        print(json.dumps(found.as_data()))
        return
    console = Console(width=max(Console().width, 120), highlight=False, markup=False)
    console.print(_sizes(found))
    _keys(console, "recipe keys that differ", found.recipe)
    _keys(console, "thresholds in force that differ", found.thresholds)
    _clips(console, found)
    _videos(console, found)
    if found.sheet is not None:
        console.print(f"{found.sheet}: {found.drawn} clips", soft_wrap=True)


def _table(columns: Sequence[str], rows: Sequence[Sequence[str]], title: str | None = None) -> Table:
    table = Table(box=None, pad_edge=False, title=title, title_justify="left")
    for number, name in enumerate(columns):
        table.add_column(name, justify="right" if number else "left", overflow="fold")
    for row in rows:
        table.add_row(*row)
    return table


def _sizes(found: Compared) -> Table:
    a, b = found.found.a, found.found.b
    rows: list[tuple[str, ...]] = [("pyramid", found.a.uri, found.b.uri), ("recipe", found.a.recipe, found.b.recipe)]
    rows += [("plan of its clips", found.a.plan or "not known", found.b.plan or "not known")]
    rows += [("videos", f"{sum(a.videos.values()):,}", f"{sum(b.videos.values()):,}")]
    for status in dict.fromkeys((*a.videos, *b.videos)):
        rows.append((f"  {status}", f"{a.videos.get(status, 0):,}", f"{b.videos.get(status, 0):,}"))
    rows += [("clips", f"{a.clips:,}", f"{b.clips:,}"), ("  hours", _hours(a.seconds), _hours(b.seconds))]
    rows += [("  cut", _cut(a), _cut(b))]
    for tier in dict.fromkeys((*a.tiers, *b.tiers)):
        rows.append((f"  tier {tier}", *(f"{one.tiers[tier]:,}" if tier in one.tiers else "-" for one in (a, b))))
    return _table(("", "A", "B"), rows)


def _hours(seconds: float) -> str:
    return f"{seconds / 3600:.3f}"


def _cut(size: Size) -> str:
    return f"{size.cut:,}, {filesize.decimal(size.bytes)}"


def _keys(console: Console, title: str, keys: Any) -> None:
    if keys:
        rows = [(key, a, b) for key, (a, b) in list(keys.items())[:_MOST_KEYS]]
        console.print(_table(("", "A", "B"), rows, title))
    if len(keys) > _MOST_KEYS:
        console.print(f"and {len(keys) - _MOST_KEYS} more; all with --json")


def _clips(console: Console, found: Compared) -> None:
    both, counts = found.found, found.found.clips
    rows = [
        ("the same source frames", f"{counts.unchanged:,}", f"{counts.unchanged:,}"),
        ("  of another size or rate", f"{counts.remade:,}", f"{counts.remade:,}"),
        ("other bounds", f"{counts.changed_a:,}", f"{counts.changed_b:,}"),
        ("only here", f"{counts.only_a:,}", f"{counts.only_b:,}"),
        ("  hours", _hours(both.seconds_only_a), _hours(both.seconds_only_b)),
    ]
    console.print(_table(("clips", "A", "B"), rows))
    for (a, b), count in both.tiers.most_common():
        console.print(f"{count:,} clips of the same frames: {_tier(a)} in A, {_tier(b)} in B")
    if any(one.different for _, one in both.most):
        rows = [(name, *_changes(one)) for name, one in both.most if one.different]
        names = ("video", "same", "other bounds in A", "in B", "only in A", "only in B")
        console.print(_table(names, rows, "videos whose clips differ most"))


def _changes(one: Changes) -> tuple[str, ...]:
    return tuple(f"{n:,}" for n in (one.unchanged, one.changed_a, one.changed_b, one.only_a, one.only_b))


def _tier(name: str | None) -> str:
    return "no tier" if name is None else f"tier {name}"


def _videos(console: Console, found: Compared) -> None:
    both = found.found
    for (a, b), count in both.outcomes.most_common():
        console.print(f"{count:,} videos: {a or 'not there'} in A, {b or 'not there'} in B")
    if both.listed:
        rows = [(one.video_id, one.a or "-", one.b or "-", one.uri) for one in both.listed]
        table = Table(box=None, pad_edge=False)
        for name in ("video", "in A", "in B", "source"):
            table.add_column(name, overflow="fold", no_wrap=name == "video")
        for row in rows:
            table.add_row(*row)
        console.print(table)
    if (total := both.outcomes.total()) > len(both.listed):
        console.print(f"{len(both.listed)} of {total:,} videos shown")
