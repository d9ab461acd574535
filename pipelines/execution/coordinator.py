"""The coordinator: one small Ray actor per run that knows who works on what.

Stages claim a video's content before they decode it (the same bytes under two names are decoded once) and tell it where
they are; the driver reads that for the live display and to name a stage that stands still. It holds no results: losing
it costs at most a video decoded twice, and a budget of captions that begins anew.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

from pipelines.stages.base import Claim


@dataclass(frozen=True, slots=True)
class Heartbeat:
    """Where a worker was when it was last heard of. `since` (it began the item) and `beat` (it was heard of):
    seconds of the coordinator's clock.
    """

    stage: str
    item: str
    frames: int
    since: float
    beat: float


class Coordinator:
    """Plain class; `pipelines.execution.ray_data` makes an actor of it."""

    def __init__(self, attempts: int) -> None:
        self._attempts = attempts
        self._claims: dict[str, tuple[str, int]] = {}
        self._heartbeats: dict[str, Heartbeat] = {}
        self._begun: Counter[str] = Counter()
        self._spent: dict[str, tuple[int, int]] = {}

    def alive(self) -> None:
        """An answer says that the run is there, see `sharing`."""

    def claim(self, video_id: str, uri: str) -> tuple[Claim, int]:
        """Whether the source `uri` is to be decoded as `video_id`, and how many times it has been tried, this one
        included where it goes ahead.

        A second claim by the same source means that its worker was lost.
        """
        owner, tried = self._claims.get(video_id, (uri, 0))
        if owner != uri:
            return Claim.TAKEN, tried
        if tried >= self._attempts:
            return Claim.EXHAUSTED, tried
        self._claims[video_id] = (uri, tried + 1)
        return Claim.GO, tried + 1

    def release(self, video_ids: list[str]) -> None:
        """Forget the claims of videos that the ledger holds now."""
        for video_id in video_ids:
            self._claims.pop(video_id, None)

    def begin(self, key: str) -> int:
        """Count one more try of an item; how many there are. More than one: a worker was lost with it."""
        self._begun[key] += 1
        return self._begun[key]

    def end(self, keys: Sequence[str]) -> None:
        """Forget items that have their result."""
        for key in keys:
            self._begun.pop(key, None)

    def spend(self, who: str, tokens_in: int, tokens_out: int) -> tuple[int, int]:
        """Add tokens to what `who` has used in this run; how many there are now. Outlives the worker that used them."""
        before = self._spent.get(who, (0, 0))
        self._spent[who] = now = (before[0] + tokens_in, before[1] + tokens_out)
        return now

    def beat(self, worker: str, stage: str, item: str, frames: int) -> None:
        """`worker` is at `frames` of `item`; an empty item means that it waits."""
        now = time.monotonic()
        if not item:
            self._heartbeats.pop(worker, None)
            return
        heartbeat = self._heartbeats.get(worker)
        if heartbeat is None or heartbeat.item != item:
            heartbeat = Heartbeat(stage, item, frames, now, now)
        self._heartbeats[worker] = replace(heartbeat, frames=frames, beat=now)

    def heartbeats(self) -> list[tuple[Heartbeat, float]]:
        """Who is where, with the seconds since each was last heard of."""
        now = time.monotonic()
        return [(heartbeat, now - heartbeat.beat) for heartbeat in self._heartbeats.values()]
