"""What the command `why` does, and what conditions on a command line mean, for `query` and `tiers`."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from rich.console import Console

from curation.contract import REASONS, Reason
from curation.errors import UserError
from curation.pyramid.conditions import ALL, TEXTS
from curation.pyramid.retier import opened

_NUMBER = r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?"
_RANGE = re.compile(rf"({_NUMBER})?\.\.({_NUMBER})?")


def conditions(arguments: Sequence[str], others: Callable[[str], str | None] | None = None) -> dict[str, Any]:
    """`--motion 1..8 --width 1280..` as conditions of a query: ranges, numbers or texts by column.

    `others`: what knows columns that are none of a clip's own: the name of the one that is meant, or None. Their values
    stay texts.
    """
    found: dict[str, Any] = {}
    rest = [part for argument in arguments for part in _split(argument)]
    while rest:
        flag = rest.pop(0)
        column = _column(flag, others)
        if not rest or rest[0].startswith("--"):
            raise UserError(f"{flag} has no value", f"write {flag} low..high")
        if column in found:
            raise UserError(f"{flag} is given twice", "give one range a column")
        text = rest.pop(0)
        found[column] = _value(column, text) if column in ALL else text
    return found


def _column(flag: str, others: Callable[[str], str | None] | None) -> str:
    if not flag.startswith("--"):
        raise UserError(f"{flag!r} is not an option", "write conditions as --column low..high")
    given = flag.removeprefix("--")
    column = given.replace("-", "_")
    if column in ALL:
        return column
    meant = (others(given) or others(column)) if others else None
    if meant is None:
        raise UserError(f"no option {flag} and no column {column!r}", f"there are {', '.join(ALL)}")
    return meant


def _split(argument: str) -> list[str]:
    name, equals, value = argument.partition("=")
    return [name, value] if equals and name.startswith("--") else [argument]


def _value(column: str, text: str) -> Any:
    if column in TEXTS:
        return None if text == "null" else text
    number = number_or_range(text)
    if number is None:
        raise UserError(f"--{column} {text!r} is not a range", "write low..high, low.., ..high or a number")
    return number


def number_or_range(text: str) -> float | tuple[float | None, float | None] | None:
    """`1..8`, `1..`, `..8` or `8` as a pair or a number; None for anything else."""
    if match := _RANGE.fullmatch(text):
        low, high = (float(bound) if bound else None for bound in match.groups())
        return (low, high)
    return float(text) if re.fullmatch(_NUMBER, text) else None


def cell(value: Any) -> str:
    """A value as it stands in a table."""
    if value is None:
        return "-"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def tell_why(uri: str, name: str, as_json: bool) -> None:
    """`ziggurat why`."""
    from curation.pyramid.ledger import Ledger

    found = Ledger(opened(uri)).history(name)
    if not found.videos and not found.clips:
        raise UserError(
            f"nothing is known of {name!r}", "give an id, its first four digits or more, a URI or a file name"
        )
    if as_json:
        for kind, rows in (("video", found.videos), ("clip", found.clips)):
            for row in rows:
                print(json.dumps({"kind": kind, **row}, default=str))
        return
    console = Console(highlight=False, soft_wrap=True)
    for row in found.videos:
        _tell_video(console, row)
    for row in found.clips:
        _tell_clip(console, row)
    if found.cut:
        console.print("more match; give a longer name")


def _tell_video(console: Console, row: Mapping[str, Any]) -> None:
    console.print(f"[bold]video {row['video_id']}[/]  {row['status']}")
    if row["reason"]:
        measured = "" if row["measured"] is None else f", measured {row['measured']:.6g}"
        console.print(f"  {row['reason']}: {REASONS[Reason(row['reason'])]}{measured}")
    if row["detail"]:
        console.print(f"  detail: {row['detail']}", markup=False)
    for uri in row["uris"] or ():
        console.print(f"  {uri}", markup=False)
    facts = ("duration_s", "fps", "width", "height", "codec", "profile", "bpp", "bytes", "clips")
    console.print("  " + ", ".join(f"{name} {cell(row[name])}" for name in facts if row[name] is not None))
    console.print(
        f"  settled {row['finished_at']} by job {row['job']}, attempt {row['attempts']}, {row['fingerprint']}"
    )


def _tell_making(console: Console, row: Mapping[str, Any]) -> None:
    """What became of the source's pictures: how many of them, cropped, converted, and why no more."""
    taken = (row["end_frame"] or 0) - (row["start_frame"] or 0)
    said = [f"{row['frames']} frames from {taken} of the source"]
    if row["crop"]:
        said.append("crop {2}x{3} at {0},{1}".format(*row["crop"]))
    said += [row[name] for name in ("conversion",) if row[name]]
    if row["ended_by"]:
        said.append(f"ends by {row['ended_by']}")
    console.print(f"  {', '.join(said)}", markup=False)


def _tell_clip(console: Console, row: Mapping[str, Any]) -> None:
    console.print(
        f"[bold]clip {row['clip_id']}[/]  {row['start_s']:.3f} to {row['end_s']:.3f} s (shot {row['shot']}, "
        f"frames {row['start_frame']} to {row['end_frame']}), {row['width']}x{row['height']}, {row['fps']:.5g} fps"
    )
    _tell_making(console, row)
    for score in ("motion", "sharpness", "jitter", "text_area", "aesthetic"):
        value, why, by = row[score], row[f"{score}_why"], row[f"{score}_by"]
        console.print(f"  {score:10} {cell(value):>10}  {by or ''}{f'({why})' if value is None and why else ''}")
    media = f"cut, sha256 {row['media']}" if row["media"] else f"not cut {row['media_why'] or ''}".strip()
    console.print(f"  tier {row['tier'] or 'none'}; {media}")
