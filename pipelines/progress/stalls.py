"""Naming what stands still: workers that have been at the same frame of an item for long. `progress` says it.

It only tells. A decoder that hangs is ended by the sandbox (`silence_s`), a worker that dies is replaced by Ray; a
stage that needs long for an item gets all the time it needs.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

from pipelines.execution.coordinator import Heartbeat


class Stalls:
    """Looks at the workers of one stage again and again. `now` is the clock, in seconds."""

    def __init__(self, stage: str, stall_s: float, now: Callable[[], float] = time.monotonic) -> None:
        self._stage, self._stall_s, self._now = stage, stall_s, now
        self._at: dict[str, tuple[int, float]] = {}
        self._mark: Any = None
        self._moved = now()
        self._told = False

    def look(self, heartbeats: Sequence[Heartbeat], mark: Any) -> str | None:
        """A line about what has not moved for `stall_s`, once for the stage; None otherwise.

        `mark`: anything that changes when a result arrives.
        """
        now = self._now()
        before, self._at = self._at, {}
        for heartbeat in heartbeats:
            frames, since = before.get(heartbeat.item, (-1, now))
            self._at[heartbeat.item] = (heartbeat.frames, since if frames == heartbeat.frames else now)
        if mark != self._mark or heartbeats:
            self._mark, self._moved = mark, now
        return self._line(now)

    def _line(self, now: float) -> str | None:
        slow = {item: at for item, at in self._at.items() if now - at[1] > self._stall_s}
        idle = not self._at and now - self._moved > self._stall_s
        if self._told or not (slow or idle):
            return None
        self._told = True
        if idle:
            return f"stage {self._stage} has had no worker for {now - self._moved:.0f} s: is a processor free?"
        longest = now - min(since for _, since in slow.values())
        where = ", ".join(f"{item} at frame {frames}" for item, (frames, _) in slow.items())
        return f"stage {self._stage} has made no progress for {longest:.0f} s ({where}); it goes on"
