"""The preset of a training run: a TOML file for each stage of the report, and `tiny` for a CPU. `train` reads it.

What a batch holds is the manifest's affair (its bucket table); what network is trained, the model file's. `--set
schedule.warmup=100` changes one key of it for a run. The key `method` says whether the transformer is trained, which
needs no word, or the autoencoder (`autoencoder_preset`); what both decide alike is a `RunFile`.
"""

from __future__ import annotations

import tomllib
from collections.abc import Sequence
from math import sqrt
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self, get_args

from pydantic import Field, field_validator, model_validator

from curation.errors import UserError
from pipelines.config import tomlfile
from pipelines.config.tomlfile import Section

if TYPE_CHECKING:
    from training.presets import Preset

SHIPPED = Path(__file__).parent / "presets"

Method = Literal["flow_matching", "autoencoder"]
"""What is learnt, and so which network is trained."""

_Positive = Annotated[int, Field(ge=1)]


class BatchesSection(Section):
    """Micro-batches of a step, over all GPUs: each is a batch of one bucket, and every number of ranks that divides
    `per_step` trains alike. `ahead`: how many wait ready on each rank."""

    per_step: _Positive
    ahead: _Positive = 2


class ScheduleSection(Section):
    """`rates`: [from this step on, learning rate], the first from 0. `warmup`: steps over which it rises."""

    rates: tuple[tuple[int, float], ...]
    warmup: Annotated[int, Field(ge=0)] = 0

    @field_validator("rates", mode="before")
    @classmethod
    def _pairs(cls, value: Any) -> Any:
        return [tuple(one) if isinstance(one, list) else one for one in value] if isinstance(value, list) else value


class OptimizerSection(Section):
    """AdamW. `clip`: the norm to which a longer gradient is cut."""

    beta1: Annotated[float, Field(ge=0, lt=1)] = 0.9
    beta2: Annotated[float, Field(ge=0, lt=1)] = 0.999
    eps: Annotated[float, Field(gt=0)] = 1e-15
    weight_decay: Annotated[float, Field(ge=0)] = 0.0
    clip: Annotated[float, Field(gt=0)] = 1.0


class TextSection(Section):
    """`dropout`: of each text encoder's states, apart: with sqrt(0.1) one prompt of ten has neither."""

    dropout: Annotated[float, Field(ge=0, lt=1)] = sqrt(0.1)


class LossSection(Section):
    """`references`: false leaves end frames that were given out of the loss."""

    references: bool = True


class NetworkSection(Section):
    """`precision`: of the network; masters are float32. `recompute_double`, `recompute_single`: how many blocks of
    a kind are computed again in the backward pass, in place of keeping what they hold; left out: all. `offload`: what
    is kept of those, their inputs, waits in the host's memory. `new_latent`: the weights of the model file may be of
    Flux or of another autoencoder, and the in- and output then start anew."""

    precision: Literal["float32", "bfloat16"] = "bfloat16"
    recompute_double: Annotated[int, Field(ge=0)] | None = None
    recompute_single: Annotated[int, Field(ge=0)] | None = None
    offload: bool = False
    new_latent: bool = False


class LoraSection(Section):
    """An adapter of low rank in the place of the weights (docs/lora.md). `rank`: 0 trains the weights themselves.
    `alpha`: over the rank, what it is scaled by; left out: the rank. `targets`: attn, mlp, mod, all."""

    rank: Annotated[int, Field(ge=0)] = 0
    alpha: Annotated[float, Field(gt=0)] | None = None
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    targets: tuple[str, ...] = ("attn", "mlp")

    @field_validator("targets", mode="before")
    @classmethod
    def _listed(cls, value: Any) -> Any:
        parts = value.split(",") if isinstance(value, str) else value
        if not isinstance(parts, list):
            return value
        return tuple(one.strip() if isinstance(one, str) else one for one in parts)

    @model_validator(mode="after")
    def _used(self) -> Self:
        idle = sorted(self.model_fields_set - {"rank"})
        if not self.rank and idle:
            raise ValueError(f"{idle[0]} has no effect without a rank: write for example rank = 16")
        return self


class AveragesSection(Section):
    """`decay`: of the EMA of the weights; 0 keeps none."""

    decay: Annotated[float, Field(ge=0, lt=1)] = 0.0


class ValidationSection(Section):
    """`samples`: held out of training; 0 validates nothing. `every`: steps."""

    samples: Annotated[int, Field(ge=0)] = 32
    every: _Positive = 1000


class CheckpointsSection(Section):
    """Saved `every` so many steps; the last `keep_last` are kept, and each whose step is a multiple of `keep_every`."""

    every: _Positive = 500
    keep_last: _Positive = 3
    keep_every: Annotated[int, Field(ge=0)] = 0


class ParallelSection(Section):
    """`context`: ranks that share the tokens of a sample. `attention`: how these ranks meet in attention: each sends
    its tokens' heads to the ranks that compute these heads (`all_to_all`; the heads have to divide among them), or keys
    and values go round all of them (`ring`)."""

    context: _Positive = 1
    attention: Literal["all_to_all", "ring"] = "all_to_all"


class SamplesSection(Section):
    """Videos of `prompts`, made of each checkpoint whose step is a multiple of `every` (0: of none) by a task of Ray
    beside training, which takes a GPU of its own where there are any. `size`: width x height. `steps`: from noise to
    video."""

    every: Annotated[int, Field(ge=0)] = 0
    prompts: tuple[str, ...] = ()
    size: str = "256x256"
    frames: _Positive = 32
    fps: Annotated[int, Field(ge=1, le=120)] = 24
    motion: int = 4
    steps: _Positive = 50
    guidance: float = 7.5
    seed: Annotated[int, Field(ge=0)] = 0

    @field_validator("prompts", mode="before")
    @classmethod
    def _listed(cls, value: Any) -> Any:
        return (value,) if isinstance(value, str) else tuple(value) if isinstance(value, list) else value

    @model_validator(mode="after")
    def _asked(self) -> Self:
        if self.every and not self.prompts:
            raise ValueError('every without prompts: write for example prompts = ["a red fox runs over snow"]')
        return self


class LogSection(Section):
    """Beside `log.jsonl`. `tensorboard`: event files, where the package is installed. `wandb`: a project to send to."""

    tensorboard: bool = True
    wandb: str | None = None


class LoopSection(Section):
    """`collect`: steps between two rounds of the garbage collector. `patience`: bad steps in a row that are borne."""

    collect: _Positive = 50
    patience: _Positive = 10


class RecoverySection(Section):
    """A loss or norm that is `deviations` deviations above the mean of the last `window` steps is a spike: the step is
    computed again, and left out if it stays so. 0: only what is not finite."""

    window: Annotated[int, Field(ge=4)] = 128
    deviations: Annotated[float, Field(ge=0)] = 6.0


class RunFile(Section):
    """The keys that a preset has whatever it trains."""

    steps: _Positive
    seed: Annotated[int, Field(ge=0)] = 42
    batches: BatchesSection
    schedule: ScheduleSection
    optimizer: OptimizerSection = OptimizerSection()
    averages: AveragesSection = AveragesSection()
    validation: ValidationSection = ValidationSection()
    checkpoints: CheckpointsSection = CheckpointsSection()
    log: LogSection = LogSection()
    loop: LoopSection = LoopSection()
    recovery: RecoverySection = RecoverySection()

    def common(self, name: str) -> dict[str, Any]:
        """These keys as `training.presets.RunPreset` has them. UserError: a schedule that makes no sense."""
        from training.parallel.base import AdamW
        from training.schedule import Schedule

        adam, checkpoints = self.optimizer, self.checkpoints
        return {
            "name": name,
            "steps": self.steps,
            "seed": self.seed,
            "per_step": self.batches.per_step,
            "ahead": self.batches.ahead,
            "schedule": Schedule(self.schedule.rates, self.schedule.warmup),
            "optimizer": AdamW(adam.beta1, adam.beta2, adam.eps, adam.weight_decay),
            "clip": adam.clip,
            "averages": self.averages.decay or None,
            "held_out": self.validation.samples,
            "validate_every": self.validation.every,
            "save_every": checkpoints.every,
            "keep_last": checkpoints.keep_last,
            "keep_every": checkpoints.keep_every,
            "collect": self.loop.collect,
            "patience": self.loop.patience,
            "window": self.recovery.window,
            "deviations": self.recovery.deviations,
            "tensorboard": self.log.tensorboard,
            "wandb": self.log.wandb,
            "record": self.model_dump(mode="json"),
        }


class PresetFile(RunFile):
    """A whole preset file of the transformer. `[conditions]`: weights of what is given, as t2v = 1 and i2v_head = 5."""

    method: Literal["flow_matching"] = "flow_matching"
    conditions: dict[str, float]
    text: TextSection = TextSection()
    loss: LossSection = LossSection()
    network: NetworkSection = NetworkSection()
    lora: LoraSection = LoraSection()
    parallel: ParallelSection = ParallelSection()
    samples: SamplesSection = SamplesSection()

    @model_validator(mode="after")
    def _sampled(self) -> Self:
        if self.samples.every % self.checkpoints.every:
            raise ValueError(
                f"samples.every = {self.samples.every} is no multiple of checkpoints.every = {self.checkpoints.every}: "
                "checkpoints are what is sampled"
            )
        return self

    @model_validator(mode="after")
    def _conditions(self) -> Self:
        if not self.conditions:
            raise ValueError("conditions is empty: write for example t2v = 1")
        return self

    @model_validator(mode="after")
    def _base(self) -> Self:
        if self.lora.rank and self.network.new_latent:
            raise ValueError("lora.rank and network.new_latent: what starts anew would be frozen as it is drawn")
        return self

    def preset(self, name: str) -> Preset:
        """What `training` takes. Needs torch. UserError: a condition or a schedule that makes no sense."""
        from training.condition import weights_of
        from training.lora.spec import LoraSpec
        from training.presets import Preset, SampleSettings

        network, lora = self.network, self.lora
        return Preset(
            **self.common(name),
            conditions=weights_of(self.conditions),
            with_references=self.loss.references,
            text_dropout=self.text.dropout,
            precision=network.precision,
            recompute=(network.recompute_double, network.recompute_single),
            offload=network.offload,
            new_latent=network.new_latent,
            lora=LoraSpec(**lora.model_dump()) if lora.rank else None,
            context=self.parallel.context,
            attention=self.parallel.attention,
            samples=SampleSettings(**self.samples.model_dump()) if self.samples.every else None,
        )


def method_of(name_or_path: str) -> Method:
    """What a preset trains. UserError: no such preset, or a method that there is not."""
    try:
        found = tomllib.loads(tomlfile.text_of(name_or_path, SHIPPED, "preset")).get("method", "flow_matching")
    except tomllib.TOMLDecodeError:
        return "flow_matching"  # whoever reads all of it says what is wrong
    methods = get_args(Method)
    if found not in methods:
        raise UserError(f"preset {Path(name_or_path).name}: method = {found!r}", f"write {' or '.join(methods)}")
    return found


def load(name_or_path: str, changes: Sequence[str] = ()) -> PresetFile:
    """A preset by path, or by the name of one that ships, with `key=value` changes. UserError: a key or a value that
    is not allowed."""
    return tomlfile.load(name_or_path, PresetFile, SHIPPED, "preset", changes)
