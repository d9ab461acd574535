"""Errors meant for people: one line with the cause and the remedy. `cli.main` prints them and exits with code 2.

Data never raises these: what is wrong with a video is a `contract.Reason`.
"""

from __future__ import annotations


class UserError(Exception):
    """Something that the person at the keyboard can put right; the message says what and how."""

    def __init__(self, cause: str, remedy: str) -> None:
        super().__init__(f"{cause}; {remedy}")
        self.cause = cause
        self.remedy = remedy

    def __reduce__(self) -> tuple[type[UserError], tuple[str, str]]:
        """Without it a `UserError` could not be sent between processes."""
        return type(self), (self.cause, self.remedy)


class NotThereError(UserError):
    """What is asked for by its name is not there."""


class BusyError(UserError):
    """As much is at work as may be at once: later it can be done."""


class UnansweredError(UserError):
    """Another service that this needs does not answer, or does not let us in."""


class WorkerSpentError(BaseException):
    """What the process works with is of no use any more (its engine has died, its GPU is lost): its work is for another
    process. No `Exception`, for it says nothing of the item that is worked on and nobody on the way shall take it so.
    """
