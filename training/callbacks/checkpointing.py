"""Checkpoints every so many steps and at the end, while training goes on (`checkpoint.save`)."""

from __future__ import annotations

from dataclasses import asdict, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from curation.errors import UserError
from training.callbacks.averages import Averages
from training.callbacks.base import Quiet, Report
from training.checkpoint.folder import Checkpoints, Head
from training.checkpoint.save import Saver, any_rank
from training.checkpoint.state import parts, state
from training.parallel.base import Engine

if TYPE_CHECKING:
    from training.trainer import Progress


class Checkpointing(Quiet):
    """`every`: steps between two. `head`: what each checkpoint says of the run; progress and time are put in."""

    def __init__(
        self,
        engine: Engine,
        checkpoints: Checkpoints,
        head: Head,
        *,
        every: int,
        keep_last: int = 3,
        keep_every: int = 0,
        averages: Averages | None = None,
    ) -> None:
        assert every > 0 and keep_last > 0
        self._engine, self._checkpoints, self._head = engine, checkpoints, head
        self._every, self._averages = every, averages
        self._saver = Saver(engine, checkpoints, keep_last, keep_every)
        self._saved: int | None = None

    def begin(self, progress: Progress) -> None:
        self._saved = progress.step
        if self._engine.rank == 0:
            self._checkpoints.sweep()

    def before_update(self) -> None:
        self._saver.settled()

    def after_step(self, progress: Progress, report: Report) -> None:
        if self._saved == progress.step - 1 and progress.step > 1:
            report.values["save_blocked_s"] = self._saver.blocked_s  # of the save that this step went on beside
        if progress.step % self._every == 0:
            self._save(progress)

    def end(self, progress: Progress, stopped: bool) -> None:
        """UserError, on all ranks: the last save failed. Where it failed while training went on, it is tried once more:
        on all ranks, or on none, for each knows of its own failure alone."""
        self._saver.finish()
        if self._saved != progress.step or self._has_failed():
            self._save(progress)
            self._saver.finish()
        if self._has_failed():
            newest = self._checkpoints.newest()
            kept = f"{newest.name} is kept" if newest else "there is none before it"
            why = self._saver.failed or f"the checkpoint of step {progress.step} was not saved by another process"
            raise UserError(f"{why}; {kept}", "make room, and give the same command again")

    def close(self) -> None:
        self._saver.close()

    def _has_failed(self) -> bool:
        return any_rank(self._engine, self._saver.failed is not None)

    def _save(self, progress: Progress) -> None:
        made = datetime.now(UTC).isoformat(timespec="seconds")
        head = replace(self._head, progress=asdict(progress), parts=parts(self._averages), made=made)
        self._saver.save(progress.step, state(self._engine, self._averages), head)
        self._saved = progress.step
