"""`--server URL`, as the command line reads it: the address of a service stands where the pyramid would.

A command of the class `Answered` takes it; of the others the group says that no service answers them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from typer import Context
from typer.core import TyperCommand, TyperGroup

from curation.errors import UserError
from pipelines.client.address import is_address

OPTION = "--server"
HELP = f"{OPTION} URL in the place of PYRAMID: ask the service there; its token is that in ZIGGURAT_TOKEN."


class Answered(TyperCommand):
    """A command that a service answers, too. Its first argument is the pyramid."""

    def __init__(self, *given: Any, **named: Any) -> None:
        super().__init__(*given, **{**named, "epilog": HELP})

    def parse_args(self, ctx: Context, args: list[str]) -> list[str]:
        place, rest = _taken(args)
        return super().parse_args(ctx, rest if place is None else [place, *rest])


class Commands(TyperGroup):
    """All commands."""

    def resolve_command(self, ctx: Context, args: list[str]) -> Any:
        name, command, rest = super().resolve_command(ctx, args)
        if command is not None and not isinstance(command, Answered) and _names_server(rest):
            others = ", ".join(name for name, one in self.commands.items() if isinstance(one, Answered))
            raise UserError(f"no service answers `{name}`", f"give it the pyramid itself; {OPTION} is for {others}")
        return name, command, rest


def _names_server(args: Sequence[str]) -> bool:
    return any(one == OPTION or one.startswith(f"{OPTION}=") for one in _before_end(args))


def _taken(args: Sequence[str]) -> tuple[str | None, list[str]]:
    """The address that is named, and the arguments without it."""
    if not _names_server(args):
        return None, list(args)
    at = next(place for place, one in enumerate(args) if one.partition("=")[0] == OPTION)
    _, equals, place = args[at].partition("=")
    rest = [*args[:at], *args[at + (1 if equals else 2) :]]
    place = place if equals else args[at + 1] if len(args) > at + 1 else ""
    if not is_address(place):
        raise UserError(f"{OPTION} {place!r} is no address of a service", f"write {OPTION} http://127.0.0.1:8470")
    if _names_server(rest):
        raise UserError(f"{OPTION} is given twice", "ask one service at a time")
    return place, rest


def _before_end(args: Sequence[str]) -> Sequence[str]:
    """Without what comes after `--`, which is no option."""
    return args[: args.index("--")] if "--" in args else args
