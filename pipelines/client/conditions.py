"""Conditions as the service takes them, parameters with the names of columns: from Python's values, and from what was
typed at a command line.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from curation.errors import UserError
from pipelines.client.wire import RESERVED
from pipelines.commands.pyramid.conditions import pairs, valued


def typed(arguments: Sequence[str], *others: str) -> dict[str, str]:
    """`--motion 1..8`, by column. `others`: what the route takes beside `wire.RESERVED`."""
    found: dict[str, str] = {}
    for flag, value in pairs(arguments):
        column = flag.removeprefix("--")
        if column in found:
            raise UserError(f"{flag} is given twice", "give one range a column")
        found[column] = valued(flag, value)
    return _free(found, others)


def given(where: Mapping[str, Any], *others: str) -> dict[str, str]:
    """`motion=(1, 8)`, `aesthetic=(5, None)`, `width=1280`, `caption=None`, `kind="image"`, `motion="1..8"`."""
    return _free({column: _text(column, value) for column, value in where.items()}, others)


def _free(found: dict[str, str], others: Sequence[str]) -> dict[str, str]:
    """UserError: the service would take a column's name for a parameter of its own."""
    for column in found:
        if column in (*RESERVED, *others):
            raise UserError(f"a service takes {column!r} for something else than a column", "ask the pyramid itself")
    return found


def _text(column: str, value: Any) -> str:
    if value is None:
        return "null"
    if isinstance(value, str):
        return value
    if isinstance(value, tuple | list) and len(value) == 2:
        low, high = ("" if bound is None else _number(column, bound) for bound in value)
        return f"{low}..{high}"
    return _number(column, value)


def _number(column: str, value: Any) -> str:
    try:
        return repr(float(value)) if not isinstance(value, bool | int) else str(int(value))
    except (TypeError, ValueError):
        raise UserError(
            f"{column}={value!r:.80} is no condition", "give (low, high), a number, a text or None"
        ) from None
