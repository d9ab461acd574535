"""From a manifest, latents, a model and a preset to the parts that the loop takes: network, method, batches, callbacks.

`pipelines.train` puts them together; whoever runs the processes calls it in each of them. What differs by what is
trained is a job's own (`BaseJob`): here the transformer's, in `autoencoder.assemble` the autoencoder's.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection
from dataclasses import dataclass, field, replace
from hashlib import sha256
from importlib.util import find_spec
from pathlib import Path
from typing import Protocol

import torch
from torch import nn

from curation.errors import UserError
from curation.shards.manifest import Frozen
from training import ops
from training.callbacks.averages import Averages
from training.callbacks.base import Callback
from training.callbacks.checkpointing import Checkpointing
from training.callbacks.log import Log, Sink, TensorBoard, Validated, Wandb
from training.callbacks.pace import Pace
from training.callbacks.speed import Speed
from training.callbacks.time_bins import TimeBins
from training.callbacks.validation import Validation
from training.checkpoint.folder import Checkpoints, Head, Identity
from training.condition import Kind
from training.cost.formulas import Transformer
from training.data.batches import Batches, Cost, cost_of, held_out
from training.data.encoded import Source
from training.lora.inject import adapted, base_of
from training.methods.base import Method
from training.methods.flow_matching import FlowMatching
from training.models import build
from training.models.convert import NEW_LATENT
from training.models.mmdit import MMDiT
from training.models.mmdit import preset as sizes_of
from training.offload import Offload
from training.parallel.base import Engine
from training.parallel.context import Context, context_of
from training.presets import Preset, RunPreset

CHECKPOINTS = "checkpoints"


class Validates(Callback, Validated, Protocol):
    """A validation: `headline` names the number of `last` that says most."""

    headline: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """What a job trains; no engine has it yet.

    `network`: what `Engine.wrap` takes. `name`: its preset's, for checkpoints. `base`: the fingerprint of the weights
    under an adapter, `alpha`: what that is scaled by; empty and None where all are trained.
    """

    network: nn.Module
    name: str
    method: Method
    cost: Cost
    base: str = ""
    alpha: float | None = None

    def joined(self, engine: Engine) -> Engine:
        """The engine that trains all of it."""
        return engine

    def averaged(self, engine: Engine) -> Engine:
        """That part of `joined` whose weights are averaged."""
        return engine


@dataclass(frozen=True, slots=True, kw_only=True)
class BaseJob(ABC):
    """One run. `missing`: samples of the manifest that are not trained on, as they were taken down or have no latents.
    `folder`: where its checkpoints and log are. `latents`: what made them, "" where it reads none. `engine`: a name of
    `parallel.engines`, None for the one that suits how the process was started. `streams`: samples are encoded while
    they are asked for: then all that may wait is asked for at once, and may be long in coming."""

    frozen: Frozen
    model: build.ModelSpec
    preset: RunPreset
    folder: Path
    missing: Collection[int] = field(default=(), repr=False)
    latents: str = ""
    engine: str | None = None
    streams: bool = False

    @property
    def checkpoints(self) -> Checkpoints:
        return Checkpoints(self.folder / CHECKPOINTS)

    @property
    def held_out(self) -> tuple[int, ...]:
        """The validation samples."""
        preset = self.preset
        return held_out(self.frozen.samples.num_rows, preset.held_out, preset.seed, self.missing)

    @property
    @abstractmethod
    def trains(self) -> str:
        """What checkpoints call the method."""

    @property
    def readers(self) -> int:
        """Threads that read ahead on each rank."""
        return 1

    @abstractmethod
    def parts(self, engine: Engine) -> Parts:
        """Made for an engine that has none yet. UserError: what does not fit together."""

    @abstractmethod
    def validation(self, engine: Engine, parts: Parts, averages: Averages | None) -> Validates | None:
        """None where the preset holds no samples out."""

    @abstractmethod
    def beside(self, engine: Engine) -> list[Callback]:
        """Callbacks of its own."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Job(BaseJob):
    """The transformer's."""

    source: Source
    preset: Preset

    @property
    def trains(self) -> str:
        return "flow_matching"

    @property
    def readers(self) -> int:
        return self.preset.ahead if self.streams else 1

    def parts(self, engine: Engine) -> Parts:
        shared = context(self, engine)
        made = network(self, engine.device)
        sizes, lora = Transformer.of(made.config), self.preset.lora
        return Parts(
            network=made,
            name=self.model.denoiser.preset,
            method=method(self, sizes, shared),
            cost=cost_of(self.source.spec, sizes, self.source.empty.tokens_BMD.shape[1]),
            base="" if lora is None else base_of(made),
            alpha=None if lora is None else lora.strength,
        )

    def validation(self, engine: Engine, parts: Parts, averages: Averages | None) -> Validation | None:
        assert isinstance(parts.method, FlowMatching)
        held = self.held_out
        return Validation(engine, parts.method, held, self.preset.validate_every, averages) if held else None

    def beside(self, engine: Engine) -> list[Callback]:
        return [TimeBins()]


def context(job: Job, engine: Engine) -> Context:
    """The ranks that share each sample with this one. UserError: the preset's number does not suit ranks or heads."""
    preset = job.preset
    return context_of(engine, preset.context, preset.attention, sizes_of(job.model.denoiser.preset).num_heads)


def network(job: Job, device: torch.device) -> MMDiT:
    """The transformer, float32, every weight with a gradient; or an adapter in it that alone has them, float32 over
    weights in the type that is computed in. UserError: it does not fit latents or preset."""
    ops.use_kernels(job.model.kernels)
    empty, preset, spec = job.source.empty, job.preset, job.model.denoiser
    widths = empty.tokens_BMD.shape[-1], empty.pooled_BP.shape[-1]
    allowed = NEW_LATENT if preset.new_latent else None
    dtype = torch.float32 if preset.lora is None else getattr(torch, preset.precision)
    alone = preset.context == 1
    made = build.denoiser(
        replace(spec, compile=spec.compile and alone), job.source.spec, widths, device, dtype, allowed
    )
    if spec.compile and not alone:
        made.compile_blocks(fullgraph=False)  # their attention meets other ranks between two graphs
    if not made.config.cond_embed and set(preset.conditions) != {Kind.T2V}:
        raise UserError(
            f"{spec.preset} has no input for a condition, and preset {preset.name} gives some",
            "take a network with one, or conditions of t2v alone",
        )
    build.trainable(made)
    there = made.config.depth, made.config.depth_single_blocks
    for asked, count in zip(preset.recompute, there, strict=True):
        if asked is not None and asked > count:
            raise UserError(f"{asked} of {count} blocks cannot be recomputed", "lower network.recompute_*")
    double, single = (count if asked is None else asked for asked, count in zip(preset.recompute, there, strict=True))
    made.recompute(double, single, Offload() if preset.offload else None)
    return made if preset.lora is None else adapted(made, preset.lora, preset.seed)


def method(job: Job, sizes: Transformer, context: Context) -> FlowMatching:
    """Flow matching on the job's latents."""
    preset = job.preset
    return FlowMatching(
        job.source,
        preset.seed,
        sizes,
        preset.conditions,
        dropout=preset.text_dropout,
        with_references=preset.with_references,
        frozen=preset.lora is not None,
        context=context,
    )


def batches(job: BaseJob, parts: Parts) -> Batches:
    """Of all samples that are not missing and not held out. UserError: not one step."""
    return Batches(
        job.frozen.samples,
        seed=job.preset.seed,
        per_step=job.preset.per_step,
        cost=parts.cost,
        without=frozenset(job.missing).union(job.held_out),
    )


def head(job: BaseJob, engine: Engine, parts: Parts) -> Head:
    """What every checkpoint of the run says of it."""
    preset = job.preset
    identity = Identity(
        manifest=job.frozen.manifest.sha256,
        seed=preset.seed,
        per_step=preset.per_step,
        held_out=preset.held_out,
        base=parts.base,
        alpha=parts.alpha,
        latents=job.latents,
        shapes=engine.shapes(),
    )
    return Head(
        identity=identity,
        network=parts.name,
        method=job.trains,
        settings=preset.record,
        missing=len(frozenset(job.missing)),
        left_out=sha256(" ".join(map(str, sorted(frozenset(job.missing)))).encode()).hexdigest()[:16],
        engine=engine.name,
        ranks=engine.ranks,
        torch=torch.__version__,
    )


def callbacks(
    job: BaseJob, engine: Engine, head: Head, averages: Averages | None, validation: Validates | None
) -> list[Callback]:
    """All of them, in their order: see `callbacks.base`."""
    preset = job.preset
    saving = Checkpointing(
        engine,
        job.checkpoints,
        head,
        every=preset.save_every,
        keep_last=preset.keep_last,
        keep_every=preset.keep_every,
        averages=averages,
    )
    first = engine.rank == 0
    log = Log(job.folder, _sinks(preset, job.folder), validation) if first else None
    pace = Pace(engine) if engine.ranks > 1 else None
    found = (averages, validation, saving, *job.beside(engine), Speed(engine.device, engine.ranks), pace, log)
    return [one for one in found if one is not None]


def has_tensorboard() -> bool:
    """Whether the package is there: without it a preset's `log.tensorboard` has no effect, and the run says so."""
    return find_spec("tensorboard") is not None


def _sinks(preset: RunPreset, folder: Path) -> list[Sink]:
    sinks: list[Sink] = []
    if preset.tensorboard and has_tensorboard():
        sinks.append(TensorBoard(folder / "tensorboard"))
    if preset.wandb is not None:
        sinks.append(Wandb(preset.wandb, folder))
    return sinks
