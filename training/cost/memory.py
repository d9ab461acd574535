"""What a step holds in the memory of one process's device, by formula, and what to change where that is too much.

The trainer asks when a device had too little (`pipelines.train`). Pure Python, no torch. What an allocator adds, and a
kernel's scratch, are left out: an estimate says what is large, not whether the last gigabyte will do.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from training.cost.formulas import Transformer

MASTER, MOMENTS = 4, 8
"""Bytes of a float32 weight, and of AdamW's two moments of it."""

DOUBLE, SINGLE = 16.0, 13.0
"""What a block's backward pass needs of each token beside its MLP's two parts, in numbers of the network's width, as
counted in plain torch: inputs, normed inputs, queries, keys and values before and after their norm, what attention and
projections gave."""
EXACT = 4.0
"""The same for what norms keep in float32, where the network computes in 2 bytes."""

Share = Literal["nothing", "moments", "gradients", "weights"]
"""What an engine cuts up among ranks, with all before it: ZeRO-1 moments and masters, ZeRO-2 gradients too, FSDP2 the
weights."""

SHARES: dict[str, Share] = {
    "single": "nothing",
    "ddp": "nothing",
    "colossal-1": "moments",
    "colossal-2": "gradients",
    "fsdp2": "weights",
}
"""By an engine's name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """What decides a step's memory. `trained`, `frozen`: weights, in numbers. `width_bytes`: of a number that the
    network computes with. `recomputed`: double and single blocks. `averages`: an EMA is kept. `context`: ranks that
    share a sample."""

    model: Transformer
    trained: int
    frozen: int
    width_bytes: int
    engine: str
    ranks: int
    averages: bool
    recomputed: tuple[int, int]
    offload: bool
    context: int


@dataclass(frozen=True, slots=True)
class Held:
    """Bytes. `state`: weights, masters, moments, gradients and averages; `activations`: what a backward pass needs."""

    state: float
    activations: float

    @property
    def total(self) -> float:
        return self.state + self.activations


def held(setting: Setting, batch: int, tokens: int) -> Held:
    """Of a micro-batch of `batch` samples with so many tokens each, of video and text."""
    return Held(_state(setting), _activations(setting, batch * tokens / setting.context))


def remedy(setting: Setting, found: Held, most: float, batch: int) -> str:
    """What to change, the cheapest first, where a device has `most` bytes and a micro-batch `batch` samples."""
    model, share = setting.model, SHARES[setting.engine]
    if found.state > found.activations or found.state > most:
        if share == "nothing":
            return "share weights and optimizer among ranks: more --workers, with --engine colossal-2 or fsdp2"
        if share != "weights" and setting.ranks > 1:
            return "--engine fsdp2, which shares the weights too, or more --workers"
        if not setting.frozen:
            return "more --workers, or train an adapter in the place of all weights: --preset lora"
    if setting.recomputed != (model.double, model.single):
        return "let all blocks be recomputed: leave network.recompute_double and network.recompute_single out"
    if not setting.offload:
        return "--set network.offload=true: inputs of blocks wait in the host's memory"
    if batch > 1:
        return f"freeze with a bucket table whose largest bucket has less than {batch} samples a batch"
    return f"let ranks share a sample: --set parallel.context={2 * setting.context}, or freeze with shorter buckets"


def _state(setting: Setting) -> float:
    trained, width, share = setting.trained, setting.width_bytes, SHARES[setting.engine]
    part = trained / setting.ranks
    cut = trained if share == "nothing" else part
    own = cut * (MASTER * (1 + setting.averages) + MOMENTS)
    frozen = setting.frozen * width
    if share == "weights":
        gathered = 2 * width * trained / setting.model.blocks  # one block computes, the next is on its way
        return own + part * MASTER + gathered + frozen
    exact = width == MASTER and share == "nothing"  # the masters are what the network computes with
    working = 0 if exact else trained * width
    gradients = part * MASTER if share == "gradients" else trained * (MASTER if share == "nothing" else width)
    return own + working + gradients + frozen


def _activations(setting: Setting, tokens: float) -> float:
    """The inputs of recomputed blocks, all that the others keep, and one block as it is computed again."""
    model, number = setting.model, tokens * setting.model.width * setting.width_bytes
    mlp = 2 * model.mlp_ratio + (EXACT if setting.width_bytes < MASTER else 0)
    double, single = setting.recomputed
    inputs = 0 if setting.offload else double + single
    kept = (model.double - double) * (DOUBLE + mlp) + (model.single - single) * (SINGLE + mlp)
    return number * (inputs + kept + DOUBLE + mlp)
