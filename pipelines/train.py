"""Training on a manifest's latents: the main path from frozen samples to checkpoints, and a log beside them.

    Frozen, Source, ModelSpec, Preset -> [assemble] -> [resume] -> [train] -> checkpoints, log

The same function runs in one process and in each process that `torchrun` starts. Given the same folder again it goes on
from the newest whole checkpoint there.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from curation.errors import UserError
from training import assemble
from training.assemble import Job
from training.callbacks.averages import Averages
from training.callbacks.base import Callback, Quiet, Report
from training.callbacks.validation import Validation
from training.checkpoint.load import resume
from training.cost.formulas import Transformer
from training.models import build
from training.parallel.base import Engine
from training.parallel.engines import default
from training.parallel.engines import engine as engine_named
from training.recovery.guard import Judge
from training.sampling.exact import exact
from training.trainer import Progress, Run
from training.trainer import train as loop


class Watch(Protocol):
    """What shows a run to a person."""

    def note(self, text: str) -> None:
        """What a person should know of the run."""
        ...

    def begin(self, progress: Progress, steps: int, validation: float | None) -> None: ...

    def step(self, progress: Progress, report: Report) -> None: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Trained:
    """How far a run came. `began`: the step that it went on from; `step` of `steps`, fewer where it was asked to stop.
    `loss`: of the last step; `first`, `last`: validation losses at this start and end, None without validation."""

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
    rank: int


def train(
    job: Job,
    watch: Watch,
    stop: Callable[[], bool] = lambda: False,
    *,
    held: bool = False,
    beside: Sequence[Callback] = (),
) -> Trained:
    """Train until the preset's last step, or until `stop` is true on any rank: then all save, and leave. `held`: who
    started this process holds the folder (`alone`). `beside`: callbacks after the job's own.

    UserError: what does not fit together (manifest, latents, network, preset, ranks, checkpoint), a folder in which
    another run is at work, a disk that is full at the end.
    """
    with (
        exact(job.model.threads),
        _engine(job) as engine,
        nullcontext() if held or engine.rank else alone(job.folder),
    ):
        return _trained(job, engine, watch if engine.rank == 0 else _Silent(), stop, beside)


def _trained(job: Job, engine: Engine, watch: Watch, stop: Callable[[], bool], beside: Sequence[Callback]) -> Trained:
    preset = job.preset
    context = assemble.context(job, engine)
    network = assemble.network(job, engine.device)
    sizes = Transformer.of(network.config)
    method, batches = assemble.method(job, sizes, context), assemble.batches(job, sizes)
    for line in batches.left_out.lines():
        watch.note(line)
    if preset.tensorboard and not assemble.has_tensorboard():
        watch.note("TensorBoard is not installed, log.jsonl has all: pip install 'ziggurat[tensorboard]'")
    base = assemble.base(job, network)
    engine.wrap(network, preset.optimizer)
    averages = None if preset.averages is None else Averages(engine, preset.averages)
    head = assemble.head(job, engine, base)
    progress = Progress()
    if found := resume(job.checkpoints, head.identity, engine, averages):
        progress, before = found
        if before.missing != head.missing:
            watch.note(f"{head.missing} samples have no latents, {before.missing} when it was saved: batches differ")
    validation = assemble.validation(job, engine, method, averages)
    shown = _Shown(watch, preset.steps, validation)
    callbacks = [*assemble.callbacks(job, engine, head, averages, validation), shown, *beside]
    run = Run(
        engine=engine,
        method=method,
        batches=batches,
        schedule=preset.schedule,
        steps=preset.steps,
        clip=preset.clip,
        ahead=preset.ahead,
        collect=preset.collect,
        patience=preset.patience,
        guard=Judge(engine, batches, job.folder, preset.window, preset.deviations, context.ranks),
    )
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
        last=validation.last["validation/loss"] if validation else None,
        rank=engine.rank,
    )


@contextmanager
def _engine(job: Job) -> Iterator[Engine]:
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
        yield


class _Shown(Quiet):
    """Keeps what the answer needs, and tells `watch`."""

    def __init__(self, watch: Watch, steps: int, validation: Validation | None) -> None:
        self._watch, self._steps, self._validation = watch, steps, validation
        self.first: float | None = None
        self.loss: float | None = None

    def begin(self, progress: Progress) -> None:
        self.first = self._validation.last["validation/loss"] if self._validation else None
        self._watch.begin(progress, self._steps, self.first)

    def after_step(self, progress: Progress, report: Report) -> None:
        for note in report.notes:
            self._watch.note(note)
        self.loss = report.loss
        self._watch.step(progress, report)


class _Silent:
    """Ranks other than the first say nothing."""

    def note(self, text: str) -> None: ...
    def begin(self, progress: Progress, steps: int, validation: float | None) -> None: ...
    def step(self, progress: Progress, report: Report) -> None: ...
