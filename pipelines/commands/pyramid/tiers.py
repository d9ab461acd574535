"""`ziggurat tiers`: thresholds shown and moved, and what a move leaves to do."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from curation.errors import UserError
from curation.pyramid.history.waiting import Waiting, Wanted, WantedCaptions, WantedVectors, waiting
from curation.pyramid.queries import kinds
from curation.pyramid.storage.about import Moved
from curation.pyramid.store import Pyramid
from curation.pyramid.tiering.retention import TierRow, tier_report
from curation.pyramid.tiering.retier import opened, retier
from curation.pyramid.tiering.tiers import Bound, Range, Tiers, bound, bounded_by, is_score, shown
from pipelines.commands.pyramid.conditions import conditions
from pipelines.commands.pyramid.query import absent
from pipelines.config import captions
from pipelines.config.filters import computable
from pipelines.config.recipe import Recipe, parsed
from pipelines.embedding import blocks as embeddings
from pipelines.execution.records.notices import of_measuring


@dataclass(frozen=True, slots=True)
class TierTable:
    """Each tier with what its filters drop, and all thresholds that were ever moved.

    Of a move just made: `changed`, how many clips are in another tier now; `left`, what it leaves to do; `notes`.
    """

    pyramid: str
    rows: tuple[TierRow, ...]
    moved: tuple[Moved, ...]
    changed: int | None = None
    left: Waiting | None = None
    notes: tuple[str, ...] = ()

    def as_data(self) -> list[dict[str, Any]]:
        """A JSON object for each tier."""
        waits = {} if self.left is None else {"waiting": self.left.as_data()}
        return [plain(row) | {"moved": self._moves(row.tier)} | waits for row in self.rows]

    def _moves(self, tier: str) -> dict[str, Any]:
        changed = [one for one in self.moved if one.tier == tier]
        return {one.column: {"recipe": plain(one.before), "now": plain(one.now)} for one in changed}


@dataclass(frozen=True, slots=True)
class Request:
    """The arguments of `ziggurat tiers`. `wanted`: thresholds of the tier `move` as they were typed; `unset`: columns
    whose ranges are taken away from it.
    """

    pyramid: str
    move: str | None = None
    wanted: Sequence[str] = ()
    unset: Sequence[str] = ()


def of_request(request: Request) -> TierTable:
    """What `ziggurat tiers` shows."""
    scores = opened(request.pyramid).about.scores if request.wanted else ()
    wanted = conditions(request.wanted, scores=scores, allowed=lambda: bounded_by(scores))
    return tiers(request.pyramid, request.move, wanted, request.unset)


def tiers(
    uri: str, move: str | None = None, wanted: Mapping[str, Any] | None = None, unset: Sequence[str] = ()
) -> TierTable:
    """The tiers of a pyramid, after the thresholds `wanted` of the tier `move` have been moved, and its own ranges of
    the columns `unset` taken away.
    """
    check(move, wanted or {}, unset)
    pyramid = opened(uri)
    if not move:
        return table(pyramid)
    return table_after(pyramid, move, {**(wanted or {}), **taken_away(pyramid.tiers, move, wanted or {}, unset)})


def check(move: str | None, wanted: Mapping[str, Any], unset: Sequence[str]) -> None:
    """UserError: thresholds without a tier, or a tier without one."""
    if not move and (wanted or unset):
        raise UserError("thresholds are given without a tier", "name it with --move TIER")
    if move and not wanted and not unset:
        raise UserError(f"no threshold of {move} is given", "write --COLUMN low..high, or --unset COLUMN")


def table(pyramid: Pyramid) -> TierTable:
    """The tiers of an open pyramid."""
    return _table(pyramid, _kept(pyramid))


def table_after(pyramid: Pyramid, tier: str, wanted: Mapping[str, Any]) -> TierTable:
    """The tiers after a move (`moved`), with what it has changed and leaves to be done."""
    kept = _kept(pyramid)
    pyramid, changed, notes = moved(pyramid, tier, wanted)
    found = _table(pyramid, kept)
    left = still_to_do(pyramid, kept) if isinstance(kept, Recipe) else None
    return dataclasses.replace(found, changed=changed, left=left, notes=(*found.notes, *notes))


def taken_away(tiers: Tiers, tier: str, wanted: Mapping[str, Any], unset: Sequence[str]) -> dict[str, Any]:
    """Open ranges for the columns that lose theirs. UserError: the tier has none of its own."""
    own = next((step.ranges for step in tiers.steps if step.name == tier), {})
    columns = as_columns(wanted, unset)
    for column in columns:
        if column not in own and tier in tiers.names:
            raise UserError(f"tier {tier} has no range of its own for {column}", f"it has {', '.join(own) or 'none'}")
    return dict.fromkeys(columns, (None, None))


def as_columns(wanted: Mapping[str, Any], unset: Sequence[str]) -> list[str]:
    """The columns of `--unset`; UserError where one is moved as well."""
    columns = [name.removeprefix("--").replace("-", "_") for name in unset]
    for column in columns:
        if column in wanted:
            raise UserError(f"{column} is both moved and unset", "choose one")
    return columns


def _kept(pyramid: Pyramid) -> Recipe | UserError | None:
    """The recipe that a pyramid keeps; why it cannot be read: tiers are shown and moved all the same."""
    try:
        text = pyramid.recipe_text()
        return None if text is None else parsed(text, f"the pyramid's recipe {pyramid.recipe_name}")
    except UserError as error:
        return error


def _table(pyramid: Pyramid, kept: Recipe | UserError | None) -> TierTable:
    notes = of_measuring(pyramid, kept.plan) if isinstance(kept, Recipe) else [str(kept)] if kept is not None else []
    return TierTable(pyramid.uri, tuple(tier_report(pyramid)), tuple(pyramid.about.moved), notes=tuple(notes))


def moved(pyramid: Pyramid, tier: str, wanted: Mapping[str, Any]) -> tuple[Pyramid, int, list[str]]:
    """The pyramid with some thresholds of a tier moved, and its column `tier` with them; how many clips that has put in
    another tier; and what a person should know of it.
    """

    def move(tiers: Tiers) -> Tiers:
        for column, bounds in ranges.items():
            tiers = tiers.moved(tier, column, bounds)
        return tiers

    try:
        ranges = {column: _bound(column, given) for column, given in wanted.items()}
        now = pyramid.moving(move)
    except ValueError as error:
        raise UserError(str(error), f"see `ziggurat tiers {pyramid.uri}` for its tiers and their ranges") from None
    changed = retier(now)
    bounded = [column for column, bounds in ranges.items() if bounds != Range() and is_score(column)]
    missing = [told for score in bounded if (told := absent(pyramid.query(), score)) is not None]
    return pyramid.refreshed(), changed, [*bounded_below(now.tiers, tier, ranges), *missing]


def _bound(column: str, given: Any) -> Bound:
    """A bound as a command line gives it: a range, a number for both its ends, the name of a kind."""
    if given is None:
        raise UserError(f"a tier bounds no {column} by null", "write low..high, or --unset " + column)
    if given == (None, None):
        return Range()
    return bound(column, given if column == kinds.COLUMN or isinstance(given, tuple) else (given, given))


def bounded_below(tiers: Tiers, tier: str, wanted: Mapping[str, Bound]) -> list[str]:
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


def still_to_do(pyramid: Pyramid, recipe: Recipe) -> Waiting:
    """What the pyramid's recipe leaves to do with the tiers as they are."""
    scores = {one.scores[0]: Wanted(one.fingerprint, one.from_tier, one.scores[1:]) for one in computable(recipe)}
    blocks = {
        block.name: WantedCaptions(block.by, block.tier, block.outranked_by, block.keep_given)
        for block in captions.computable(recipe)
        if block.tier in pyramid.tiers.names
    }
    vectors = [
        WantedVectors(block.space, block.by, block.tier)
        for block in embeddings.computable(recipe)
        if block.space.name in pyramid.spaces and (block.tier is None or block.tier in pyramid.tiers.names)
    ]
    return waiting(pyramid, scores, recipe.cut.tier, blocks, vectors)


def plain(value: Any) -> Any:
    """Dataclasses, mappings and sequences as JSON has them."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {key: plain(item) for key, item in value.items()}
    return [plain(item) for item in value] if isinstance(value, list | tuple) else value
