"""`ziggurat train`: a network on the latents of a manifest. `pipelines.train` does it; here arguments become a job."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from curation.errors import UserError
from curation.pyramid.storage.files import Files
from pipelines.config import modelfile, preset
from pipelines.execution import signals
from pipelines.execution.recording import Record
from pipelines.sampling.networks import need_torch
from pipelines.training.account import Course, Followed

if TYPE_CHECKING:
    from pipelines.train import Trained, Watch
    from pipelines.training.timeouts import Timeouts
    from training.assemble import Job

GRACE_S = 900.0
"""After a signal a run ends its step and saves, which takes as long as it takes; a second signal ends it at once.
`torchrun` has a time of its own, which docs/training.md sets to the same."""


RESTARTS = 3
PACKAGES = ("torch", "colossalai", "triton", "peft", "diffusers", "transformers", "safetensors")
"""Whose versions the record of a run names."""


@dataclass(frozen=True, slots=True)
class Request:
    """The arguments of `ziggurat train`. `steps`, `changes`: of the preset. `workers`: processes on Ray, at `address`
    or a local one, of which `least` are enough and which are started again `restarts` times; None: this process alone,
    or those of `torchrun`."""

    manifest: str
    latents: str
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


def train(request: Request, watch: Watch, timeouts: Timeouts | None = None) -> Trained:
    """Train, from the newest checkpoint in the folder where there is one. A signal ends it after the step: it saves,
    and KeyboardInterrupt follows. `timeouts`: of a run on Ray, the usual ones where there are none.

    UserError: what `pipelines.train.train` raises; with workers, also what `pipelines.training.driver` does.
    """
    if request.workers is not None:
        _check_workers(request)
    model = modelfile.load(request.model)
    changes = [*request.changes, *([] if request.steps is None else [f"steps={request.steps}"])]
    chosen = preset.load(request.preset, changes)
    need_torch()
    from curation.pyramid.storage import about, address
    from curation.shards import folder
    from curation.shards.takedown import forgotten
    from pipelines.train import train as run
    from training.assemble import Job
    from training.data.latents import LatentStore

    pyramid, frozen = folder.opened(request.manifest)
    place, options = address.located(request.latents)
    source = LatentStore.open(place, frozen.manifest, about.options(place, options))
    missing, gone = set(source.missing.tolist()), set(forgotten(frozen, pyramid))
    whole = frozen.manifest.samples
    if missing - gone:
        watch.note(f"{len(missing - gone):,} of {whole:,} samples have no latents and are left out")
    if gone:
        watch.note(f"{len(gone):,} of {whole:,} samples were taken down since they were frozen and are left out")
    if source.head.model != model.name:
        watch.note(f"the latents were encoded with the model {source.head.model}, and {model.name} is trained")
    job = Job(
        frozen=frozen,
        source=source,
        model=model.spec,
        preset=chosen.preset(request.preset),
        folder=Path(request.to),
        missing=missing | gone,
        engine=request.engine,
    )
    course = Course(
        manifest=f"{frozen.manifest.name} ({frozen.manifest.sha256[:12]})",
        latents=source.uri,
        model=model.name,
        preset=job.preset.record,
        steps=job.preset.steps,
    )
    watch = Followed(watch, course)
    with _recorded(job, course) as record:
        if request.workers is not None:
            return _on_ray(request, job, course, watch, request.workers, timeouts, record)
        with signals.held(GRACE_S, saves=True):
            return run(job, watch, signals.came)


def _recorded(job: Job, course: Course) -> AbstractContextManager[Record | None]:
    """The run's record, `runs/ID.json` in its folder: one, whoever started how many processes."""
    if os.environ.get("RANK", "0") != "0":
        return nullcontext()
    record = Record(Files(str(job.folder)), course, job.preset.name, packages=PACKAGES)
    return record.kept()


def _check_workers(request: Request) -> None:
    if "RANK" in os.environ:
        raise UserError("torchrun has started the processes already", "leave --workers out, or start without torchrun")
    if request.engine == "single" and request.workers != 1:
        raise UserError("engine single is one process", "name another --engine, or none")
    if request.least is not None and request.workers is not None and request.least > request.workers:
        raise UserError(f"--min-workers {request.least} is more than --workers {request.workers}", "lower it")


def _on_ray(
    request: Request,
    job: Job,
    course: Course,
    watch: Watch,
    workers: int,
    timeouts: Timeouts | None,
    record: Record | None,
) -> Trained:
    from pipelines.execution.cluster import joined
    from pipelines.training.timeouts import Timeouts
    from training.data.batches import check_ranks

    context = job.preset.context
    least = request.least or workers
    for option, count in (("--workers", workers), ("--min-workers", least)):
        if count % context:
            raise UserError(f"{context} ranks share a sample, and {option} {count} is no multiple", "change it")
    check_ranks(job.preset.per_step, workers // context, context)
    timeouts, threads = timeouts or Timeouts(), job.model.threads
    with joined(request.address, workers * threads, timeouts.job) as there:
        from pipelines.training.driver import check_room, train_on_ray
        from pipelines.training.group import Crew

        if record is not None:
            record.joined(there)
        gpu = job.model.device.startswith("cuda") or (job.model.device == "auto" and there.gpus > 0)
        crew = Crew(workers, least, request.restarts, gpu, threads)
        if request.address is None:
            check_room(crew, there.gpus)
        reads = [] if "://" in course.latents else [Path(course.latents).absolute()]
        with signals.held(GRACE_S, saves=True):
            return train_on_ray(
                replace(job, folder=job.folder.absolute()), crew, watch, signals.came, course, timeouts, reads
            )
