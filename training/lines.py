"""Files of lines that a run appends to, and that a kill may leave with a torn last one: the log, the steps left out."""

from __future__ import annotations

from pathlib import Path
from typing import TextIO

LOG = "log.jsonl"
"""A run's log, in its folder (`training.callbacks.log`): an object a line."""


def appended(place: Path) -> TextIO:
    """The file, open for further lines: a torn one is ended first, so that it takes no later one with it."""
    file = place.open("a", encoding="utf-8")
    if file.tell():
        with place.open("rb") as there:
            there.seek(-1, 2)
            torn = there.read(1) != b"\n"
        if torn:
            file.write("\n")
    return file
