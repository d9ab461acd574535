"""What a page looks at, which is all in its address: a tier, bounds that are tried, other conditions, an order.

    /?tier=256px&motion=1..8&source=day1.mp4&order=-aesthetic -> [State] -> a query, tiers that are tried

Bounds over what a tier may bound take the place of the tier's own ones; where no tier is chosen they stand alone.
Nothing is written: two people who move bounds do not see each other's.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlencode

from curation.errors import UserError
from curation.pyramid.queries.query import Query
from curation.pyramid.store import Pyramid
from curation.pyramid.tiering.tiers import Bound, Range, Tiers, bound, check_column
from pipelines.commands.pyramid.query import asked

OTHERS = ("tier", "order", "after", "text", "like", "column", "side", "name")


@dataclass(frozen=True)
class State:
    """`typed`: all parameters as they stand in the address; `bounds`: those that a tier may have; `others`: further
    conditions; `wrong`: what cannot be understood, by parameter.
    """

    typed: Mapping[str, str]
    tier: str | None = None
    order: str | None = None
    bounds: Mapping[str, Bound] = field(default_factory=dict)
    others: Mapping[str, Any] = field(default_factory=dict)
    wrong: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, pyramid: Pyramid, given: Sequence[tuple[str, str]]) -> State:
        """Of an address. What is wrong in it is left out and told, for a page is to be shown all the same."""
        typed = {name: value for name, value in given if value}
        bounds: dict[str, Bound] = {}
        others: dict[str, Any] = {}
        wrong: dict[str, str] = {}
        for name, value in typed.items():
            if name in OTHERS:
                continue
            try:
                ((column, read),) = asked(pyramid, [f"--{name}={value}"]).items()
                if _is_bounded(column, pyramid.scores) and (isinstance(read, tuple) or column == "kind"):
                    bounds[column] = bound(column, read)
                else:
                    others[column] = read
            except (UserError, ValueError) as error:
                wrong[name] = str(error)
        tier, order = typed.get("tier"), typed.get("order")
        if tier is not None and tier not in pyramid.tiers.names:
            wrong["tier"], tier = f"there is no tier {tier}", None
        if order is not None:
            try:
                pyramid.query().order(order.removeprefix("-"))
            except UserError as error:
                wrong["order"], order = str(error), None
        bounds = _fitting(pyramid.tiers, tier, bounds, wrong)
        return cls(typed, tier, order, bounds, others, wrong)

    def tiers(self, pyramid: Pyramid) -> Tiers:
        """The pyramid's tiers with the bounds that are tried."""
        found = pyramid.tiers
        if self.tier is not None:
            for column, wanted in self.bounds.items():
                found = found.moved(self.tier, column, wanted)
        return found

    def ranges(self, pyramid: Pyramid) -> dict[str, Bound]:
        """What a clip has to satisfy to be shown."""
        if self.tier is None:
            return dict(self.bounds)
        return self.tiers(pyramid).effective(self.tier)

    def query(self, pyramid: Pyramid, without: str | None = None) -> Query:
        """The clips that are looked at; `without` the bound over one column."""
        ranges = {column: one for column, one in self.ranges(pyramid).items() if column != without}
        found = pyramid.query().ranges(ranges).where(**dict(self.others))
        found = found if self.tier is None else found.undropped()
        if self.order:
            found = found.order(self.order.removeprefix("-"), self.order.startswith("-"))
        return found

    def address(self, path: str = "/", **changed: str | None) -> str:
        """The address of a page that looks at the same, but for what is `changed`; None takes a parameter away."""
        now = {**self.typed, "after": None, **changed}
        some = {name: value for name, value in now.items() if value}
        return f"{path}?{urlencode(some)}" if some else path


def _fitting(tiers: Tiers, tier: str | None, bounds: Mapping[str, Bound], wrong: dict[str, str]) -> dict[str, Bound]:
    """The bounds that leave something of the tiers below; the others are `wrong`."""
    kept: dict[str, Bound] = {}
    for column, one in bounds.items():
        try:
            tiers = tiers if tier is None else tiers.moved(tier, column, one)
        except ValueError as error:
            wrong[column] = str(error)
        else:
            kept[column] = one
    return kept


def shown(one: Bound | None) -> tuple[str, str]:
    """The two ends of a range as a field of a form has them."""
    if not isinstance(one, Range):
        return "", ""
    return tuple("" if end is None else f"{end:g}" for end in (one.low, one.high))  # type: ignore[return-value]


def _is_bounded(column: str, scores: Sequence[str]) -> bool:
    try:
        check_column(column, "a tier", scores)
    except ValueError:
        return False
    return True
