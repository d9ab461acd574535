"""What the commands `tiers` and `upkeep` do: thresholds shown and moved, what a move leaves to do; a pyramid tidied."""

from __future__ import annotations

import dataclasses
import json
import sys
from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any

from rich.console import Console
from rich.table import Table

from curation.contract import SCORES
from curation.errors import UserError
from curation.pyramid.about import Moved
from curation.pyramid.retention import TierRow, tier_report
from curation.pyramid.retier import opened, retier
from curation.pyramid.store import Pyramid
from curation.pyramid.tiers import Range, Tiers
from curation.pyramid.waiting import Waiting, Wanted, waiting
from pipelines.commands.query import absent
from pipelines.config.adoption import shown
from pipelines.config.filters import computable
from pipelines.config.recipe import parsed

UPKEEP = {
    "orphans": "stored frames and files without a clip, removed",
    "twins": "rows stored twice, removed",
    "stale_clips": "clips of an earlier plan, removed",
    "redo": "videos that have lost clips: the next run does them again",
    "copied_bytes": "bytes of frames and clips copied to merge small files",
    "damaged": "files with a clip whose bytes no longer have their sha256, left as they are",
    "puzzling": "videos whose count of clips nothing explains: see `ziggurat why`",
    "freed_bytes": "bytes of old versions and of writers that died, freed",
    "bytes_before": "bytes on disk before",
    "bytes_after": "bytes on disk after",
    "old_versions": "older versions that are kept, with the files that only they need",
}
"""What the counts of an upkeep mean."""


def show_tiers(uri: str, move: str | None, wanted: Mapping[str, Any], as_json: bool) -> None:
    """`ziggurat tiers`: the report, after moving thresholds where asked."""
    pyramid = opened(uri)
    if wanted and not move:
        raise UserError("thresholds are given without a tier", "name it with --move TIER")
    left = None
    if move:
        pyramid = moved(pyramid, move, wanted)
        left = still_to_do(pyramid)
    rows = tier_report(pyramid)
    if as_json:
        for row in rows:
            print(json.dumps(_as_data(row, pyramid, left)))
    else:
        _print(rows, pyramid)
    if left:
        print(f"clips wait: {left}; `ziggurat curate {pyramid.uri} --fill` does it all", file=sys.stderr)


def moved(pyramid: Pyramid, tier: str, wanted: Mapping[str, Any]) -> Pyramid:
    """The pyramid with some thresholds of a tier moved, its column `tier` in line with them."""
    tiers = pyramid.tiers
    try:
        ranges = {column: Range.of(b if isinstance(b, tuple) else (b, b)) for column, b in wanted.items()}
        for column, bounds in ranges.items():
            tiers = tiers.moved(tier, column, bounds)
    except ValueError as error:
        raise UserError(str(error), "move it elsewhere") from None
    changed = retier(pyramid.with_tiers(tiers))
    print(f"{changed} clips are in another tier now; no score was computed", file=sys.stderr)
    missing = [told for score in ranges if score in SCORES and (told := absent(pyramid.query(), score)) is not None]
    for line in (*bounded_below(tiers, tier, ranges), *missing):
        print(f"note: {line}", file=sys.stderr)
    return pyramid.refreshed()


def bounded_below(tiers: Tiers, tier: str, wanted: Mapping[str, Range]) -> list[str]:
    """For each range that the tiers below `tier` make narrower than it was given: which one does, and what holds."""
    lines: list[str] = []
    for column, bounds in wanted.items():
        holds = tiers.effective(tier).get(column, Range())
        if holds == bounds:
            continue
        below = [step for step in tiers.steps[: tiers.position(tier)] if column in step.ranges]
        narrow = ", ".join(f"{step.name} ({shown(step.ranges[column])})" for step in below)
        lines.append(
            f"{tier}: of {column} {shown(bounds)} only {shown(holds)} passes; a tier below bounds it: {narrow}"
        )
    return lines


def still_to_do(pyramid: Pyramid) -> Waiting | None:
    """What the pyramid's recipe leaves to do with the tiers as they are; None where no recipe is kept."""
    text = pyramid.recipe_text()
    if text is None:
        return None
    recipe = parsed(text, f"the pyramid's recipe {pyramid.recipe_name}")
    scores = {one.score: Wanted(one.fingerprint, one.from_tier) for one in computable(recipe)}
    return waiting(pyramid, scores, recipe.cut.tier)


def _print(rows: Sequence[TierRow], pyramid: Pyramid) -> None:
    before = {(one.tier, one.column): one for one in pyramid.about.moved}
    for row in rows:
        title = f"{row.tier}: {row.clips} clips, {row.hours:.3f} hours ({row.share_clips:.0%} of clips)"
        table = Table(title=title, title_justify="left")
        for name in ("range", "drops alone", "no score", "drops after the others", "no score"):
            table.add_column(name, justify="left" if name == "range" else "right")
        for loss in row.losses:
            bounds = f"{loss.column} {shown(loss.range)}{_mark(before.get((row.tier, loss.column)), loss.range)}"
            table.add_row(bounds, str(loss.alone), _nulls(loss.alone_null), str(loss.after), _nulls(loss.after_null))
        Console(width=max(Console().width, 120)).print(table)
    gone = [one for one in pyramid.about.moved if one.now is None]
    for one in gone:
        print(f"moved: {one.tier} has no range of its own for {one.column} now; the recipe has {shown(one.before)}")


def _mark(one: Moved | None, in_force: Range) -> str:
    """That a threshold was moved, and where to if a tier below holds it back."""
    if one is None:
        return ""
    return f" (moved from {shown(one.before)}{'' if one.now == in_force else f' to {shown(one.now)}'})"


def _as_data(row: TierRow, pyramid: Pyramid, left: Waiting | None) -> dict[str, Any]:
    changed = [one for one in pyramid.about.moved if one.tier == row.tier]
    moves = {one.column: {"recipe": _plain(one.before), "now": _plain(one.now)} for one in changed}
    data = _plain(row) | {"moved": moves}
    return data if left is None else data | {"waiting": {**left.scores, "cut": left.cut}}


def _nulls(reasons: Mapping[str, int]) -> str:
    return ", ".join(f"{count} {why}" for why, count in reasons.items()) or "0"


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: _plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, list | tuple) else value


def run_upkeep(uri: str, keep_days: float, as_json: bool) -> None:
    """`ziggurat upkeep`."""
    from curation.pyramid.upkeep import upkeep

    keep = timedelta(days=keep_days)
    done = dataclasses.asdict(upkeep(opened(uri), keep))
    if as_json:
        print(json.dumps(done))
        return
    for name, value in done.items():
        if value is not None:
            print(f"{UPKEEP.get(name, name.replace('_', ' '))}: {value}")
    if done["old_versions"]:
        print(f"older versions go {keep_days:g} days after they were replaced; --keep-days 0 frees theirs now")
