"""The live lines of a run on a person's terminal, or now and then one in a log. `progress` decides what they say.

All of it goes to standard error: standard output carries results only.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.live import Live
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

from curation.printable import printable
from pipelines.execution import signals
from pipelines.execution.coordinator import Heartbeat
from pipelines.execution.results.account import Account
from pipelines.progress.estimate import MEASURE, Estimate
from pipelines.progress.waiting import now_and_then

LOG_EVERY_S = 60.0
"""How often a log that is no terminal gets a line."""


class Screen:
    """Standard error. `all_listed`: the inputs of `account` are all that there will be."""

    def __init__(
        self,
        account: Account,
        estimate: Estimate,
        console: Console | None = None,
        tell: Callable[[str], None] = signals.tell,
    ) -> None:
        """`tell`: says a line of the log while Ray's start keeps standard error quiet."""
        self._account, self._at, self._tell = account, estimate, tell
        self._console = console or Console(stderr=True, markup=False, highlight=False)
        self._live: Live | None = None
        self._logged = time.monotonic()
        self.all_listed = False

    @property
    def width(self) -> int:
        return self._console.width

    @contextmanager
    def lit(self) -> Iterator[None]:
        """Live lines until the block ends, where there is a terminal for them."""
        if not self._console.is_terminal or self._live is not None:
            yield
            return
        with Live(console=self._console, refresh_per_second=4, transient=True) as live:
            self._live = live
            try:
                yield
            finally:
                self._live = None
                live.update("", refresh=True)

    @contextmanager
    def searching(self, what: str) -> Iterator[None]:
        """One line that moves, or one now and then in a log, while the driver looks for something."""
        if self._live is not None:
            self._live.update(Spinner("dots", Text(f"{what} ...")), refresh=True)
            yield
            return

        def told(spent_s: float) -> None:
            self._logged = time.monotonic()
            self._tell(printable(f"{what}: {duration(spent_s)} so far"))

        with now_and_then(told, LOG_EVERY_S, self._logged):
            yield

    def show(self, heartbeats: Sequence[Heartbeat], figures: dict[str, Any], stalled: str | None) -> None:
        """The stage with its workers, and the figures of `Display.figures`; `stalled` is a line that stays."""
        if stalled:
            self._console.print(printable(stalled), style="yellow", soft_wrap=True)
        if self._live is not None:
            self._live.update(self.table(heartbeats, figures), refresh=True)
        elif time.monotonic() - self._logged >= LOG_EVERY_S:
            self._logged = time.monotonic()
            videos = [self._videos()] if self._account.inputs else []
            line = ", ".join((self._stage(), *videos, self._eta()))
            self._console.print(line, soft_wrap=True)

    def table(self, heartbeats: Sequence[Heartbeat], figures: dict[str, Any]) -> Table:
        table = Table.grid(padding=(0, 2))
        names = (printable(heartbeat.item[-40:]) for heartbeat in heartbeats[:2])
        table.add_row(Text(self._stage(), style="bold"), f"{len(heartbeats)} working", *names)
        table.add_row(
            self._videos() if self._account.inputs else "",
            f"{figures['clips']} clips, {figures['cut']} cut",
            f"{figures['hours_per_hour']:.1f} h/h, {self._eta()}",
            " ".join(f"{reason} {count}" for reason, count in sorted(self._account.reasons.items())),
        )
        return table

    def _stage(self) -> str:
        at = self._at
        if not at.total:
            return f"{at.stage}: looking for what is left to do"
        return f"{at.stage} {at.done}/{at.total} {'videos' if at.stage == MEASURE else 'clips'}"

    def _videos(self) -> str:
        account = self._account
        return f"{account.finished}/{account.inputs} videos{'' if self.all_listed else ' listed so far'}"

    def _eta(self) -> str:
        left = self._at.left()
        return f"ETA {duration(left.seconds)}" + "".join(f" + {stage}" for stage in left.without)


def duration(seconds: float | None) -> str:
    if seconds is None:
        return "unknown"
    return f"{seconds:.0f} s" if seconds < 90 else f"{seconds / 60:.0f} min"
