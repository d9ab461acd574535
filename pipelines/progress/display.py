"""What a person or a machine sees of a run: live lines while it works, a summary at the end, a name when it stalls.

Standard output carries results only (`--json`: one object a line); everything live goes to standard error.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any, TextIO

from rich.console import Console
from rich.table import Table

from curation.contract import Reason
from curation.printable import printable
from curation.pyramid.history.census import Census
from curation.pyramid.history.runs import Progress
from curation.reasons import REASONS
from pipelines.execution.coordinator import Heartbeat
from pipelines.execution.results.account import Account
from pipelines.progress.estimate import Estimate
from pipelines.progress.looks import looking
from pipelines.progress.screen import LOG_EVERY_S, Screen
from pipelines.progress.waiting import now_and_then, still_at


@contextmanager
def results_only() -> Iterator[TextIO]:
    """Standard output for results alone: whatever else writes to it in this block lands on standard error.

    Ray's core prints to the file descriptor itself, so that is what moves.
    """
    sys.stdout.flush()
    kept = os.dup(1)
    os.dup2(2, 1)
    with os.fdopen(kept, "w") as out:
        try:
            yield out
        finally:
            out.flush()
            sys.stdout.flush()
            os.dup2(kept, 1)


class Display:
    """Shows a run; the driver's watch. It wakes every two seconds, and names what makes no progress."""

    def __init__(self, account: Account, out: TextIO, as_json: bool, stall_s: float) -> None:
        self.account, self._out, self._json, self._stall_s = account, out, as_json, stall_s
        self._started: float | None = None
        self._estimate = Estimate()
        self._screen = Screen(account, self._estimate)

    def plan(self, stages: Sequence[str], all_listed: bool) -> None:
        """A window of sources begins, and goes through `stages` in this order. `all_listed`: no window follows."""
        self._estimate.plan(stages)
        self._screen.all_listed = all_listed

    def expect(self, units: int) -> None:
        """So many more videos, or clips, are to be done by the stage that is shown."""
        self._estimate.expect(units)

    def advance(self, units: int, clips: int = 0) -> None:
        """So many are done, and brought so many new clips."""
        self._estimate.advance(units, clips)

    @contextmanager
    def searching(self, what: str) -> Iterator[None]:
        """Say that the driver looks for something, or waits, until the block ends: the screen is never blank."""
        if self._json:
            self._emit({"event": "search", "what": what})
            with now_and_then(lambda spent_s: self._emit(still_at(what, spent_s)), LOG_EVERY_S):
                yield
        else:
            with self._screen.lit(), self._screen.searching(what):
                yield

    @contextmanager
    def over(self, stage: str, coordinator: Any) -> Iterator[None]:
        """Show `stage` until the block ends."""
        self._estimate.begin(stage)
        self._started = self._started or time.monotonic()

        def show(heartbeats: Sequence[Heartbeat], stalled: str | None) -> None:
            self._show(stage, heartbeats, stalled)

        with (
            nullcontext() if self._json else self._screen.lit(),
            looking(stage, coordinator, self._estimate, self._stall_s, show),
        ):
            yield

    def _show(self, stage: str, heartbeats: Sequence[Heartbeat], stalled: str | None) -> None:
        if not self._json:
            self._screen.show(heartbeats, self.figures(), stalled)
            return
        if stalled:
            self._emit({"event": "stalled", "stage": stage, "what": stalled})
        self._emit({"event": "progress", "stage": stage, **self.figures()})

    def _emit(self, event: dict[str, Any]) -> None:
        print(json.dumps(event), file=self._out, flush=True)

    def figures(self) -> dict[str, Any]:
        """The live figures; `hours_per_hour`: hours of source video settled in an hour. `stage_done` and `stage_total`
        count videos while measuring, else clips. `eta_s` covers the stages to come, but for those of `eta_without`, and
        the videos that have been listed.
        """
        account, now = self.account, time.monotonic()
        spent = now - (self._started or now)
        left = self._estimate.left()
        return {
            "stage_done": self._estimate.done,
            "stage_total": self._estimate.total,
            "inputs": account.inputs,
            "finished": account.finished,
            "clips": account.clips,
            "cut": account.cut,
            "rejected": account.rejected,
            "quarantined": account.quarantined,
            "reasons": dict(account.reasons),
            "hours_per_hour": account.source_hours * 3600 / spent if spent else 0.0,
            "eta_s": left.seconds,
            "eta_without": list(left.without),
            "all_listed": self._screen.all_listed,
            "seconds": spent,
        }

    def progress(self) -> Progress:
        """How far the run is, for its record."""
        return self._estimate.progress()

    def summary(self, now: Census, notices: list[str]) -> None:
        """The end of a run: every input accounted for, what the pyramid holds, and what the reader must know first."""
        if self._json:
            account = self.account
            fields = {
                **self.figures(),
                "eta_s": 0.0,
                "eta_without": [],
                "recovered": account.recovered,
                "settled_before": account.settled_before,
                "same_content": account.same_content,
                "done": account.done,
                "clip_hours": account.clip_hours,
                "scored": dict(account.scored),
                "not_scored": dict(account.not_scored),
                "cut_failed": dict(account.cut_failed),
                "cut_without_sound": dict(account.cut_without_sound),
                "captioned": dict(account.captioned),
                "not_captioned": dict(account.not_captioned),
                "captions_lost": dict(account.captions_lost),
                "captions_equal": dict(account.captions_equal),
                "commonest_caption": account.commonest_caption,
                "caption_tokens": dict(account.caption_tokens),
                "caption_usd": account.caption_usd,
                "captions_left": dict(+account.captions_left),
                "embedded": dict(+account.embedded),
                "not_embedded": dict(account.not_embedded),
                "vectors_lost": dict(account.vectors_lost),
                "losses": account.losses,
                "lost_videos": account.lost_videos,
                "exit": account.exit_code,
                "cut_bytes": account.cut_bytes,
                "frames_decoded": account.decoded,
                "passed_over": dict(account.passed_over),
                "tiers": dict(now.tiers),
                "pyramid": now.to_data(),
                "notices": notices,
            }
            self._emit({"event": "summary", **fields})
            return
        console = Console(file=self._out, width=max(100, self._screen.width), markup=False, highlight=False)
        for notice in notices:
            console.print(f"note: {printable(notice)}", style="yellow")
        if self.account.inputs or self.account.passed_over:  # else the run has listed no source
            console.print(_inputs(self.account))
        console.print(_results(self.account))
        console.print(_holds(now))
        for what, count in self.account.left_undone.items():
            told = f"exit code 1: the budget is used up, and {count} clips are left to the next run ({what})"
            console.print(told, style="yellow")
        if losses := ", ".join(_counted(what, count) for what, count in self.account.losses.items()):
            told = f"exit code 1: lost by a fault of Ziggurat, its set-up or the storage: {losses}"
            console.print(told, style="yellow")
            for name in self.account.lost_videos:
                console.print(f"  {printable(name)}", style="yellow", soft_wrap=True)
            console.print("`ziggurat why PYRAMID NAME` tells what happened to each", style="yellow")


def _counted(what: str, count: int) -> str:
    """`2 videos: unreadable`, `1 video: unreadable`."""
    things, colon, why = what.partition(": ")
    noun, space, rest = things.partition(" ")
    return f"{count} {noun.removesuffix('s') if count == 1 else noun}{space}{rest}{colon}{why}"


def _inputs(account: Account) -> Table:
    table = Table(title="Inputs", title_justify="left")
    table.add_column("what became of them")
    table.add_column("videos", justify="right")
    table.add_row("done: clips", str(account.done))
    for reason, count in sorted(account.reasons.items()):
        known = Reason(reason)
        table.add_row(f"{known.status}: {reason} ({REASONS[known].partition(' (')[0]})", str(count))
    table.add_row("same content as another input", str(account.same_content))
    table.add_row("settled by an earlier run", str(account.settled_before))
    table.add_section()
    table.add_row("inputs", str(account.inputs))
    if account.passed_over:
        table.add_section()
        for kind, count in account.passed_over.most_common():
            table.add_row(f"no input, passed over: {kind}", str(count))
    return table


def _results(account: Account) -> Table:
    table = Table(title="This run", title_justify="left")
    table.add_column("result")
    table.add_column("", justify="right")
    if account.recovered:
        table.add_row("results of a killed run, recovered", str(account.recovered))
    if account.inputs:
        table.add_row("source video settled, hours", f"{account.source_hours:.3f}")
        table.add_row("clips measured", str(account.clips))
        table.add_row("clips measured, hours", f"{account.clip_hours:.3f}")
    for score, count in account.scored.items():
        table.add_row(f"clips scored: {score}", str(count))
    for what, count in account.not_scored.items():
        table.add_row(f"clips not scored: {what}", str(count))
    if account.inputs or account.cut:
        table.add_row("clips cut", f"{account.cut} ({account.cut_bytes / 1e6:.1f} MB)")
    for reason, count in account.cut_failed.items():
        table.add_row(f"clips not cut: {reason}", str(count))
    for reason, count in account.cut_without_sound.items():
        table.add_row(f"clips cut without their sound: {reason}", str(count))
    _add_captions(table, account)
    for space, count in (+account.embedded).items():
        table.add_row(f"vectors made: {space}", str(count))
    for what, count in (*account.not_embedded.items(), *account.vectors_lost.items()):
        table.add_row(f"clips without a vector: {what}", str(count))
    if not table.row_count and not account.left_undone:
        table.add_row("nothing was left to do", "")
    return table


def _add_captions(table: Table, account: Account) -> None:
    for block, count in account.captioned.items():
        table.add_row(f"clips captioned: {block}", str(count))
    for what, count in (*account.not_captioned.items(), *account.captions_lost.items()):
        table.add_row(f"clips not captioned: {what}", str(count))
    for block, count in account.captions_equal.items():
        table.add_row(f"clips whose caption another one has too: {block}", str(count))
    if account.captions_equal:
        table.add_row("clips with the commonest caption", str(account.commonest_caption))
    if tokens := account.caption_tokens:
        cost = f", {account.caption_usd:.2f} USD" if account.caption_usd else ""
        table.add_row("tokens of captions, in and out", f"{tokens['in']} and {tokens['out']}{cost}")


def _holds(now: Census) -> Table:
    table = Table(title="The pyramid now", title_justify="left")
    table.add_column("it holds")
    table.add_column("", justify="right")
    for (status, reason), count in now.videos.items():
        table.add_row(f"videos {status}{f': {reason}' if reason else ''}", str(count))
    table.add_section()
    table.add_row("clips", str(now.clips))
    table.add_row("clips cut", str(now.cut))
    for tier, count in now.tiers.items():
        table.add_row(f"clips in tier {tier}", str(count))
    return table
