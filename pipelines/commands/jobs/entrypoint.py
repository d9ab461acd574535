"""The command line of a job: checked by the command's own parser, and made to mean the same on the cluster.

Between what a person types after `ziggurat submit` and the entrypoint that Ray is given. The driver of a job starts in
another folder and maybe on another machine. So relative paths become absolute here, from the folder where they are
typed: clusters whose nodes see the data see it at the same place, by shared storage, and a head on this machine sees
what we see. A relative path that must be there and is not is refused. What lies on this machine alone cannot be told
from here: the notes say so, and the driver ends in one line on what is missing.
"""

from __future__ import annotations

import glob
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any

from curation.errors import UserError


class Path(Enum):
    """What a parameter names. INPUT: what must be there; OUTPUT: what need not; FILE: a file, or what ships by name."""

    INPUT = "input"
    OUTPUT = "output"
    FILE = "file"


_RECIPE = {"recipe": Path.FILE}
_OF_PYRAMID = {"pyramid": Path.INPUT}
COMMANDS: Mapping[str, Mapping[str, Path]] = {
    "curate": {"sources": Path.INPUT, "to": Path.OUTPUT, "root": Path.INPUT, **_RECIPE},
    "cut": _OF_PYRAMID | _RECIPE,
    "caption": _OF_PYRAMID,
    "embed": _OF_PYRAMID,
    "duplicates": _OF_PYRAMID,
    "clusters": _OF_PYRAMID,
    "retry": _OF_PYRAMID,
    "encode": {"manifest": Path.INPUT, "model": Path.FILE, "to": Path.OUTPUT},
    "train": {
        "manifest": Path.INPUT,
        "latents": Path.INPUT,
        "model": Path.FILE,
        "preset": Path.FILE,
        "to": Path.OUTPUT,
    },
}
"""The commands that may be a job, and which of their parameters are places."""

_LOCAL_RAY = ("cpus", "dry_run")
_RAY_OF_TRAIN = ("workers", "stream")
"""`train` starts Ray only with one of these; without, it trains in the driver's process, on the head."""


@dataclass(frozen=True, slots=True)
class Entrypoint:
    """The words of the command as the cluster gets it. `local`: the paths of this machine that are in it."""

    words: tuple[str, ...]
    local: tuple[str, ...]


def entrypoint(group: Any, typed: Sequence[str]) -> Entrypoint:
    """What `ziggurat` is to be called with on the cluster for what was `typed` after `submit`.

    `group`: the whole command line, as click has it. Raises `UserError`, or the parser's own error, where the command
    would not understand it.
    """
    name = typed[0] if typed else ""
    if name not in COMMANDS:
        told = f"{name!r} is no job" if name else "no command is given"
        raise UserError(told, f"give one of {', '.join(COMMANDS)}, with its arguments")
    command = group.commands[name]
    above = group.make_context("ziggurat", [name])
    context = command.make_context(name, list(typed[1:]), parent=above)
    given = [one for one in command.params if _is_typed(context, one.name)]
    names = {one.name for one in given}
    _check(name, names, context.params)
    places = _Places(COMMANDS[name])
    options, arguments = [], []
    for parameter in given:
        if parameter.name == "address":
            continue
        value = places.absolute(parameter.name, context.params[parameter.name])
        if parameter.param_type_name == "argument":
            arguments += [str(one) for one in (value if isinstance(value, (list, tuple)) else [value])]
        else:
            options += _option(parameter, value)
    if name != "train" or names & {*_RAY_OF_TRAIN}:
        options += ["--address", "auto"]
    words = ["ziggurat", name]
    words += [*options, "--", *arguments] if any(one.startswith("-") for one in arguments) else [*arguments, *options]
    return Entrypoint(tuple(words), tuple(places.local))


def _is_typed(context: Any, name: str) -> bool:
    source = context.get_parameter_source(name)
    return source is not None and source.name == "COMMANDLINE"


def _check(name: str, names: set[str], values: Mapping[str, Any]) -> None:
    """UserError where an option says what a job cannot do."""
    if "address" in names and values["address"] != "auto":
        raise UserError(
            f"a job joins the cluster that it is sent to, not {values['address']}",
            f"leave out the --address of {name}; the one before {name} says where it is sent",
        )
    for option in _LOCAL_RAY:
        if option in names:
            raise UserError(f"--{option.replace('_', '-')} is of a run on this machine", "leave it out of a job")


def _option(parameter: Any, value: Any) -> Iterator[str]:
    """The words that say `value` of an option again."""
    if isinstance(value, bool):
        yield parameter.opts[0] if value else parameter.secondary_opts[0]
        return
    long = next((name for name in parameter.opts if name.startswith("--")), parameter.opts[0])
    for one in value if isinstance(value, (list, tuple)) else [value]:
        yield from [f"{long}={one}"] if str(one).startswith("-") else [long, str(one)]


class _Places:
    """Makes the places of one command absolute, and keeps those that are of this machine."""

    def __init__(self, kinds: Mapping[str, Path]) -> None:
        self._kinds = kinds
        self.local: list[str] = []

    def absolute(self, name: str, value: Any) -> Any:
        """The value of the parameter `name`."""
        if (kind := self._kinds.get(name)) is None:
            return value
        if isinstance(value, (list, tuple)):
            return [self._absolute(str(one), kind) for one in value]
        return self._absolute(str(value), kind)

    def _absolute(self, place: str, kind: Path) -> str:
        if "://" in place or place.startswith("file:"):
            return place
        if kind is Path.FILE and not os.path.splitext(place)[1] and not os.path.exists(place):
            return place  # the name of one that ships
        if not os.path.isabs(place) and kind is not Path.OUTPUT and not _is_there(place):
            told = "a relative path counts from this folder: give an absolute one as the cluster's nodes see it"
            raise UserError(f"{place} is not there", told)
        self.local.append(found := os.path.abspath(place))
        return found


def _is_there(place: str) -> bool:
    """Also of a glob that matches, and of the manifest of a pyramid that is there."""
    return os.path.lexists(place.partition("#")[0]) or os.path.lexists(place) or bool(glob.glob(place))
