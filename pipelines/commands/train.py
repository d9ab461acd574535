"""`ziggurat train`: a network on the latents of a manifest. `pipelines.train` does it; here arguments become a job."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pipelines.config import modelfile, preset
from pipelines.execution import signals
from pipelines.sampling.networks import need_torch

if TYPE_CHECKING:
    from pipelines.train import Trained, Watch

GRACE_S = 900.0
"""After a signal a run ends its step and saves, which takes as long as it takes; a second signal ends it at once.
`torchrun` has a time of its own, which docs/training.md sets to the same."""


@dataclass(frozen=True, slots=True)
class Request:
    """The arguments of `ziggurat train`. `steps`, `changes`: of the preset."""

    manifest: str
    latents: str
    model: str
    preset: str
    to: str
    steps: int | None = None
    changes: Sequence[str] = ()
    engine: str | None = None


def train(request: Request, watch: Watch) -> Trained:
    """Train, from the newest checkpoint in the folder where there is one. A signal ends it after the step: it saves,
    and KeyboardInterrupt follows."""
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
    with signals.held(GRACE_S, saves=True):
        return run(job, watch, signals.came)
