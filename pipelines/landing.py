"""Landing: results of the stages become rows of the pyramid, at once and by one thread of the driver.

Whatever has arrived while the last commit ran goes into the next one, so a killed run loses only what was in the air.
It counts what became of every input; `Account.check` proves that none was lost.
"""

from __future__ import annotations

import queue
import threading
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa

from curation.contract import CLIPS, VIDEOS, Status
from curation.pyramid.commit import Batch, Committer
from curation.pyramid.store import Pyramid
from curation.rows import videos_table
from pipelines.engine import Delivery
from pipelines.stages import CutDone, Landed, SameContent, Scored

Result = Landed | SameContent | Scored | CutDone
_COMMIT_EVERY_S = 0.5
_BATCH_ITEMS = 512


@dataclass
class Account:
    """What became of the inputs of one run. Only the landing thread writes to it."""

    inputs: int = 0
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
    commits: int = 0

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
                self.scored[score] += result.clips
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
    """Takes results from any thread and commits them; a context manager that ends with everything committed."""

    def __init__(self, pyramid: Pyramid, account: Account, foreman: Any) -> None:
        self._committer = Committer(pyramid)
        self._account, self._foreman = account, foreman
        self._arrived: queue.SimpleQueue[Delivery | None] = queue.SimpleQueue()
        self._waiting: dict[str, list[SameContent]] = {}
        self._landed: set[str] = set()
        self._failure: BaseException | None = None
        self._thread = threading.Thread(target=self._serve, name="landing", daemon=True)

    def __enter__(self) -> Landing:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, *rest: object) -> None:
        self._arrived.put(None)
        self._thread.join()
        if kind is None:
            self._raise()

    def put(self, delivery: Delivery) -> None:
        """Hand over one result. Raises what an earlier commit failed with."""
        self._raise()
        self._arrived.put(delivery)

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
        except BaseException as error:  # raised again in the driver's thread, by `put` or at the end
            self._failure = error

    def _take(self) -> tuple[list[Delivery], bool]:
        """What has arrived; waits for the first one. False when nothing more comes."""
        taken: list[Delivery] = []
        try:
            while len(taken) < _BATCH_ITEMS:
                delivery = self._arrived.get(block=not taken, timeout=_COMMIT_EVERY_S)
                if delivery is None:
                    return taken, False
                taken.append(delivery)
        except queue.Empty:
            pass
        return taken, True

    def _commit(self, results: Sequence[Result]) -> None:
        landed = [r for r in results if isinstance(r, Landed)]
        cuts = [r for r in results if isinstance(r, CutDone)]
        names = self._names_that_can_land(landed, [r for r in results if isinstance(r, SameContent)])
        batch = Batch(
            media=[r.ticket for r in cuts if r.ticket],
            samples=[r.samples for r in landed if r.samples],
            clips=_joined([r.clips for r in landed if r.clips is not None and not r.refreshed]),
            videos=videos_table([r.video for r in landed]) if landed else None,
            clip_updates=[
                *[r.clips for r in landed if r.clips is not None and r.refreshed],
                *[r.table for r in results if isinstance(r, Scored)],
                *[_media_rows(r) for r in cuts],
            ],
            replaced={r.video["video_id"]: _ids(r.clips) for r in landed if r.replaces},
        )
        self._committer.commit(batch)
        if names:
            self._committer.commit(Batch(videos=_names_table(names)))
        for result in results:
            self._account.add(result)
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

    def _tell(self, batch: Sequence[Delivery]) -> None:
        """Let the workers go on, and the foreman forget what the ledger knows now."""
        self._foreman.landed.remote({delivery.worker: delivery.number for delivery in batch if delivery.worker})
        settled = [d.result.video["video_id"] for d in batch if isinstance(d.result, Landed)]
        self._foreman.release.remote(settled)


def _joined(tables: list[pa.Table]) -> pa.Table | None:
    return pa.concat_tables(tables) if tables else None


def _ids(clips: pa.Table | None) -> list[str]:
    return [] if clips is None else clips["clip_id"].to_pylist()


def _names_table(names: Sequence[SameContent]) -> pa.Table:
    columns = ("video_id", "uris", "modified")
    rows = [{"video_id": n.video_id, "uris": [n.source.uri], "modified": [n.source.modified]} for n in names]
    return pa.Table.from_pylist(rows, schema=pa.schema([VIDEOS.field(name) for name in columns]))


def _media_rows(done: CutDone) -> pa.Table:
    """`media` is set to the hash of the row that stays by the committer; here it only marks the clip as cut."""
    ids = [*done.cut, *done.failed]
    why = [None] * len(done.cut) + list(done.failed.values())
    columns = {"clip_id": ids, "media": [None] * len(ids), "media_why": why}
    return pa.table(columns, schema=pa.schema([CLIPS.field(name) for name in columns]))
