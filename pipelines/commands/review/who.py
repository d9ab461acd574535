"""In whose name a person speaks who gives no other: that of the user of this machine."""

from __future__ import annotations

import getpass


def user() -> str | None:
    """The user's name; None where the machine knows none, as in a container whose user has no entry."""
    try:
        return getpass.getuser().strip() or None
    except (OSError, KeyError, ImportError):
        return None
