"""Landing: results of the stages become rows of the pyramid, many at a time and by one thread of the driver.

Every result is in the journal before it arrives here, so a commit may wait for more: few large ones cost less than many
small ones, now and for every reader. It counts what became of every input; `Account.check` proves that none was lost.
"""

from __future__ import annotations

import queue
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from curation.contract import Reason, Source, Status, Verdict, loses
from curation.pyramid.commit import Committer, joined
from curation.pyramid.journal import Journal
from curation.pyramid.store import Pyramid
from pipelines.execution.breaker import Breaker
from pipelines.execution.further_names import further_names
from pipelines.execution.ray_data import Delivery
from pipelines.stages.results import CutDone, Landed, Result, SameContent, Scored, batch_of

COMMIT_EVERY_S = 5.0
"""How long readers wait for a result; a commit takes a fifth of a second of the driver, however much it holds."""

_BATCH_ITEMS = 512
_REASON_NAMES = frozenset(str(reason) for reason in Reason)


@dataclass
class Account:
    """What became of the inputs of one run. The landing thread counts results; the driver's thread counts inputs, what
    was settled before and what was recovered. No field is written by both.
    """

    inputs: int = 0
    recovered: int = 0
    settled_before: int = 0
    same_content: int = 0
    done: int = 0
    reasons: Counter[str] = field(default_factory=Counter)
    quarantined: int = 0
    rejected: int = 0
    clips: int = 0
    clip_hours: float = 0.0
    source_hours: float = 0.0
    decoded: int = 0
    scored: Counter[str] = field(default_factory=Counter)
    cut: int = 0
    cut_failed: Counter[str] = field(default_factory=Counter)
    cut_bytes: int = 0
    not_scored: Counter[str] = field(default_factory=Counter)
    commits: int = 0
    passed_over: Counter[str] = field(default_factory=Counter)
    """Files that the folders hold and that were not taken, by extension; no inputs."""

    @property
    def losses(self) -> dict[str, int]:
        """What a fault of Ziggurat or of its set-up has cost this run: how many of what, by reason."""
        videos = {f"videos: {reason}": count for reason, count in self.reasons.items() if loses(reason)}
        # A clip was decoded when it was measured: what keeps it from being cut is its data only where a reason says so.
        clips = {f"clips not cut: {why}": count for why, count in self.cut_failed.items() if not _of_data(why)}
        failed = {what: count for what, count in self.not_scored.items() if loses(what.rpartition(": ")[2])}
        return {**videos, **clips, **{f"scores: {what}": count for what, count in failed.items()}}

    @property
    def exit_code(self) -> int:
        """0 where nothing was lost by a fault of Ziggurat or its set-up, else 1."""
        return 1 if self.losses else 0

    @property
    def finished(self) -> int:
        return self.settled_before + self.same_content + self.done + self.rejected + self.quarantined

    def check(self) -> None:
        """Every input has ended in exactly one way."""
        assert self.finished == self.inputs, f"{self.inputs} inputs, but {self.finished} outcomes: {self}"

    def add(self, result: Result) -> None:
        match result:
            case Landed():
                self._landed(result)
            case SameContent():
                self.same_content += 1
            case Scored():
                score = next(name for name in result.table.column_names if f"{name}_by" in result.table.column_names)
                lost = [
                    why for why in result.table[f"{score}_why"].to_pylist() if why and (result.failed or loses(why))
                ]
                self.not_scored.update(f"{score}: {why.partition(':')[0]}" for why in lost)
                if result.failed is None:
                    self.scored[score] += result.clips - len(lost)
            case CutDone():
                self.cut += len(result.cut)
                self.cut_bytes += result.bytes
                self.decoded += result.decoded
                self.cut_failed.update(why.partition(":")[0] for why in result.failed.values())

    def _landed(self, result: Landed) -> None:
        self.decoded += result.decoded
        row = result.video
        self.source_hours += (row["duration_s"] or 0.0) / 3600
        match row["status"]:
            case Status.DONE:
                self.done += 1
            case Status.REJECTED:
                self.rejected += 1
                self.reasons[row["reason"]] += 1
            case Status.QUARANTINED:
                self.quarantined += 1
                self.reasons[row["reason"]] += 1
        if result.clips is not None and not result.refreshed:
            self.clips += result.clips.num_rows
            lengths = zip(result.clips["start_s"].to_pylist(), result.clips["end_s"].to_pylist(), strict=True)
            self.clip_hours += sum(end - start for start, end in lengths) / 3600


class Landing:
    """Takes results and commits them; a context manager that ends with everything committed.

    `stop_after`: how many videos in a row may fail for one cause, see `breaker`; 0 for any number. `give_up`: the
    row of a source whose content never got one, which a stage that may give `SameContent` needs.
    """

    def __init__(
        self,
        pyramid: Pyramid,
        account: Account,
        coordinator: Any,
        journal: Journal,
        stop_after: int = 0,
        give_up: Callable[[Source, Verdict], Landed] | None = None,
    ) -> None:
        self._pyramid, self._committer = pyramid, Committer(pyramid)
        self._breaker = Breaker(stop_after)
        self._account, self._coordinator, self._journal = account, coordinator, journal
        self._arrived: queue.SimpleQueue[Delivery | None] = queue.SimpleQueue()
        self._waiting: dict[str, list[SameContent]] = {}
        self._landed: set[str] = set()
        self._give_up, self._whole = give_up, False
        self._failure: BaseException | None = None
        self._thread = threading.Thread(target=self._serve, name="landing", daemon=True)

    def __enter__(self) -> Landing:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, *rest: object) -> None:
        self._whole = kind is None
        if self._whole:
            for delivery in self._breaker.rest():
                self._arrived.put(delivery)
        self._arrived.put(None)
        self._thread.join()
        if kind is None:
            self._raise()

    def put(self, delivery: Delivery) -> None:
        """Hand over one result. Raises what an earlier commit failed with, and `UserError` where the breaker opens."""
        self._raise()
        for admitted in self._breaker.admit(delivery):
            self._arrived.put(admitted)

    def _raise(self) -> None:
        if self._failure is not None:
            raise self._failure

    def _serve(self) -> None:
        try:
            open_ = True
            while open_:
                batch, open_ = self._take()
                if batch:
                    self._commit([delivery.result for delivery in batch])
                    self._tell(batch)
            if self._whole:
                self._abandon()
        except BaseException as error:  # raised again in the driver's thread, by `put` or at the end
            self._failure = error

    def _take(self) -> tuple[list[Delivery], bool]:
        """What arrives within the interval of commits, at once when nothing more comes; False then."""
        taken: list[Delivery] = []
        ends = time.monotonic() + COMMIT_EVERY_S
        while len(taken) < _BATCH_ITEMS:
            try:
                delivery = self._arrived.get(timeout=max(0.0, ends - time.monotonic()))
            except queue.Empty:
                break
            if delivery is None:
                return taken, False
            taken.append(delivery)
            self._account.add(delivery.result)
        return taken, True

    def _commit(self, results: Sequence[Result]) -> None:
        names = self._names_that_can_land(
            [r for r in results if isinstance(r, Landed)], [r for r in results if isinstance(r, SameContent)]
        )
        self._committer.commit(joined([batch for r in results if (batch := batch_of(r)) is not None]))
        if names:
            self._committer.commit(further_names(self._pyramid, [(name.video_id, name.source) for name in names]))
        self._account.commits += 1

    def _names_that_can_land(self, landed: list[Landed], same: list[SameContent]) -> list[SameContent]:
        """Further names of videos whose row is there or comes with this batch; the others wait for theirs."""
        self._landed.update(r.video["video_id"] for r in landed)
        ready: list[SameContent] = []
        for result in same:
            if result.known or result.video_id in self._landed:
                ready.append(result)
            else:
                self._waiting.setdefault(result.video_id, []).append(result)
        for result in landed:
            ready += self._waiting.pop(result.video["video_id"], [])
        return ready

    def _abandon(self) -> None:
        """Settle the names that still wait at the stage's end: the workers that had their content were lost with it."""
        left = [name for names in self._waiting.values() for name in names]
        if not left:
            return
        assert self._give_up is not None, left
        self._waiting.clear()
        verdict = Verdict(Reason.WORKER_LOST, detail="the same bytes under another name had no result")
        rows = [self._give_up(name.source, verdict) for name in left]
        self._account.same_content -= len(left)
        for row in rows:
            self._account.add(row)
        self._commit(rows)

    def _tell(self, batch: Sequence[Delivery]) -> None:
        """Let the journal and the coordinator forget what the ledger knows now."""
        self._journal.forget(delivery.entry for delivery in batch if delivery.entry)
        settled = [d.result.video["video_id"] for d in batch if isinstance(d.result, Landed)]
        if settled:
            self._coordinator.release.remote(settled)


def _of_data(why: str) -> bool:
    return why in _REASON_NAMES and not loses(why)
