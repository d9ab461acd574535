"""A line of text to a person, whatever names are in it: the other render modules write theirs here."""

from __future__ import annotations

import sys

from curation.printable import printable


def line(text: str, flush: bool = False) -> None:
    """A result, on standard output. `flush`: at once, even into a pipe."""
    print(printable(text), flush=flush)


def note(text: str) -> None:
    """What a person should know, on standard error."""
    print(f"note: {printable(text)}", file=sys.stderr)
