"""`/tiers`: what each tier keeps and what each of its filters drops, with the thresholds in force, with others that are
only tried, or after a move.
"""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Body, Path
from pydantic import BaseModel, ConfigDict, Field

from curation.errors import UserError
from curation.pyramid.tiering.retention import tier_report
from curation.pyramid.tiering.tiers import Range, Tiers, bound
from pipelines.api import problems
from pipelines.api.guard import Here, Writing
from pipelines.api.shapes import Row, plain
from pipelines.commands.pyramid import tiers as command

router = APIRouter(tags=["tiers"])
Bounds = Annotated[list[float | None], Field(min_length=2, max_length=2)] | str | None
"""`[low, high]`, either of which may be null; of the column `kind` a kind; null: no bound of the tier's own."""
Name = Annotated[str, Path(max_length=200)]


class Table(BaseModel):
    """A row a tier, loose to strict, of the `pyramid`. `moved`: thresholds that are not the recipe's, before and now.
    `changed`: how many clips a move has put in another tier; `waiting`: what it leaves to be done, by score; `notes`:
    what is to be known of it.
    """

    pyramid: str
    tiers: list[Row]
    moved: list[Row] = Field(default_factory=list)
    changed: int | None = None
    waiting: dict[str, int] = Field(default_factory=dict)
    notes: list[str] = Field(default_factory=list)


class Tried(BaseModel):
    """Thresholds to be tried: bounds by column by tier. Nothing is written."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"example": {"tiers": {"256px": {"motion": [1, 8]}}}})
    tiers: dict[str, dict[str, Bounds]] = Field(max_length=100)


@router.get("/tiers")
def tiers(pyramid: Here) -> Table:
    """The tiers in force."""
    return _of(command.table(pyramid))


@router.post("/tiers/preview")
def preview(tried: Tried, pyramid: Here) -> Table:
    """What the tiers would keep, and each filter drop, with other thresholds. Nothing is written."""
    found = pyramid.tiers
    for tier, columns in tried.tiers.items():
        for column, given in columns.items():
            found = _moved(found, tier, column, given, pyramid.scores)
    return Table(pyramid=pyramid.uri, tiers=[_row(one) for one in tier_report(pyramid, found)])


@router.put("/tiers/{name}", dependencies=[Writing])
def move(name: Name, bounds: Annotated[dict[str, Bounds], Body(min_length=1)], pyramid: Here) -> Table:
    """Move thresholds of a tier, for everybody; null takes one away that the tier has of its own. No score is computed;
    clips that now lack one wait for a run.
    """
    wanted: dict[str, Any] = {}
    for column, given in bounds.items():
        if given is None:
            _check_own(pyramid.tiers, name, column)
        _moved(pyramid.tiers, name, column, given, pyramid.scores)
        wanted[column] = _given(given)
    return _of(command.table_after(pyramid, name, wanted))


def _of(found: command.TierTable) -> Table:
    waiting = {} if found.left is None else found.left.as_data()
    rows, moved = ([_row(one) for one in some] for some in (found.rows, found.moved))
    return Table(
        pyramid=found.pyramid,
        tiers=rows,
        moved=moved,
        changed=found.changed,
        waiting=waiting,
        notes=list(found.notes),
    )


def _row(row: object) -> Row:
    return plain(command.plain(row))


def _given(given: list[float | None] | str | None) -> Any:
    """A bound as `tiers.moved` takes it."""
    return (None, None) if given is None else tuple(given) if isinstance(given, list) else given


def _check_own(tiers: Tiers, tier: str, column: str) -> None:
    """A problem where there is nothing to take away."""
    try:
        command.taken_away(tiers, tier, {}, [column])
    except UserError as error:
        raise problems.of(error, f"{tier}.{column}") from None


def _moved(tiers: Tiers, tier: str, column: str, given: Any, scores: tuple[str, ...]) -> Tiers:
    """The tiers with one bound moved; a problem that names it where that cannot be."""
    field = f"{tier}.{column}"
    try:
        moved = tiers.moved(tier, column, Range() if given is None else bound(column, _given(given)))
        moved.check_columns(scores)
    except (ValueError, UserError) as error:
        told = error if isinstance(error, UserError) else UserError(str(error), "see GET /api/tiers for what there is")
        raise problems.of(told, field) from None
    return moved
