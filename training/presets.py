"""A preset: everything that a training run decides beside its manifest and its network.

The files are in `pipelines/config/presets`: one for each stage of the report, those of the autoencoder, and tiny ones
for a CPU; `config.preset` and `config.autoencoder_preset` read them and say what each key means.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from training.autoencoder.settings import Settings
from training.condition import Kind
from training.lora.spec import LoraSpec
from training.parallel.base import AdamW, Precision
from training.parallel.context import Way
from training.schedule import Schedule


@dataclass(frozen=True, slots=True, kw_only=True)
class RunPreset:
    """What every run decides, whatever it trains. `per_step`: micro-batches of a step, over all ranks. `ahead`: those
    that wait ready. `clip`: of the gradient's norm. `averages`: the EMA's decay, None for no EMA. `held_out`:
    validation samples. `window`, `deviations`: see `recovery.spikes`. `context`: ranks that share a sequence. `record`:
    all of it as the file has it, for checkpoints.
    """

    name: str
    steps: int
    seed: int
    per_step: int
    ahead: int
    schedule: Schedule
    optimizer: AdamW
    clip: float
    precision: Precision
    context: int = 1
    averages: float | None
    held_out: int
    validate_every: int
    save_every: int
    keep_last: int
    keep_every: int
    collect: int
    patience: int
    window: int
    deviations: float
    tensorboard: bool
    wandb: str | None
    record: Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class SampleSettings:
    """Videos that are made of each checkpoint whose step is a multiple of `every`. `size`: as 256x256, width first."""

    every: int
    prompts: tuple[str, ...]
    size: str
    frames: int
    fps: int
    motion: int
    steps: int
    guidance: float
    seed: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Preset(RunPreset):
    """The transformer's. `recompute`: double and single blocks that are computed again in the backward pass, None for
    all of them. `offload`: their inputs wait on the host.
    `new_latent`: in- and output may start anew where the weights to start from are of another autoencoder or of Flux.
    `lora`: None trains all weights. `attention`: how ranks that share a sequence meet in it. `samples`: None makes
    none.
    """

    conditions: Mapping[Kind, float]
    with_references: bool
    text_dropout: float
    recompute: tuple[int | None, int | None]
    offload: bool
    new_latent: bool
    lora: LoraSpec | None
    attention: Way
    samples: SampleSettings | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class AutoencoderPreset(RunPreset):
    """The autoencoder's. `pace`: the discriminator's rate over the autoencoder's. `readers`: clips that are decoded at
    once on each rank. `leave_out`: samples, by number, that are not trained on. `recompute`: its blocks are computed
    again in the backward pass."""

    settings: Settings
    pace: float
    readers: int
    leave_out: tuple[int, ...]
    recompute: bool = False
