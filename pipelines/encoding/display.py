"""What a person or a machine sees of an encoding run: a live line while it works, or an object a line with `--json`.

As `progress.display` for curation: results go to standard output, all that is live to standard error. The summary is
`render.shards`'.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import Any, TextIO

from rich.console import Console
from rich.status import Status

from curation.printable import printable
from curation.pyramid.history.runs import Progress
from pipelines.encoding.account import EncodeAccount
from pipelines.execution import signals
from pipelines.progress.estimate import Estimate
from pipelines.progress.looks import looking
from pipelines.progress.screen import LOG_EVERY_S, duration
from pipelines.progress.waiting import now_and_then, still_at

STALL_S = 300.0


class EncodeDisplay:
    """The driver's watch (`encode.Watch`)."""

    def __init__(
        self,
        account: EncodeAccount,
        out: TextIO,
        as_json: bool,
        stall_s: float = STALL_S,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        """`now`: the clock, in seconds."""
        self._account, self._out, self._json, self._stall_s, self._now = account, out, as_json, stall_s, now
        self._estimate = Estimate(now)
        self._console = Console(stderr=True, markup=False, highlight=False)
        self._status: Status | None = None
        self._stage = ""
        self._began = self._logged = now()

    def expect(self, units: int) -> None:
        self._estimate.expect(units)

    def advance(self, units: int, clips: int = 0) -> None:
        self._estimate.advance(units, clips)

    @contextmanager
    def searching(self, what: str) -> Iterator[None]:
        """Say that the driver looks for something, or waits, until the block ends."""
        if self._json:
            self._emit({"event": "search", "what": what})

        def still(spent_s: float) -> None:
            if self._json:
                self._emit(still_at(what, spent_s))
            else:
                signals.tell(printable(f"{what}: {duration(spent_s)} so far"))

        with self._console.status(f"{what} ...") if self._live else now_and_then(still, LOG_EVERY_S):
            yield

    @contextmanager
    def over(self, stage: str, coordinator: Any) -> Iterator[None]:
        """Show `stage` until the block ends."""
        self._estimate.begin(stage)
        self._stage, self._began = stage, self._now()
        with (
            self._console.status(f"{stage} ...") if self._live else nullcontext() as self._status,
            looking(stage, coordinator, self._estimate, self._stall_s, lambda _, stalled: self.show(stalled)),
        ):
            yield

    def progress(self) -> Progress:
        """How far the run is, for its record."""
        return self._estimate.progress()

    @property
    def _live(self) -> bool:
        return self._console.is_terminal and not self._json

    def show(self, stalled: str | None) -> None:
        """How far the stage is. `stalled`: what stands still, if anything does."""
        stage, now = self._stage, self._account.figures(self._now() - self._began)
        left = self._estimate.left().seconds
        if self._json:
            if stalled:
                self._emit({"event": "stalled", "stage": stage, "what": stalled})
            self._emit({"event": "progress", "stage": stage, **now, "eta_s": left})
            return
        if stalled:
            self._console.print(printable(stalled), style="yellow", soft_wrap=True)
        eta = "unknown" if left is None else f"{left / 60:.0f} min" if left >= 90 else f"{left:.0f} s"
        line = f"{stage} {self._estimate.done}/{self._estimate.total}, {now['samples_per_s']:.2f} samples/s, ETA {eta}"
        if self._status is not None:
            self._status.update(line)
        elif self._now() - self._logged >= LOG_EVERY_S:
            self._logged = self._now()
            self._console.print(line, soft_wrap=True)

    def _emit(self, event: dict[str, Any]) -> None:
        print(json.dumps(event), file=self._out, flush=True)
