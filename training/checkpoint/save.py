"""Saving while training goes on: DCP copies the state in a thread, then writes the copy in another.

    save -> [copying]      -> settled() waits for the copy just before the optimizer changes what is copied
         -> [writing]      -> whole: renamed, older ones thinned out
         -> next save, or finish(), waits for the writing

Only rank 0 names a checkpoint whole, and DCP tells it that all ranks have written. A save that fails (a full disk) is
told and costs nothing else: the one before is there, and the next is tried in its turn.
"""

from __future__ import annotations

import logging
import shutil
import time
import warnings
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.hf_storage import HuggingFaceStorageWriter
from torch.distributed.checkpoint.staging import DefaultStager, StagingOptions
from torch.distributed.checkpoint.state_dict_saver import AsyncSaveResponse, async_save

from training.checkpoint.folder import Checkpoints, Head
from training.checkpoint.shards import check_whole
from training.parallel.base import Engine

log = logging.getLogger(__name__)

# For the whole process: DCP warns in a thread of its own, where a filter for a block would be torn.
warnings.filterwarnings("ignore", message="torch.distributed is disabled, unavailable or uninitialized")

FAILURES = (Exception, CheckpointException)
"""CheckpointException is no Exception."""


class Saver:
    """One save at a time. `blocked_s`: seconds that the last one has kept training waiting. `failed`: why the last one
    was not saved, as far as this rank knows; another rank may know of another failure."""

    def __init__(self, engine: Engine, checkpoints: Checkpoints, keep_last: int, keep_every: int) -> None:
        self._engine, self._checkpoints = engine, checkpoints
        self._keep = keep_last, keep_every
        on_gpu = engine.device.type == "cuda"
        self._stager = DefaultStager(
            StagingOptions(
                use_pinned_memory=on_gpu,
                use_shared_memory=False,
                use_async_staging=True,
                use_non_blocking_copy=on_gpu,
            )
        )
        self._settling = ThreadPoolExecutor(1, thread_name_prefix="checkpoint")
        self._copied: Future[Any] | None = None
        self._written: Future[Path | None] | None = None
        self.blocked_s = 0.0
        self.failed: str | None = None

    def save(self, step: int, state: dict[str, Tensor], head: Head) -> None:
        """Begin to save; nothing of `state` may change before `settled`."""
        start = time.perf_counter()
        self.finish()
        part = self._checkpoints.part(step)
        if not self._made(part, step):
            return
        response = async_save(
            state,
            storage_writer=HuggingFaceStorageWriter(str(part), save_distributed=True),
            process_group=self._engine.group,
            async_stager=self._stager,
            no_dist=self._engine.group is None,
        )
        assert isinstance(response, AsyncSaveResponse), "the stager is asynchronous"
        self._copied = response.staging_completion
        numbers = {name: tensor.shape.numel() for name, tensor in state.items()}
        self._written = self._settling.submit(self._settle, response.upload_completion, step, head, numbers)
        self.blocked_s = time.perf_counter() - start

    def _made(self, part: Path, step: int) -> bool:
        """Make the folder; False on all ranks where it could not be."""
        failed = None
        if self._engine.rank == 0:
            try:
                shutil.rmtree(part, ignore_errors=True)
                part.mkdir(parents=True)
            except OSError as error:
                failed = error
        if not any_rank(self._engine, failed is not None):
            return True
        self._fail(step, failed or OSError("another process could not make its folder"))
        return False

    def settled(self) -> None:
        """Wait until the state may change again."""
        if self._copied is None:
            return
        start = time.perf_counter()
        try:
            self._copied.result()
        except FAILURES:
            pass  # told when the writing, which waits for the same copy, is looked at
        self._copied = None
        self.blocked_s += time.perf_counter() - start

    def finish(self) -> None:
        """Wait until nothing is being written."""
        self.settled()
        if self._written is not None:
            self._written.result()
            self._written = None

    def close(self) -> None:
        self.finish()
        self._settling.shutdown()
        self._stager.close()

    def _settle(self, written: Future[Any], step: int, head: Head, numbers: Mapping[str, int]) -> None:
        try:
            written.result()
            if self._engine.rank == 0:
                check_whole(self._checkpoints.part(step), numbers)
                self._checkpoints.settle(step, head)
            self.failed = None
        except FAILURES as error:
            self._fail(step, error)
            if self._engine.rank == 0:
                shutil.rmtree(self._checkpoints.part(step), ignore_errors=True)
            return
        try:
            if self._engine.rank == 0:
                self._checkpoints.thin(*self._keep)
        except OSError as error:
            log.warning("an older checkpoint could not be removed: %s", error)

    def _fail(self, step: int, error: BaseException) -> None:
        self.failed = f"the checkpoint of step {step} was not saved: {_reason(error)}"
        log.error("%s", self.failed)


def any_rank(engine: Engine, here: bool) -> bool:
    """Whether something is so on any rank: the same answer on all, which all ask for at the same time."""
    told = torch.tensor([float(here)], dtype=torch.float64, device=engine.device)
    return bool(engine.agree(told).item())


def _reason(error: BaseException) -> str:
    """The first cause in one line: DCP wraps it, with a trace of every rank."""
    if isinstance(error, CheckpointException) and error.failures:
        error = next(iter(error.failures.values()))[0]
    return str(error).splitlines()[0] if str(error) else type(error).__name__
