"""Training on a manifest: the main path from frozen samples to checkpoints, and a log beside them.

    Frozen, latents or frames, ModelSpec, Preset -> [assemble] -> [resume] -> [train] -> checkpoints, log

The same function runs in one process and in each process that `torchrun` starts. Given the same folder again it goes on
from the newest whole checkpoint there.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import torch

from curation.errors import UserError
from pipelines.training.account import Silent
from training import assemble
from training.assemble import BaseJob, Validates
from training.callbacks.averages import Averages
from training.callbacks.base import Callback, Quiet, Report
from training.checkpoint.load import resume
from training.models import build
from training.parallel.base import Engine
from training.parallel.engines import default
from training.parallel.engines import engine as engine_named
from training.recovery.guard import Judge
from training.room import told_of_memory
from training.sampling.exact import exact
from training.trainer import Progress, Run
from training.trainer import train as loop


class Watch(Protocol):
    """What shows a run to a person."""

    def note(self, text: str) -> None:
        """What a person should know of the run."""
        ...

    def begin(self, progress: Progress, steps: int, validation: float | None, measure: str) -> None:
        """`measure`: the name of the validation's number among a report's values."""
        ...

    def step(self, progress: Progress, report: Report) -> None: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Trained:
    """How far a run came. `began`: the step that it went on from; `step` of `steps`, fewer where it was asked to stop.
    `loss`: of the last step; `first`, `last`: what validation measures, at this start and end, None without.
    `unsampled`: steps whose samples could not be made."""

    folder: str
    checkpoint: str | None
    began: int
    step: int
    steps: int
    skipped: int
    samples: int
    loss: float | None
    first: float | None
    last: float | None
    measure: str
    rank: int
    unsampled: tuple[int, ...] = ()


def train(
    job: BaseJob,
    watch: Watch,
    stop: Callable[[], bool] = lambda: False,
    *,
    held: bool = False,
    ahead: Sequence[Callback] = (),
    beside: Sequence[Callback] = (),
) -> Trained:
    """Train until the preset's last step, or until `stop` is true on any rank: then all save, and leave. `held`: who
    started this process holds the folder (`alone`). `ahead`, `beside`: callbacks before and after the job's own.

    UserError: what does not fit together (manifest, latents, network, preset, ranks, checkpoint), a folder in which
    another run is at work, a disk that is full at the end.
    """
    with (
        exact(job.model.threads),
        _engine(job) as engine,
        nullcontext() if held or engine.rank else alone(job.folder),
    ):
        return _trained(job, engine, watch if engine.rank == 0 else Silent(), stop, ahead, beside)


def _trained(
    job: BaseJob,
    engine: Engine,
    watch: Watch,
    stop: Callable[[], bool],
    ahead: Sequence[Callback],
    beside: Sequence[Callback],
) -> Trained:
    preset = job.preset
    _check_same(job, engine)
    parts = job.parts(engine)
    batches = assemble.batches(job, parts)
    for line in batches.left_out.lines():
        watch.note(line)
    if preset.tensorboard and not assemble.has_tensorboard():
        watch.note("TensorBoard is not installed, log.jsonl has all: pip install 'ziggurat[tensorboard]'")
    engine = parts.joined(engine)
    engine.wrap(parts.network, preset.optimizer)
    averages = None if preset.averages is None else Averages(parts.averaged(engine), preset.averages)
    head = assemble.head(job, engine, parts)
    progress = Progress()
    if found := resume(job.checkpoints, head.identity, engine, averages):
        progress, before = found
        if not head.leaves_out_as(before):
            others = before.missing if before.missing != head.missing else "others"
            watch.note(f"{head.missing} samples are left out, {others} when it was saved: batches differ")
    validation = job.validation(engine, parts, averages)
    shown = _Shown(watch, preset.steps, validation)
    callbacks = [*ahead, *assemble.callbacks(job, engine, head, averages, validation), shown, *beside]
    run = Run(
        engine=engine,
        method=parts.method,
        batches=batches,
        schedule=preset.schedule,
        steps=preset.steps,
        clip=preset.clip,
        ahead=preset.ahead,
        readers=job.readers,
        collect=preset.collect,
        patience=preset.patience,
        guard=Judge(engine, batches, job.folder, preset.window, preset.deviations, parts.method.context.ranks),
    )
    with told_of_memory(job, engine, parts, batches):
        ended = loop(run, progress, callbacks, stop)
    newest = job.checkpoints.newest()
    return Trained(
        folder=str(job.folder),
        checkpoint=None if newest is None else str(newest),
        began=progress.step,
        step=ended.step,
        steps=preset.steps,
        skipped=ended.skipped,
        samples=ended.samples,
        loss=shown.loss,
        first=shown.first,
        last=shown.headline,
        measure=shown.measure,
        rank=engine.rank,
    )


def _check_same(job: BaseJob, engine: Engine) -> None:
    """UserError on all ranks where any of them would train on other samples than the others: under `torchrun` each has
    looked for itself at what there is.
    """
    looked = [job.frozen.manifest.sha256, *map(str, sorted(job.missing))]
    own = float(int(hashlib.sha256(" ".join(looked).encode()).hexdigest()[:8], 16))
    mean = engine.agree(torch.tensor([own], dtype=torch.float64, device=engine.device)).item() / engine.ranks
    differs = torch.tensor([float(mean != own)], dtype=torch.float64, device=engine.device)
    if engine.agree(differs).item():
        raise UserError(
            "the processes do not see the same samples: something was encoded, taken down or frozen while they started",
            "wait until that has ended, and give the same command again",
        )


@contextmanager
def _engine(job: BaseJob) -> Iterator[Engine]:
    """The engine, let go at the end."""
    name = job.engine or default(int(os.environ.get("WORLD_SIZE", "1")))
    engine = engine_named(name, build.device_of(job.model), job.preset.precision)
    try:
        yield engine
    finally:
        engine.close()


@contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Hold a run's folder while the block lasts. UserError: another run trains into it, or it cannot be written."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = (folder / ".lock").open("ab")
    except OSError as error:
        raise UserError(f"cannot write to {folder} ({error.strerror})", "name another --to") from error
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            remedy = "wait until it has ended, or name another --to"
            raise UserError(f"another run trains into {folder}", remedy) from None
        except OSError as error:  # a share without locks
            told = f"{folder} cannot be locked ({error.strerror}), so nothing keeps two runs out of it"
            raise UserError(told, "name a --to where files can be locked") from error
        yield


class _Shown(Quiet):
    """Keeps what the answer needs, and tells `watch`."""

    def __init__(self, watch: Watch, steps: int, validation: Validates | None) -> None:
        self._watch, self._steps, self._validation = watch, steps, validation
        self.measure = validation.headline if validation else ""
        self.first: float | None = None
        self.loss: float | None = None

    @property
    def headline(self) -> float | None:
        """What validation has measured last."""
        return self._validation.last[self.measure] if self._validation else None

    def begin(self, progress: Progress) -> None:
        self.first = self.headline
        self._watch.begin(progress, self._steps, self.first, self.measure)

    def after_step(self, progress: Progress, report: Report) -> None:
        for note in report.notes:
            self._watch.note(note)
        self.loss = report.loss
        self._watch.step(progress, report)
