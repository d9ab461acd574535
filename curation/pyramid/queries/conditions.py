"""Conditions of a query as data: a known column, a kind of test, typed values. Nothing here builds a string
to parse.

`expression` turns conditions into one Arrow expression whose values are typed literals, `holds` judges a row in plain
Python by the same rules: rows in hand, and as the oracle of the tests. Null and NaN satisfy no range, but a range over
what an image does not have lets images pass (`kinds`); float32 columns are compared as float32; a bound beyond an
integer column's range is always or never met, not an error.

`there`: the columns that the rows have. Those of an older pyramid have no kind, and all are videos; nobody has said
anything of them (`review.asking`).
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from operator import and_, or_
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from curation import nearest
from curation.contract import CLIPS, NOT_OF_IMAGES, Kind
from curation.errors import UserError
from curation.pyramid.queries import kinds
from curation.pyramid.queries.derived import DERIVED, stored, value
from curation.pyramid.review import asking, words
from curation.pyramid.review.asking import UNDROPPED, WORDED, Decided, Tagged
from curation.pyramid.tiering.tiers import Bound, Range, single

_NUMERIC = [field.name for field in CLIPS if pa.types.is_floating(field.type) or pa.types.is_integer(field.type)]
NUMBERS = (*_NUMERIC, *DERIVED)
TEXTS = tuple(field.name for field in CLIPS if pa.types.is_string(field.type) and field.name not in WORDED)
ALL = (*CLIPS.names, *DERIVED)
MAY_LACK = frozenset((kinds.COLUMN, *words.COLUMNS))
"""Columns whose lack says something of the rows: all are videos, nobody has said anything."""
_MAX_VALUES = 10_000


@dataclass(frozen=True, slots=True)
class Between:
    """A number column inside a range. `measured`: of clips that have a value alone; else an image passes a range over
    what it does not have.
    """

    column: str
    range: Range
    measured: bool = False


@dataclass(frozen=True, slots=True)
class OneOf:
    """A text column equal to one of some values."""

    column: str
    values: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Present:
    """A column null (`present` false) or not null; a kind never is."""

    column: str
    present: bool


Condition = Between | OneOf | Present | Decided | Tagged


def known(column: str, allowed: Sequence[str] = ALL, use: str = "") -> str:
    """`column`, or UserError that lists the columns there are."""
    if column not in allowed:
        suffix = f" {use}" if use else ""
        raise UserError(f"no column {str(column)[:80]!r}{suffix}", nearest.named(str(column)[:80], allowed))
    return column


def texts(scores: Sequence[str]) -> tuple[str, ...]:
    """The text columns of a pyramid that has these scores of its own."""
    return (*TEXTS, *(f"{score}{end}" for score in scores for end in ("_by", "_why")))


def condition(column: str, value: Any, scores: Sequence[str] = ()) -> Condition:
    """What `where(column=value)` means: a pair or Range, a number, a text or several, None for null. `scores`: the
    pyramid's own scores.
    """
    known(column, (*NUMBERS, *scores, *texts(scores), *WORDED), "to search by")
    if column in WORDED:
        return asking.condition(column, value)
    if value is None:
        return Present(column, False)
    if column in texts(scores):
        values = wanted_texts(column, value)
        if column == kinds.COLUMN and not {*values} <= {*Kind}:
            raise UserError(f"kind={value!r:.80} is no kind of clip", f"there are {', '.join(Kind)}")
        return OneOf(column, values)
    known(column, (*NUMBERS, *scores), "to compare with a number")
    try:
        bounds = value if isinstance(value, (Range, list, tuple)) else (value, value)
        return Between(column, Range.of(bounds))
    except ValueError as error:
        raise UserError(f"{column}: {error}", "give a number or a pair (low, high)") from None


def wanted_texts(column: str, value: Any) -> tuple[str, ...]:
    """The texts that a column may have, sorted: one, or several. UserError: it is none."""
    values = (value,) if isinstance(value, str) else tuple(value) if isinstance(value, (list, tuple, set)) else ()
    if not values or len(values) > _MAX_VALUES or not all(isinstance(text, str) for text in values):
        raise UserError(f"{column}={value!r:.80} is not a text", f"give a text or a list of up to {_MAX_VALUES}")
    try:
        "".join(values).encode()
    except UnicodeEncodeError:
        raise UserError(f"{column}={value!r:.80} is not valid Unicode", "give a valid text") from None
    return tuple(sorted(values))


def of_bounds(bounds: Mapping[str, Bound]) -> list[Between | OneOf]:
    """What a tier says of its columns, as conditions."""
    return [
        OneOf(column, (str(one),)) if isinstance(one, Kind) else Between(column, one) for column, one in bounds.items()
    ]


def of_tier(bounds: Mapping[str, Bound]) -> list[Condition]:
    """What a tier with these bounds asks of its clips: them, and that no person has dropped the clip."""
    return [*of_bounds(bounds), UNDROPPED]


def expression(conditions: Iterable[Condition], there: Collection[str]) -> pc.Expression | None:
    """All conditions as one Arrow expression; None when there are none."""
    parts = [_expression(one, there) for one in conditions]
    return reduce(and_, parts) if parts else None


def columns(conditions: Iterable[Condition], there: Collection[str]) -> set[str]:
    """The stored columns that conditions read, without those that older rows may lack."""
    asked = [name for one in conditions for name in (one.column, *([kinds.COLUMN] if spares(one, there) else []))]
    return {name for name in stored(asked) if name not in MAY_LACK or name in there}


def spares(one: Condition, there: Collection[str]) -> bool:
    """Whether an image passes a condition that it has no value for."""
    unasked = isinstance(one, Between) and not one.measured and one.column in NOT_OF_IMAGES
    return unasked and kinds.COLUMN in there


def holds(conditions: Iterable[Condition], row: Mapping[str, Any]) -> bool:
    """Whether a row (a dict of Python values) satisfies all conditions."""
    return all(_holds(one, row) for one in conditions)


def _holds(one: Condition, row: Mapping[str, Any]) -> bool:
    if isinstance(one, Decided | Tagged):
        return one.holds(row)
    found: Any = kinds.kind_of(row) if one.column == kinds.COLUMN else value(row, one.column)
    if isinstance(one, Present):
        return (found is not None) == one.present
    if isinstance(one, OneOf):
        return found in one.values
    if not one.measured and kinds.spared(one.column, row):
        return True
    return one.range.holds(found, pa.types.is_float32(_type(one.column)))


def _expression(one: Condition, there: Collection[str]) -> pc.Expression:
    if isinstance(one, Decided | Tagged):
        return one.expression(there)
    if one.column == kinds.COLUMN:
        return _of_kind(one, there)
    if one.column in words.COLUMNS and one.column not in there:
        return pc.scalar(isinstance(one, Present) and not one.present)
    return _of_values(one) | _IS_IMAGE if spares(one, there) else _of_values(one)


_IS_IMAGE = pc.field(kinds.COLUMN) == pa.scalar(str(Kind.IMAGE))


def _of_kind(one: Between | OneOf | Present, there: Collection[str]) -> pc.Expression:
    """A condition on the kind: a null, as where there is no such column, is a video."""
    if not isinstance(one, OneOf):
        return pc.scalar(isinstance(one, Present) and one.present)
    video = str(Kind.VIDEO) in one.values
    if kinds.COLUMN not in there:
        return pc.scalar(video)
    column = pc.field(kinds.COLUMN)
    named = column.isin(pa.array(one.values, pa.string()))
    return named | column.is_null() if video else named


def _of_values(one: Between | OneOf | Present) -> pc.Expression:
    derived = DERIVED.get(one.column)
    column = pc.field(one.column) if derived is None else derived.expression
    parts = [pc.field(name) for name in stored([one.column])]
    present = reduce(and_, (part.is_valid() for part in parts))
    if isinstance(one, Present):
        return present if one.present else reduce(or_, (part.is_null() for part in parts))
    if isinstance(one, OneOf):
        texts = [column == pa.scalar(text, pa.string()) for text in one.values[:1]]
        return texts[0] if len(one.values) == 1 else column.isin(pa.array(one.values, pa.string()))
    type_ = _type(one.column)
    bounds = _integers(one.range, type_) if pa.types.is_integer(type_) else _floats(one.range, type_)
    if bounds is None:
        return pc.scalar(False)
    # A derived column is tested where its parts are there: to Lance's engine a choice between two columns has a value
    # where one of them is null.
    low, high = bounds
    tests = [present] if derived is not None or (low is None and high is None) else []
    if low is not None:
        tests.append(column >= pa.scalar(low, type_))
    if high is not None:
        tests.append(column <= pa.scalar(high, type_))
    return reduce(and_, tests)


def _type(column: str) -> pa.DataType:
    """Of a number column; one that the contract does not know is a score of the pyramid's own."""
    if column in DERIVED:
        return DERIVED[column].type
    return CLIPS.field(column).type if column in CLIPS.names else pa.float32()


def _floats(range_: Range, type_: pa.DataType) -> tuple[float | None, float | None]:
    """Bounds in the column's precision. Arrow orders NaN above infinity, so an open top is closed at
    infinity.
    """
    low, high = range_.low, range_.high
    if pa.types.is_float32(type_):
        low, high = (bound if bound is None else single(bound) for bound in (low, high))
    return low, math.inf if high is None and low is not None else high


def _integers(range_: Range, type_: pa.DataType) -> tuple[int | None, int | None] | None:
    """Bounds as integers of the column's width; None when no integer of that width is inside."""
    bits = type_.bit_width
    least, most = -(1 << bits - 1), (1 << bits - 1) - 1
    low = None if range_.low is None else math.ceil(range_.low)
    high = None if range_.high is None else math.floor(range_.high)
    if (low is not None and low > most) or (high is not None and high < least):
        return None
    if low is not None and high is not None and low > high:
        return None
    return (
        None if low is None or low <= least else low,
        None if high is None or high >= most else high,
    )
