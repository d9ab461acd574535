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
_STORE = re.compile(r"LanceError\(IO\)|Generic \w+ error|AWS Error|error sending request")
_GONE = re.compile(r"Not found: (\S+/data/[^\s,]+)")
"""A file that a version names: an upkeep has removed what only older versions had, or the disk has lost it."""
_REFUSED = re.compile(r"\b(401 Unauthorized|403 Forbidden|ACCESS_DENIED|HTTP status 40[13])\b")
_NOISE = re.compile(
    r"LanceError\(IO\): |Generic \w+ error: |Error performing list request: |\?\S*|"
    r" in \S+, after .* retry_timeout: \w+|:? *<\w+>.*|, \S+\.rs:\d+:\d+$"
)
"""What a client says of itself, and the answer's XML."""
_AGAIN = "run the same command again: it goes on where it stopped"
_REMEDIES = {
    28: ("no space left", f"free space there and {_AGAIN}"),
    122: ("the disk quota is used up", f"free space there and {_AGAIN}"),
    13: ("permission denied", "check that you may write there"),
    20: ("a file lies where a folder belongs", f"move it away and {_AGAIN}"),
    21: ("a folder lies where a file belongs", f"move it away and {_AGAIN}"),
    30: ("the file system is read-only", "mount it for writing"),
}


def is_conflict(error: Exception) -> bool:
    """Whether Lance says that another writer came first (it has no one exception type for that)."""
    return type(error).__name__ == "CommitConflictError" or bool(_CONFLICT.search(str(error)))


def is_fault(error: BaseException) -> bool:
    """Whether the disk or the store failed, which Lance reports as an OSError, a RuntimeError or a ValueError."""
    return isinstance(error, OSError) or bool(_STORE.search(str(error)))


def retrying(
    what: str, action: Callable[[], _T], pause: Callable[[float], None] = time.sleep, conflicts: int = CONFLICTS
) -> _T:
    """The result of `action`, tried again after conflicts (so many attempts at most) and faults of the store; UserError
    where trying is no use.
    """
    lost = faults = 0
    while True:
        try:
            return action()
        except (OSError, RuntimeError, ValueError) as error:
            if is_conflict(error):
                lost += 1
                if lost >= conflicts:
                    raise
                pause(random.uniform(0, min(0.5, 0.005 * 2 ** min(lost, 7))))
                continue
            if not is_fault(error):
                raise
            faults += 1
            if faults >= FAULTS or _is_hopeless(error):
                if (known := explained(error, what)) is not None:
                    raise known from error
                raise
            _log.warning("%s failed (attempt %d of %d): %s", what, faults, FAULTS, error)
            pause(0.2 * 2**faults * random.uniform(0.5, 1))


def explained(error: BaseException, what: str = "the disk or the store") -> UserError | None:
    """A fault of the disk or the store as a person needs to hear it, with the file where the error names one; None for
    any other error.
    """
    text = str(error)
    number = _number(error)
    if number in _REMEDIES and is_fault(error):
        cause, remedy = _REMEDIES[number]
        file = getattr(error, "filename2", None) or getattr(error, "filename", None)
        return UserError(f"{what}: {cause}" + (f" ({file})" if file and str(file) not in what else ""), remedy)
    if gone := _GONE.search(text):
        return UserError(
            f"{what}: a file of the pyramid is gone ({gone[1]})",
            "run the command again, for an upkeep may have removed what an older version had; else restore it",
        )
    if not _STORE.search(text):
        return None
    said = " ".join(_NOISE.sub("", text.replace("\n", " ")).split())[:240]
    if _REFUSED.search(text):
        return UserError(f"{what}: the store refuses it ({said})", "check the credentials and their rights")
    return UserError(f"{what}: the store fails ({said})", f"check the network and the endpoint, and {_AGAIN}")


def of_the_user(error: BaseException) -> UserError | None:
    """What a person needs to hear of an error: the `UserError` inside those that wrap it (Ray does, around what another
    process raised), or what a fault of the disk or the store comes to. None for any other error.
    """
    seen: object = error
    while isinstance(seen, BaseException):
        known = seen if isinstance(seen, UserError) else explained(seen)
        if known is not None:
            return known
        seen = getattr(seen, "cause", None) or seen.__cause__
    return None


def _is_hopeless(error: BaseException) -> bool:
    return _number(error) in _REMEDIES or bool(_REFUSED.search(str(error)))


def _number(error: BaseException) -> int:
    """The error number of the operating system, 0 where there is none."""
    found = _OS_ERROR.search(str(error))
    return (error.errno if isinstance(error, OSError) else None) or (int(found.group(1)) if found else 0)
