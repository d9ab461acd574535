"""`ziggurat train`: a network on the samples of a manifest, in this process, those of `torchrun`, or Ray's.

`train_job` makes the job, `pipelines.train` does it; here is who runs it, with what record and which end.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from curation.errors import UserError
from curation.pyramid.storage.files import Files
from pipelines.commands.training import job as train_job
from pipelines.config import modelfile
from pipelines.execution import signals
from pipelines.execution.cluster import Resources, joined
from pipelines.execution.records.recording import Record
from pipelines.progress.screen import LOG_EVERY_S, duration
from pipelines.progress.waiting import now_and_then
from pipelines.training.account import Course, Followed, Silent
from pipelines.training.timeouts import Timeouts

if TYPE_CHECKING:
    from pipelines.commands.training.job import Made
    from pipelines.train import Trained, Watch
    from pipelines.training.sampled import Samples
    from training.assemble import BaseJob

GRACE_S = 900.0
"""After a signal a run ends its step and saves, which takes as long as it takes; a second signal ends it at once.
`torchrun` has a time of its own, which docs/training.md sets to the same."""


RESTARTS = 3
PACKAGES = ("torch", "colossalai", "triton", "peft", "diffusers", "transformers", "safetensors")
"""Whose versions the record of a run names."""


@dataclass(frozen=True, slots=True)
class Request:
    """The arguments of `ziggurat train`. `latents`: None for a preset that trains on frames, or with `stream`, so many
    workers that encode meanwhile. `steps`, `changes`: of the preset. `workers`: processes on Ray, at `address` or a
    local one, of which `least` are enough and which are started again `restarts` times; None: this process alone, or
    those of `torchrun`."""

    manifest: str
    latents: str | None
    model: str
    preset: str
    to: str
    steps: int | None = None
    changes: Sequence[str] = ()
    engine: str | None = None
    workers: int | None = None
    least: int | None = None
    restarts: int = RESTARTS
    address: str | None = None
    stream: int | None = None
    timeouts: Timeouts = field(default_factory=Timeouts)

    @contextmanager
    def joined(self, threads: int, samples: bool = False) -> Iterator[Resources]:
        """The Ray of the run, with room on this machine for all of it, so many threads each."""
        processes = (self.workers or 0) + (self.stream or 0) + samples
        what = f"joining the Ray cluster at {self.address}" if self.address else "starting Ray"

        def still(spent_s: float) -> None:
            signals.tell(f"{what}: {duration(spent_s)} so far")

        with ExitStack() as stack:
            with now_and_then(still, LOG_EVERY_S):
                found = stack.enter_context(joined(self.address, processes * threads, self.timeouts.job))
            yield found


def train(request: Request, watch: Watch) -> Trained:
    """Train, from the newest checkpoint in the folder where there is one. A signal ends it after the step: it saves,
    and KeyboardInterrupt follows.

    UserError: what `pipelines.train.train` raises; with workers, also what `pipelines.training.driver` does; with a
    stream, what `pipelines.encoding.stream` does.
    """
    _check_ray(request)
    model = modelfile.load(request.model)
    with ExitStack() as stack:
        found = train_job.made(request, model, watch if train_job.is_first() else Silent(), stack)
        job = found.job
        course = Course(
            manifest=f"{job.frozen.manifest.name} ({job.frozen.manifest.sha256[:12]})",
            data=found.data,
            model=model.name,
            preset=job.preset.record,
            steps=job.preset.steps,
        )
        watch = Followed(watch, course)
        record = stack.enter_context(_recorded(job, course))
        there = None
        if request.workers is not None or request.stream is not None or found.samples is not None:
            there = stack.enter_context(request.joined(job.model.threads, found.samples is not None))
        if record is not None and there is not None:
            record.joined(there)
        samples = None if there is None or found.samples is None else _samples(found, request, there, watch)
        run = _run_of(request, found, course, there)
        stack.enter_context(signals.held(GRACE_S, saves=True))
        done = run(samples or watch)
        if samples is not None:
            done = samples.finished(done)
        if record is not None:
            record.exit = 1 if done.unsampled else 0
        return done


def _recorded(job: BaseJob, course: Course) -> AbstractContextManager[Record | None]:
    """The run's record, `runs/ID.json` in its folder: one, whoever started how many processes."""
    if not train_job.is_first():
        return nullcontext()
    record = Record(Files(str(job.folder)), course, job.preset.name, packages=PACKAGES)
    return record.kept()


def _check_ray(request: Request) -> None:
    """UserError: what asks for a Ray contradicts how this process was started, or itself."""
    if request.stream is not None and request.latents is not None:
        raise UserError("--latents says where samples are, and --stream who encodes them", "leave one of them out")
    asked = "--stream" if request.workers is None else "--workers"
    if "RANK" in os.environ and (request.workers, request.stream) != (None, None):
        raise UserError("torchrun has started the processes already", f"leave {asked} out, or start without torchrun")
    if request.workers is None:
        return
    if request.engine == "single" and request.workers != 1:
        raise UserError("engine single is one process", "name another --engine, or none")
    if request.least is not None and request.least > request.workers:
        raise UserError(f"--min-workers {request.least} is more than --workers {request.workers}", "lower it")


def _samples(found: Made, request: Request, there: Resources, watch: Watch) -> Samples:
    """What sees to a run's samples."""
    from pipelines.training.sampled import Samples

    assert found.samples is not None
    return Samples(watch, found.job.checkpoints, train_job.plan(request, found, there), signals.came)


def _run_of(request: Request, found: Made, course: Course, there: Resources | None) -> Callable[[Watch], Trained]:
    """Who trains: this process, or workers of the Ray that was joined. UserError: it has no room for them."""
    job, count = found.job, request.workers
    if count is None or there is None:
        from pipelines.train import train as here

        return lambda watch: here(job, watch, signals.came)
    from pipelines.training.driver import check_room, train_on_ray
    from pipelines.training.group import Crew

    gpu = job.model.device.startswith("cuda") or (job.model.device == "auto" and there.gpus > 0)
    crew = Crew(count, request.least or count, request.restarts, gpu, job.model.threads)
    if request.address is None:
        check_room(crew, there.gpus)
    placed, timeouts = replace(job, folder=job.folder.absolute()), request.timeouts
    return lambda watch: train_on_ray(placed, crew, watch, signals.came, course, timeouts, found.reads)
