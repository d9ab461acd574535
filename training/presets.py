"""A preset: everything that a training run decides beside its manifest and its network.

The files are in `pipelines/config/presets`, one for each stage of the report and `tiny` for a CPU; `config.preset`
reads them and says what each key means.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from training.condition import Kind
from training.lora.spec import LoraSpec
from training.parallel.base import AdamW, Precision
from training.parallel.context import Way
from training.schedule import Schedule


@dataclass(frozen=True, slots=True, kw_only=True)
class Preset:
    """`per_step`: micro-batches of a step, over all ranks. `ahead`: those that wait ready. `clip`: of the gradient's
    norm. `recompute`: double and single blocks that are computed again in the backward pass, None for all of them.
    `offload`: their inputs wait on the host.
    `new_latent`: in- and output may start anew where the weights to start from are of another autoencoder or of Flux.
    `lora`: None trains all weights. `averages`: the EMA's decay, None for no EMA. `held_out`: validation samples.
    `window`, `deviations`: see `recovery.spikes`. `context`: ranks that share a sequence, `attention` how they meet in
    it. `record`: all of it as the file has it, for checkpoints.
    """

    name: str
    steps: int
    seed: int
    per_step: int
    ahead: int
    schedule: Schedule
    optimizer: AdamW
    clip: float
    conditions: Mapping[Kind, float]
    with_references: bool
    text_dropout: float
    precision: Precision
    recompute: tuple[int | None, int | None]
    offload: bool
    new_latent: bool
    lora: LoraSpec | None
    context: int
    attention: Way
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
