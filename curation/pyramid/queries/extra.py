"""The user's own columns: what a list said of its videos beside their names, kept in `videos.extra` as JSON objects.

A query gives them as columns of the video's clips (`lineage`). One that is called like a column of Ziggurat is asked
for as `extra.NAME`; any may be. Their types follow from their values: text, unless all are truth values, integers of 64
bits, or numbers.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc

from curation.errors import UserError
from curation.pyramid.tiering.tiers import Range

if TYPE_CHECKING:
    from curation.pyramid.store import Pyramid

PREFIX = "extra."
_NUMBER = re.compile(r"[+-]?(?:\d{1,300}\.?\d*|\.\d+)(?:[eE][+-]?\d{1,9})?", re.ASCII)
MOST = 500
"""Own columns that a pyramid shows; where there are more, they are one column of JSON, `extra`."""


@dataclass(frozen=True, slots=True)
class Own:
    """A column of the user's: its key in the JSON, the name it has in a query, its Arrow type."""

    key: str
    name: str
    type: pa.DataType


def own_columns(pyramid: Pyramid, taken: frozenset[str]) -> dict[str, Own]:
    """By name in a query, in the order in which they were met; `taken` are names of Ziggurat's columns.

    One pass over `videos.extra`. More than `MOST` are none: see there.
    """
    types: dict[str, pa.DataType | None] = {}
    dataset = pyramid.dataset("videos")
    if "extra" not in dataset.schema.names:  # older than the column
        return {}
    for batch in dataset.scanner(columns=["extra"], filter=pc.field("extra").is_valid()).to_batches():
        for text in batch["extra"].to_pylist():
            for key, value in parsed(text).items():
                types[key] = _common(types.get(key), value)
            if len(types) > MOST:
                return {}
    found: dict[str, Own] = {}
    for key, type_ in types.items():
        name = key
        while name in taken or name in found:
            name = PREFIX + name
        found[name] = Own(key, name, type_ or pa.string())
    return found


def named(columns: Mapping[str, Own], name: str) -> Own | None:
    """The own column called `name`, with or without its prefix."""
    if name.startswith(PREFIX) and name not in columns:
        name = name.removeprefix(PREFIX)
    return columns.get(name)


def parsed(text: str | None) -> dict[str, Any]:
    """The values of one video; none where there is no text. A number that JSON does not know (NaN) is null."""
    if not text:
        return {}
    values = json.loads(text, parse_constant=lambda _: None)
    assert isinstance(values, dict), text[:80]
    return values


def plain(value: Any, type_: pa.DataType) -> Any:
    """A value as its column holds it: in a text column numbers, lists and objects are JSON."""
    if value is None or pa.types.is_boolean(type_) or pa.types.is_integer(type_):
        return value
    if pa.types.is_floating(type_):
        return float(value)
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def is_range(own: Own, wanted: Any) -> bool:
    """Whether a range is asked of a column of texts."""
    return pa.types.is_string(own.type) and isinstance(wanted, Range)


def number(value: Any) -> int | float | None:
    """The number that a value is, or that a text spells; None for what is none."""
    if isinstance(value, str):
        return float(value) if _NUMBER.fullmatch(value.strip()) else None
    return None if isinstance(value, bool) or not isinstance(value, int | float) else value


def matches(own: Own, wanted: Any) -> Callable[[Any], bool]:
    """A test of values of the column by what `where(column=wanted)` means: a text or several, a number or a range. In a
    column of texts, as all are that came from a CSV file, those are in a range that are numbers in it.
    """
    if wanted is None:
        return lambda value: value is None
    if is_range(own, wanted):
        return lambda value: (found := number(value)) is not None and wanted.holds(found)
    if pa.types.is_string(own.type) or pa.types.is_boolean(own.type):
        texts = set(wanted) if isinstance(wanted, list | tuple | set) else {wanted}
        if not all(isinstance(text, str | bool) for text in texts):
            raise UserError(f"{own.name}={wanted!r:.80} is not a text", "give a text or a list of texts")
        spelled = {str(text).lower() if isinstance(text, bool) else text for text in texts}
        return lambda value: value is not None and plain(value, pa.string()) in spelled
    try:
        bounds = Range.of(wanted if isinstance(wanted, Range | list | tuple) else (wanted, wanted))
    except (ValueError, TypeError):
        raise UserError(f"{own.name}={wanted!r:.80} is not a number", "give a number or a pair (low, high)") from None
    return lambda value: value is not None and bounds.holds(value, False)


def _common(known: pa.DataType | None, value: Any) -> pa.DataType | None:
    """The type of a column that had `known` so far and holds `value` as well."""
    if value is None:
        return known
    if isinstance(value, bool):
        found = pa.bool_()
    elif isinstance(value, int):
        found = pa.int64() if -(1 << 63) <= value < 1 << 63 else pa.string()
    else:
        found = pa.float64() if isinstance(value, float) else pa.string()
    if known is None or known == found:
        return found
    numbers = {known, found} == {pa.int64(), pa.float64()}
    return pa.float64() if numbers else pa.string()
