"""What a person or a machine sees of a run: live lines while it works, a summary at the end, a name when it stalls.

Standard output carries results only (`--json`: one object a line); everything live goes to standard error.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TextIO

from rich.console import Console
from rich.live import Live
from rich.table import Table

from curation.contract import REASONS, Reason
from curation.pyramid.census import Census
from pipelines.foreman import Post
from pipelines.landing import Account

_LOOK_EVERY_S = 2.0


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
    """Shows a run; the driver's watch. It wakes every two seconds, and names a stage that makes no progress."""

    def __init__(self, account: Account, out: TextIO, as_json: bool, stall_s: float) -> None:
        self._account, self._out, self._json, self._stall_s = account, out, as_json, stall_s
        self._console = Console(stderr=True)
        self._live: Live | None = None
        self._started = time.monotonic()
        self._warned: set[str] = set()

    @contextmanager
    def over(self, stage: str, foreman: Any) -> Iterator[None]:
        """Show `stage` until the block ends."""
        done = threading.Event()
        thread = threading.Thread(target=self._look, args=(stage, foreman, done), name="display", daemon=True)
        with self._screen():
            thread.start()
            try:
                yield
            finally:
                done.set()
                thread.join()

    @contextmanager
    def _screen(self) -> Iterator[None]:
        if self._json or not self._console.is_terminal:
            yield
            return
        with Live(console=self._console, refresh_per_second=2, transient=True) as live:
            self._live = live
            yield
            self._live = None

    def _look(self, stage: str, foreman: Any, done: threading.Event) -> None:
        import ray

        before, moved = self._mark(), time.monotonic()
        while not done.wait(_LOOK_EVERY_S):
            try:
                posts: list[tuple[Post, float]] = ray.get(foreman.posts.remote(), timeout=_LOOK_EVERY_S)
            except Exception:
                continue  # the display is no reason to end a run: the next look may succeed
            mark = (self._mark(), [(p.item, p.frames) for p, _ in posts])
            if mark != before:
                before, moved = mark, time.monotonic()
            elif time.monotonic() - moved > self._stall_s:
                self._stalled(stage, posts, time.monotonic() - moved)
            self._show(stage, posts)

    def _mark(self) -> Any:
        account = self._account
        return account.finished, account.cut, sum(account.scored.values())

    def _stalled(self, stage: str, posts: list[tuple[Post, float]], seconds: float) -> None:
        if stage in self._warned:
            return
        self._warned.add(stage)
        at = ", ".join(f"{p.item} at frame {p.frames}" for p, _ in posts) or "no worker: is a processor free?"
        self._console.print(f"[yellow]stage {stage} has made no progress for {seconds:.0f} s ({at})")

    def _show(self, stage: str, posts: list[tuple[Post, float]]) -> None:
        if self._json:
            self._emit({"event": "progress", "stage": stage, **self.figures()})
        elif self._live is not None:
            self._live.update(self._table(stage, posts))

    def _emit(self, event: dict[str, Any]) -> None:
        print(json.dumps(event), file=self._out, flush=True)

    def _table(self, stage: str, posts: list[tuple[Post, float]]) -> Table:
        figures = self.figures()
        table = Table.grid(padding=(0, 2))
        table.add_row(f"[bold]{stage}", f"{len(posts)} working", *(f"{post.item[-40:]}" for post, _ in posts[:2]))
        table.add_row(
            f"{figures['finished']}/{figures['inputs']} videos",
            f"{figures['clips']} clips, {figures['cut']} cut",
            f"{figures['hours_per_hour']:.1f} h/h, ETA {_minutes(figures['eta_s'])}",
            " ".join(f"{reason} {count}" for reason, count in sorted(self._account.reasons.items())),
        )
        return table

    def figures(self) -> dict[str, Any]:
        """The live figures; `hours_per_hour`: hours of source video settled in an hour."""
        account, spent = self._account, time.monotonic() - self._started
        fresh = account.finished - account.settled_before
        left = account.inputs - account.finished
        return {
            "inputs": account.inputs,
            "finished": account.finished,
            "clips": account.clips,
            "cut": account.cut,
            "rejected": account.rejected,
            "quarantined": account.quarantined,
            "reasons": dict(account.reasons),
            "hours_per_hour": account.source_hours * 3600 / spent,
            "eta_s": left * spent / fresh if fresh else None,
            "seconds": spent,
        }

    def summary(self, now: Census, notices: list[str]) -> None:
        """The end of a run: every input accounted for, what the pyramid holds, and what the reader must know first."""
        if self._json:
            account = self._account
            fields = {
                **self.figures(),
                "recovered": account.recovered,
                "settled_before": account.settled_before,
                "same_content": account.same_content,
                "done": account.done,
                "clip_hours": account.clip_hours,
                "scored": dict(account.scored),
                "not_scored": dict(account.not_scored),
                "cut_failed": dict(account.cut_failed),
                "cut_bytes": account.cut_bytes,
                "frames_decoded": account.decoded,
                "passed_over": dict(account.passed_over),
                "tiers": dict(now.tiers),
                "pyramid": now.to_data(),
                "notices": notices,
            }
            self._emit({"event": "summary", **fields})
            return
        console = Console(file=self._out, width=max(100, self._console.width))
        for notice in notices:
            console.print(f"[yellow]note: {notice}", highlight=False)
        console.print(_inputs(self._account))
        console.print(_results(self._account))
        console.print(_holds(now))


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
    table.add_row("source video settled, hours", f"{account.source_hours:.3f}")
    table.add_row("clips measured", str(account.clips))
    table.add_row("clips measured, hours", f"{account.clip_hours:.3f}")
    for score, count in account.scored.items():
        table.add_row(f"clips scored: {score}", str(count))
    for what, count in account.not_scored.items():
        table.add_row(f"clips not scored: {what}", str(count))
    table.add_row("clips cut", f"{account.cut} ({account.cut_bytes / 1e6:.1f} MB)")
    for reason, count in account.cut_failed.items():
        table.add_row(f"clips not cut: {reason}", str(count))
    return table


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


def _minutes(seconds: float | None) -> str:
    if seconds is None:
        return "unknown"
    return f"{seconds:.0f} s" if seconds < 90 else f"{seconds / 60:.0f} min"
