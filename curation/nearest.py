"""A remedy for a name that is none of those there are: which of them was meant, by how alike they are, and all of them.

For errors of names that a person types: columns of a query and of a tier.
"""

from __future__ import annotations

from collections.abc import Sequence
from difflib import get_close_matches


def named(wrong: str, names: Sequence[str], verb: str = "there are") -> str:
    """`did you mean motion? there are motion, width`; without the question where nothing is like `wrong`."""
    listed = f"{verb} {', '.join(names)}"
    near = get_close_matches(wrong, names, 1)
    return f"did you mean {near[0]}? {listed}" if near else listed
