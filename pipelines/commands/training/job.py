"""What `ziggurat train` is to do: its arguments become a job, of the transformer on latents or of the autoencoder on
frames, as the preset says.
"""

from __future__ import annotations

import os
from contextlib import ExitStack, closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from curation.errors import UserError
from pipelines.config import autoencoder_preset, preset
from pipelines.sampling.networks import need_torch

if TYPE_CHECKING:
    from curation.pyramid.store import Pyramid
    from curation.shards.manifest import Frozen
    from pipelines.commands.training.train import Request
    from pipelines.config.modelfile import ModelFile
    from pipelines.execution.cluster import Resources
    from pipelines.sampling.wish import Wish
    from pipelines.train import Watch
    from pipelines.training.sampled import Plan
    from training.assemble import BaseJob
    from training.data.latents import LatentStore
    from training.presets import Preset, RunPreset


@dataclass(frozen=True, slots=True)
class Made:
    """A job, and the path or URI of the data that it reads. `samples`: what its checkpoints are sampled with."""

    job: BaseJob
    data: str
    samples: Wish | None = None

    @property
    def reads(self) -> list[Path]:
        """What every node must see beside the run's own folder."""
        places = [self.data, *([] if self.samples is None else [self.samples.model])]
        return [Path(place).absolute() for place in places if "://" not in place and Path(place).exists()]


def made(request: Request, model: ModelFile, watch: Watch, stack: ExitStack) -> Made:
    """The job of a request; what it leaves out is told. `stack` ends what it holds open. UserError: what does not fit
    together.
    """
    if preset.method_of(request.preset) == "autoencoder":
        return _of_autoencoder(request, model, watch, stack)
    chosen = preset.load(request.preset, _changes(request)).preset(request.preset)
    if request.latents is None and request.stream is None:
        raise UserError(
            f"preset {request.preset} trains on latents, and none were given",
            "--latents URI, where `ziggurat encode` has put the manifest's; or --stream N, to encode meanwhile",
        )
    need_torch()
    _check_crew(request, chosen)
    samples = _samples(request, chosen, watch)
    if request.latents is None:
        found = _streamed(request, model, chosen, watch, stack)
    else:
        found = _of_latents(request, request.latents, model, chosen, watch)
    return replace(found, samples=samples)


def _samples(request: Request, chosen: Preset, watch: Watch) -> Wish | None:
    """What the run's checkpoints are sampled with. UserError: it asks for what the model cannot make."""
    if chosen.samples is None:
        return None
    if "RANK" in os.environ:
        remedy = "--set samples.every=0, and `ziggurat sample --run` when there is a checkpoint"
        raise UserError("torchrun has started the processes already, and samples are made on Ray", remedy)
    from pipelines.sampling.job import prepared
    from pipelines.training.sampled import wish_of

    wish = wish_of(chosen.samples, request.model)
    prepared(wish, watch.note)
    return wish


def _of_latents(request: Request, latents: str, model: ModelFile, chosen: Preset, watch: Watch) -> Made:
    from curation.pyramid.storage import about, address
    from curation.shards import folder
    from training.assemble import Job
    from training.data.latents import LatentStore

    pyramid, frozen = folder.opened(request.manifest)
    place, options = address.located(latents)
    source = LatentStore.open(place, frozen.manifest, about.options(place, options))
    missing, gone = set(source.missing.tolist()), _forgotten(frozen, pyramid, watch)
    if missing - gone:
        samples = frozen.manifest.samples
        watch.note(f"{len(missing - gone):,} of {samples:,} samples have no latents and are left out")
    if source.head.model != model.name:
        watch.note(f"the latents were encoded with the model {source.head.model}, and {model.name} is trained")
    if is_first():
        _check_encoder(source, model, watch)
    job = Job(
        frozen=frozen,
        source=source,
        model=model.spec,
        preset=chosen,
        folder=Path(request.to),
        missing=missing | gone,
        latents=source.head.by,
        engine=request.engine,
    )
    return Made(job, place)


def _streamed(request: Request, model: ModelFile, chosen: Preset, watch: Watch, stack: ExitStack) -> Made:
    """`stack` ends the encoders, and a Ray that was started for them."""
    from curation.shards import folder
    from pipelines.config.recipe import limits_of
    from pipelines.encoding.placed import placed
    from pipelines.encoding.stream import Wanted, check_room, streaming
    from training.assemble import Job
    from training.data.fitting import check_buckets
    from training.data.latent_file import Head

    assert request.stream is not None
    pyramid, frozen = folder.opened(request.manifest)
    gone = _forgotten(frozen, pyramid, watch)
    there = stack.enter_context(request.joined(model.spec.threads))
    spec, gpus = placed(model.spec, there)
    _check_apart(request, gpus, "encoders")
    check_room(request.stream, request.workers or 0, gpus, there)
    wanted = Wanted(frozen, pyramid, spec, limits_of(pyramid), chosen.context)
    watch.note(f"encoded while training asks for samples, workers of Ray: {request.stream}")
    source = stack.enter_context(streaming(wanted, request.stream, gpus))
    check_buckets(frozen, source.spec)
    manifest = frozen.manifest
    job = Job(
        frozen=frozen,
        source=source,
        streams=True,
        model=model.spec,
        preset=chosen,
        folder=Path(request.to),
        missing=gone,
        latents=Head(manifest.name, manifest.sha256, pyramid.uri, model.name, source.encoders).by,
        engine=request.engine,
    )
    return Made(job, pyramid.uri)


def _of_autoencoder(request: Request, model: ModelFile, watch: Watch, stack: ExitStack) -> Made:
    """`stack` ends the sandboxes that its frames come through."""
    chosen = autoencoder_preset.load(request.preset, _changes(request))
    for option, given in (("--latents", request.latents), ("--stream", request.stream)):
        if given is not None:
            raise UserError(f"preset {request.preset} trains on frames, not on latents", f"leave {option} out")
    need_torch()
    settings = chosen.preset(request.preset)
    _check_crew(request, settings)
    from curation.shards import folder
    from pipelines.config.recipe import limits_of
    from pipelines.frames.clips import PyramidClips
    from training.autoencoder.assemble import AutoencoderJob
    from training.autoencoder.perception import Files

    pyramid, frozen = folder.opened(request.manifest)
    gone, unwanted = _forgotten(frozen, pyramid, watch), set(settings.leave_out)
    samples = frozen.manifest.samples
    if beyond := sorted(number for number in unwanted if number >= samples):
        raise UserError(f"frames.leave_out has sample {beyond[0]}", f"{request.manifest} has 0 to {samples - 1}")
    if unwanted - gone:
        watch.note(f"{len(unwanted - gone):,} of {samples:,} samples are left out by frames.leave_out")
    if model.autoencoder.path is None:
        watch.note(f"the autoencoder begins with random weights (seed {model.autoencoder.seed})")
    clips = stack.enter_context(closing(PyramidClips(pyramid, frozen, limits_of(pyramid), settings.readers)))
    job = AutoencoderJob(
        frozen=frozen,
        clips=clips,
        model=model.spec,
        preset=settings,
        files=Files(**model.perception.model_dump()),
        folder=Path(request.to),
        missing=unwanted | gone,
        engine=request.engine,
    )
    return Made(job, pyramid.uri)


def _check_crew(request: Request, chosen: RunPreset) -> None:
    """UserError: a step of the preset cannot be shared among the workers, or their engine is not installed. On a
    cluster the workers say so themselves, for this machine computes nothing.
    """
    from training.data.batches import check_ranks
    from training.parallel.engines import check_installed, default

    if request.workers is None:
        return
    if request.address is None:
        check_installed(request.engine or default(request.workers))
    context = chosen.context
    for option, count in (("--workers", request.workers), ("--min-workers", request.least or request.workers)):
        if count % context:
            raise UserError(f"{context} ranks share a sample, and {option} {count} is no multiple", "change it")
    check_ranks(chosen.per_step, request.workers // context, context)


def plan(request: Request, found: Made, there: Resources) -> Plan:
    """How checkpoints are sampled on the Ray that was joined. UserError: there is no GPU for it."""
    from pipelines.encoding.placed import placed
    from pipelines.training.sampled import Plan, check_room
    from training.presets import Preset

    job = found.job
    assert found.samples is not None and isinstance(job.preset, Preset) and job.preset.samples is not None
    _, gpus = placed(job.model, there)
    _check_apart(request, gpus, "samples")
    check_room(gpus, (request.workers or 0) + (request.stream or 0), there)
    return Plan(found.samples, job.preset.samples.every, gpus, job.model.threads)


def _check_apart(request: Request, gpus: float, what: str) -> None:
    """UserError: Ray knows nothing of the GPU that this process computes on, and would give it away."""
    if gpus and request.workers is None:
        raise UserError(f"training and its {what} would be given one GPU", "add --workers 1: Ray gives each its own")


def is_first() -> bool:
    """Whether this process speaks, of those that `torchrun` has started."""
    return os.environ.get("RANK", "0") == "0"


def _check_encoder(source: LatentStore, model: ModelFile, watch: Watch) -> None:
    """UserError where the latents are of another autoencoder than the model's, which would decode what is sampled. Its
    weights need not be here for training: then it is told that nobody looked.
    """
    import torch

    from training.models import build

    own, wanted = build.dtype_of(model.spec), source.head.encoders.autoencoder
    found = ""
    # In whatever type it has computed: the model file may have had another `run.dtype` then.
    for dtype in (own, *({torch.float32, torch.bfloat16} - {own})):
        try:
            made = build.autoencoder(model.spec.autoencoder, torch.device("cpu"), dtype)
        except UserError as error:
            watch.note(f"whether the latents are of the model's autoencoder was not looked at: {error.cause}")
            return
        fingerprint = build.autoencoder_fingerprint(made)
        if fingerprint == wanted:
            return
        found = found or fingerprint
    source.check(found)


def _changes(request: Request) -> list[str]:
    return [*request.changes, *([] if request.steps is None else [f"steps={request.steps}"])]


def _forgotten(frozen: Frozen, pyramid: Pyramid, watch: Watch) -> set[int]:
    """The samples that were taken down, told."""
    from curation.shards.takedown import forgotten

    gone, whole = set(forgotten(frozen, pyramid)), frozen.manifest.samples
    if gone:
        watch.note(f"{len(gone):,} of {whole:,} samples were taken down since they were frozen and are left out")
    return gone
