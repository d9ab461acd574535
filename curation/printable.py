"""Text of other people's choosing (file names, metadata, what a library says of a file) as a terminal may show it.

Whatever prints a name to a person asks here; files and JSON keep names as they are, or escape them by their own rules.
"""

from __future__ import annotations


def printable(text: str) -> str:
    """The text with what would steer a terminal (control characters, marks of direction, line breaks, half a
    character) written as an escape: `\\x1b` and the like.
    """
    if text.isprintable():
        return text
    return "".join(one if one.isprintable() else one.encode("unicode_escape").decode() for one in text)
