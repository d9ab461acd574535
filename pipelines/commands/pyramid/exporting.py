"""Exports that a service writes: begun, watched, cancelled; two at once, each in a thread of its own.

What is written is what `ziggurat export` writes, part by part. A part is whole or not there, so one that is cancelled,
or ends with the service, goes on where it stopped when it is asked for again, here or by the command.
"""

from __future__ import annotations

import logging
import secrets
import threading
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

from curation.errors import BusyError, NotThereError, UserError
from curation.exports.export import Exported
from curation.pyramid.history.runs import utc
from curation.retry import is_fault, of_the_user
from pipelines.commands.pyramid.export import Prepared, Request, prepared

MOST = 2
"""Exports at work: each holds a part of clips in memory."""

KEPT = 200
"""Exports that a service remembers."""

RUNNING, DONE, CANCELLED, FAILED = "running", "done", "cancelled", "failed"
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Export:
    """One that was asked for. `state`: of `RUNNING` and its like; `clips`: in files so far, of `total` that the query
    has; `exported`: what is there, of one that is done; `why`: what ended one that failed.
    """

    id: str
    layout: str
    output: str
    total: int
    began: str
    by: str
    clips: int = 0
    state: str = RUNNING
    ended: str | None = None
    exported: Mapping[str, Any] | None = None
    why: str | None = None


class _Cancelled(Exception):
    """Raised between two parts."""


@dataclass
class Exports:
    """Those of one service, from its start on."""

    _known: dict[str, Export] = field(default_factory=dict)
    _ending: set[str] = field(default_factory=set)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def begin(self, request: Request, by: str) -> Export:
        """Write in the background. BusyError: as many are at work as may be. UserError: what is wrong in the request,
        or another one writes there.
        """
        export = prepared(request)
        total = export.query.count()
        now = datetime.now(UTC)
        name = f"export-{now:%Y%m%d-%H%M%S}-{secrets.token_hex(3)}"
        made = Export(name, request.layout, request.output, total, utc(now), by)
        with self._lock:
            at_work = [one for one in self._known.values() if one.state == RUNNING]
            if any(one.output == made.output for one in at_work):
                raise UserError(f"an export to {made.output} is at work", "wait for it, or choose another place")
            if len(at_work) >= MOST:
                raise BusyError(f"{len(at_work)} exports are at work", "wait for one, or cancel one")
            self._known[name] = made
            ended = [one.id for one in self._known.values() if one.state != RUNNING]
            for old in ended[: max(0, len(self._known) - KEPT)]:
                del self._known[old]
        threading.Thread(target=self._write, args=(name, export), name=name, daemon=True).start()
        return made

    def listed(self) -> list[Export]:
        """The newest last."""
        with self._lock:
            return list(self._known.values())

    def one(self, name: str) -> Export:
        with self._lock:
            if (found := self._known.get(name)) is None:
                raise NotThereError(f"there is no export {name}", "a service knows those that it was asked for itself")
            return found

    def cancel(self, name: str) -> Export:
        """Have it end after the part that it writes; one that has ended stays as it is."""
        found = self.one(name)
        if found.state == RUNNING:
            self._ending.add(name)
        return found

    def _write(self, name: str, export: Prepared) -> None:
        def told(clips: int) -> None:
            if name in self._ending:
                raise _Cancelled
            self._note(name, clips=clips)

        try:
            done = export.write(told)
            self._note(name, state=DONE, clips=done.clips, exported=_plain(done))
        except _Cancelled:
            self._note(name, state=CANCELLED)
        except Exception as error:
            self._note(name, state=FAILED, why=_why(name, error))

    def _note(self, name: str, **changes: Any) -> None:
        ended = {"ended": utc()} if "state" in changes else {}
        with self._lock:
            self._known[name] = replace(self._known[name], **changes, **ended)


def _plain(done: Exported) -> dict[str, Any]:
    return asdict(done) | {"left_out": dict(done.left_out)}


def _why(name: str, error: Exception) -> str:
    if (known := of_the_user(error)) is not None:
        return str(known)
    _log.exception("%s", name, exc_info=error)
    return "the disk or the store fails" if is_fault(error) else "a fault of the service; its log has more"
