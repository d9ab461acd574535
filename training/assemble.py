"""From a manifest, latents, a model and a preset to the parts that the loop takes: network, method, batches, callbacks.

`pipelines.train` puts them together; whoever runs the processes calls it in each of them.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field, replace
from importlib.util import find_spec
from pathlib import Path

import torch

from curation.errors import UserError
from curation.shards.manifest import Frozen
from training import ops
from training.callbacks.averages import Averages
from training.callbacks.base import Callback
from training.callbacks.checkpointing import Checkpointing
from training.callbacks.log import Log, Sink, TensorBoard, Wandb
from training.callbacks.pace import Pace
from training.callbacks.speed import Speed
from training.callbacks.time_bins import TimeBins
from training.callbacks.validation import Validation
from training.checkpoint.folder import Checkpoints, Head, Identity
from training.condition import Kind
from training.cost.formulas import Transformer
from training.data.batches import Batches, cost_of, held_out
from training.data.encoded import Source
from training.lora.inject import adapted, base_of
from training.methods.flow_matching import FlowMatching
from training.models import build
from training.models.convert import NEW_LATENT
from training.models.mmdit import MMDiT
from training.models.mmdit import preset as sizes_of
from training.offload import Offload
from training.parallel.base import Engine
from training.parallel.context import Context, context_of
from training.presets import Preset

CHECKPOINTS = "checkpoints"


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """One run. `missing`: samples of the manifest that have no latents or were taken down. `folder`: where its
    checkpoints and log are. `engine`: a name of `parallel.engines`, None for the one that suits how the process was
    started."""

    frozen: Frozen
    source: Source
    model: build.ModelSpec
    preset: Preset
    folder: Path
    missing: Collection[int] = field(default=(), repr=False)
    engine: str | None = None

    @property
    def checkpoints(self) -> Checkpoints:
        return Checkpoints(self.folder / CHECKPOINTS)

    @property
    def held_out(self) -> tuple[int, ...]:
        """The validation samples."""
        preset = self.preset
        return held_out(self.frozen.samples.num_rows, preset.held_out, preset.seed, self.missing)


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


def base(job: Job, network: MMDiT) -> str:
    """The fingerprint of the weights under an adapter, of a network that no engine has yet; empty where all are
    trained."""
    return "" if job.preset.lora is None else base_of(network)


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


def batches(job: Job, sizes: Transformer) -> Batches:
    """Of all samples that have latents and are not held out. UserError: not one step."""
    return Batches(
        job.frozen.samples,
        seed=job.preset.seed,
        per_step=job.preset.per_step,
        cost=cost_of(job.source.spec, sizes, job.source.empty.tokens_BMD.shape[1]),
        without=frozenset(job.missing).union(job.held_out),
    )


def head(job: Job, engine: Engine, base: str) -> Head:
    """What every checkpoint of the run says of it. `base`: see `base`."""
    preset = job.preset
    identity = Identity(
        manifest=job.frozen.manifest.sha256,
        seed=preset.seed,
        per_step=preset.per_step,
        held_out=preset.held_out,
        base=base,
        alpha=None if preset.lora is None else preset.lora.strength,
        shapes=engine.shapes(),
    )
    return Head(
        identity=identity,
        network=job.model.denoiser.preset,
        settings=preset.record,
        missing=len(frozenset(job.missing)),
        engine=engine.name,
        ranks=engine.ranks,
        torch=torch.__version__,
    )


def validation(job: Job, engine: Engine, method: FlowMatching, averages: Averages | None) -> Validation | None:
    """None where the preset holds no samples out."""
    held = job.held_out
    return Validation(engine, method, held, job.preset.validate_every, averages) if held else None


def callbacks(
    job: Job, engine: Engine, head: Head, averages: Averages | None, validation: Validation | None
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
    found = (averages, validation, saving, TimeBins(), Speed(engine.device, engine.ranks), pace, log)
    return [one for one in found if one is not None]


def has_tensorboard() -> bool:
    """Whether the package is there: without it a preset's `log.tensorboard` has no effect, and the run says so."""
    return find_spec("tensorboard") is not None


def _sinks(preset: Preset, folder: Path) -> list[Sink]:
    sinks: list[Sink] = []
    if preset.tensorboard and has_tensorboard():
        sinks.append(TensorBoard(folder / "tensorboard"))
    if preset.wandb is not None:
        sinks.append(Wandb(preset.wandb, folder))
    return sinks
