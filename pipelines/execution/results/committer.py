"""The committer: results of the stages become rows of the pyramid, many at a time and by one thread of the driver.

Every result is in the journal before it arrives here, so a commit may wait for more: few large ones cost less than many
small ones, now and for every reader. What became of every input is counted in the run's `account`.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

from curation.contract import Reason, Source, Verdict
from curation.pyramid.commits.commit import Committer, joined
from curation.pyramid.commits.journal import Journal
from curation.pyramid.store import Pyramid
from pipelines.execution.ray_data import Delivery
from pipelines.execution.results.account import Account
from pipelines.execution.results.breaker import Breaker
from pipelines.execution.results.further_names import further_names
from pipelines.execution.results.telling import tell
from pipelines.stages.results import MeasureDone, Result, SameContent, batch_of
from pipelines.stages.results import settled as settled_by

COMMIT_EVERY_S = 5.0
"""How long readers wait for a result; a commit takes a fifth of a second of the driver, however much it holds."""

_BATCH_ITEMS = 512


class ResultCommitter:
    """Takes results and commits them; a context manager that ends with everything committed.

    `stop_after`: how many videos in a row may fail for one cause, see `breaker`; 0 for any number. `give_up`: the
    row of a source whose content never got one, which a stage that may give `SameContent` needs. `settled` is told the
    units that were committed, see `results.settled`.
    """

    def __init__(
        self,
        pyramid: Pyramid,
        account: Account,
        coordinator: Any,
        journal: Journal,
        stop_after: int = 0,
        give_up: Callable[[Source, Verdict], MeasureDone] | None = None,
        settled: Callable[[list[str]], None] | None = None,
    ) -> None:
        self._pyramid, self._committer = pyramid, Committer(pyramid)
        self._breaker = Breaker(stop_after)
        self._account, self._coordinator, self._journal = account, coordinator, journal
        self._arrived: queue.SimpleQueue[Delivery | None] = queue.SimpleQueue()
        self._waiting: dict[str, list[SameContent]] = {}
        self._measured: set[str] = set()
        self._give_up, self._whole = give_up, False
        self._settled = settled
        self._failure: BaseException | None = None
        self._thread = threading.Thread(target=self._serve, name="committer", daemon=True)

    def __enter__(self) -> ResultCommitter:
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
            tell(delivery.result)
        return taken, True

    def _commit(self, results: Sequence[Result]) -> None:
        names = self._names_that_can_be_written(
            [r for r in results if isinstance(r, MeasureDone)], [r for r in results if isinstance(r, SameContent)]
        )
        self._committer.commit(joined([batch for r in results if (batch := batch_of(r)) is not None]))
        if names:
            self._committer.commit(further_names(self._pyramid, [(name.video_id, name.source) for name in names]))
        self._account.commits += 1

    def _names_that_can_be_written(self, measured: list[MeasureDone], same: list[SameContent]) -> list[SameContent]:
        """Further names of videos whose row is there or comes with this batch; the others wait for theirs."""
        self._measured.update(r.video["video_id"] for r in measured)
        ready: list[SameContent] = []
        for result in same:
            if result.known or result.video_id in self._measured:
                ready.append(result)
            else:
                self._waiting.setdefault(result.video_id, []).append(result)
        for result in measured:
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
        self._account.flows.now.taken += len(left)  # they had come out, and are rejected now: what is counted stays so
        for row in rows:
            self._account.add(row)
            tell(row)
        self._commit(rows)

    def _tell(self, batch: Sequence[Delivery]) -> None:
        """Let the journal and the coordinator forget what the ledger knows now."""
        self._journal.forget(delivery.entry for delivery in batch if delivery.entry)
        settled = [d.result.video["video_id"] for d in batch if isinstance(d.result, MeasureDone)]
        if settled:
            self._coordinator.release.remote(settled)
        if self._settled is not None:
            self._settled([unit for delivery in batch for unit in settled_by(delivery.result)])
