"""What goes through each stage of a run: what came in, what came out, what was left behind and why.

The run's account holds the flows, its record writes them down every ten seconds (`records.recording`), and the service
offers them to Prometheus (`pipelines.api.gauges`).
"""

from __future__ import annotations

import re
import time
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

OTHER = "other"
_REASON = re.compile(r"[a-z][a-z_ -]{0,39}")


@dataclass
class Flow:
    """One stage, over all windows of a run. Units are videos while measuring, samples while encoding, else clips.

    `taken`: units handed to the stage; `out`: those that it brought to a result; `rejected`: the others, by reason;
    `seconds`: how long the run was at it; `bytes`: read of sources while measuring, else written. `workers`: as many as
    the last pool had; `gpus`: of them together, the share of GPUs that is reserved. No field is written by two threads.
    """

    taken: int = 0
    out: int = 0
    rejected: Counter[str] = field(default_factory=Counter)
    bytes: int = 0
    workers: int = 0
    gpus: float = 0.0
    spent: float = 0.0
    since: float | None = None

    @property
    def seconds(self) -> float:
        since = self.since
        return self.spent + (0.0 if since is None else time.monotonic() - since)

    def pool(self, workers: int, gpus: float) -> None:
        """The stage has so many workers now, each with this share of a GPU."""
        self.workers, self.gpus = workers, workers * gpus

    def count(self, out: int, whys: Iterable[str] = (), read_or_written: int = 0) -> None:
        """So many units came out, and others were left behind for `whys`, up to the colon of each."""
        self.out += out
        self.rejected.update(map(_reason, whys))
        self.bytes += read_or_written

    def to_data(self) -> dict[str, Any]:
        """As the run's record has it. `queue`: units that are not settled yet; a result counts when it is committed."""
        rejected = dict(self.rejected)
        return {
            "in": self.taken,
            "out": self.out,
            "rejected": rejected,
            "queue": max(0, self.taken - self.out - sum(rejected.values())),
            "seconds": round(self.seconds, 3),
            "bytes": self.bytes,
            "workers": self.workers,
            "gpus": self.gpus,
        }


def _reason(why: str) -> str:
    """What stands before the colon, where that is a reason and no sentence: each makes a series of its own."""
    reason = why.partition(":")[0]
    return reason if _REASON.fullmatch(reason) else OTHER


class Flows:
    """The flows of a run by stage. `now`: of the stage that began last; results of it may still come after its end."""

    def __init__(self) -> None:
        self._stages: dict[str, Flow] = {}
        self.now = Flow()

    def begin(self, stage: str) -> None:
        """The run is at `stage`, for the first time or again."""
        self.now = self._stages.setdefault(stage, Flow())
        self.now.since = time.monotonic()

    def end(self) -> None:
        """The run is at no stage; nothing works any more."""
        flow = self.now
        flow.spent, flow.since = flow.seconds, None
        flow.pool(0, 0.0)

    def to_data(self) -> dict[str, dict[str, Any]]:
        """By stage, in order of their first beginning."""
        return {stage: flow.to_data() for stage, flow in list(self._stages.items())}
