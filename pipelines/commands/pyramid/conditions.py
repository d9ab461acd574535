"""What conditions on a command line mean: `--motion 1..8` for `query` and `tiers`."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from curation import nearest
from curation.contract import AMONG_OTHERS
from curation.errors import UserError
from curation.pyramid.queries.conditions import ALL, texts
from curation.pyramid.review.asking import WORDED

_NUMBER = r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?"
_RANGE = re.compile(rf"({_NUMBER})?\.\.({_NUMBER})?")

_SAME_RATE = 1e-4
"""Rates this close are the same one: people write 23.976 for 24000/1001; 24 is ten times as far from it."""


def conditions(
    arguments: Sequence[str],
    others: Callable[[str], str | None] | None = None,
    scores: Sequence[str] = (),
    allowed: Callable[[], Sequence[str]] | None = None,
) -> dict[str, Any]:
    """`--motion 1..8 --width 1280..` as conditions of a query: ranges, numbers or texts by column.

    `others`: what knows columns that are none of a clip's own: the name of the one that is meant, or None. Their values
    stay texts. `scores`: those of the pyramid's own. `allowed`: all columns that may be named, where they are others
    than those of a clip; a mistake in a name lists them.
    """
    text = texts(scores)
    known = tuple(dict.fromkeys((*ALL, *scores, *text)))
    found: dict[str, Any] = {}
    for flag, value in pairs(arguments):
        column = _column(flag, others, known, allowed)
        given = valued(flag, value)
        if column in found:
            raise UserError(f"{flag} is given twice", "give one range a column")
        found[column] = _value(column, given, column in (*text, *WORDED)) if column in known else given
    return found


def pairs(arguments: Sequence[str]) -> Iterator[tuple[str, str | None]]:
    """Options as they were typed, `--motion`, and their values, where they have one."""
    rest = [part for argument in arguments for part in _split(argument)]
    while rest:
        flag = rest.pop(0)
        if not flag.startswith("--"):
            raise UserError(f"{flag!r} is not an option", "write conditions as --column low..high")
        yield flag, rest.pop(0) if rest and not rest[0].startswith("--") else None


def valued(flag: str, value: str | None) -> str:
    """The value of an option; UserError where it has none."""
    if value is None:
        raise UserError(f"{flag} has no value", f"write {flag} low..high")
    return value


def _column(
    flag: str,
    others: Callable[[str], str | None] | None,
    known: Sequence[str],
    allowed: Callable[[], Sequence[str]] | None,
) -> str:
    given = flag.removeprefix("--")
    column = given.replace("-", "_")
    if column in known:
        return column
    meant = (others(given) or others(column)) if others else None
    if meant is None and column in AMONG_OTHERS:
        command = AMONG_OTHERS[column].command
        raise UserError(f"no clip of this pyramid has a {column}", f"run `ziggurat {command}` on it first")
    if meant is None:
        names = allowed() if allowed else known
        raise UserError(f"no option {flag} and no column {column!r}", nearest.named(column, names))
    return meant


def _split(argument: str) -> list[str]:
    name, equals, value = argument.partition("=")
    return [name, value] if equals and name.startswith("--") else [argument]


def _value(column: str, text: str, is_text: bool) -> Any:
    if text == "null":
        return None
    if is_text:
        return text
    number = number_or_range(text)
    if number is None:
        raise UserError(f"--{column} {text!r} is not a range", "write low..high, low.., ..high, a number or null")
    if column == "fps" and isinstance(number, float):  # 29.97 is 30000/1001
        return number * (1 - _SAME_RATE), number * (1 + _SAME_RATE)
    return number


def number_or_range(text: str) -> float | tuple[float | None, float | None] | None:
    """`1..8`, `1..`, `..8` or `8` as a pair or a number; None for anything else."""
    if match := _RANGE.fullmatch(text):
        low, high = (float(bound) if bound else None for bound in match.groups())
        return (low, high)
    return float(text) if re.fullmatch(_NUMBER, text) else None


def apart(arguments: Sequence[str]) -> tuple[list[str], list[str]]:
    """Conditions and words, told apart as the command line mixes them: `--motion 1..8 "a red fox"`."""
    conditions: list[str] = []
    words: list[str] = []
    given = list(arguments)
    while given:
        one = given.pop(0)
        if not one.startswith("--"):
            words.append(one)
            continue
        conditions.append(one)
        if "=" not in one and given:
            conditions.append(given.pop(0))
    return conditions, words


def told(arguments: Sequence[str]) -> tuple[str, ...]:
    """Conditions as they were typed, one text each: `motion 1..8`."""
    flat = [part for argument in arguments for part in _split(argument)]
    pairs = zip(flat[::2], flat[1::2], strict=True)
    return tuple(f"{flag.removeprefix('--').replace('-', '_')} {value}" for flag, value in pairs)
