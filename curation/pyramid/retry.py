"""Trying a commit again: after a conflict with another writer, after a fault of the store, and never without
end.

Every action given to `retrying` may be repeated although its last attempt succeeded and only the reply was
lost.
"""

from __future__ import annotations

import logging
import random
import re
import time
from collections.abc import Callable
from typing import TypeVar

from curation.errors import UserError

_log = logging.getLogger(__name__)
_T = TypeVar("_T")

CONFLICTS = 200
"""Attempts against other writers: each lost race means that somebody else went forward."""
FAULTS = 6
"""Attempts against a store that fails: with doubling pauses about 12 seconds in all."""

_CONFLICT = re.compile(r"concurrent writers|commit conflict|conflicting|preempted by concurrent", re.IGNORECASE)
_OS_ERROR = re.compile(r"os error (\d+)")
_REMEDIES = {
    28: ("no space left", "free space there and run the same command again: it goes on where it stopped"),
    122: ("the disk quota is used up", "free space there and run the same command again"),
    13: ("permission denied", "check that you may write there"),
    30: ("the file system is read-only", "mount it for writing"),
}


def is_conflict(error: Exception) -> bool:
    """Whether Lance says that another writer came first (it has no one exception type for that)."""
    return type(error).__name__ == "CommitConflictError" or bool(_CONFLICT.search(str(error)))


def retrying(what: str, action: Callable[[], _T], pause: Callable[[float], None] = time.sleep) -> _T:
    """The result of `action`, tried again after conflicts and faults of the store; UserError where trying is
    no use.
    """
    conflicts = faults = 0
    while True:
        try:
            return action()
        except (OSError, RuntimeError, ValueError) as error:
            if is_conflict(error):
                conflicts += 1
                if conflicts >= CONFLICTS:
                    raise
                pause(random.uniform(0, min(0.5, 0.005 * 2 ** min(conflicts, 7))))
                continue
            if not isinstance(error, OSError):
                raise
            _give_up_on_known(what, error)
            faults += 1
            if faults >= FAULTS:
                raise
            _log.warning("%s failed (attempt %d of %d): %s", what, faults, FAULTS, error)
            pause(0.2 * 2**faults * random.uniform(0.5, 1))


def _give_up_on_known(what: str, error: OSError) -> None:
    found = _OS_ERROR.search(str(error))
    number = error.errno or (int(found.group(1)) if found else 0)
    if number in _REMEDIES:
        cause, remedy = _REMEDIES[number]
        raise UserError(f"{what}: {cause}", remedy) from error
