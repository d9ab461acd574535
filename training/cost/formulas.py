"""What training costs, by formula: tokens, FLOPs, MFU, GPU-days, money. `tables` lays the report's tables out.

It stands beside the flow: the trainer asks it for MFU, `ziggurat cost` prints it. Pure Python, no torch: the shape of
a latent comes in as `models.base.LatentSpec`. What only a network itself tells, `cost_ae` counts.

FLOPs count a multiplication and an addition as two. The transformer's are its blocks' weights and its attention; the
embeddings, modulation and norms, below 1 %, are left out (spec section 6).
"""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from curation.errors import UserError

if TYPE_CHECKING:
    from training.models.base import LatentSpec

SECONDS_PER_DAY = 86_400
BACKWARD = 2
"""A backward pass costs two forwards: the gradients of the inputs and those of the weights."""


@dataclass(frozen=True, slots=True)
class Gpu:
    """`bf16`: dense bf16 FLOP/s, as `source` gives it."""

    name: str
    bf16: float
    source: str


GPUS = {
    gpu.name: gpu
    for gpu in (
        Gpu("A100", 312e12, "NVIDIA A100 data sheet"),
        Gpu("H100", 989e12, "NVIDIA H100 SXM data sheet, 1,979 with sparsity"),
        Gpu("H200", 989e12, "NVIDIA H200 SXM data sheet, 1,979 with sparsity"),
        Gpu("B200", 2250e12, "NVIDIA HGX B200 data sheet, 36,000 with sparsity for eight"),
    )
}


def gpu_named(name: str) -> Gpu:
    """The GPU of that name in any case; UserError that lists the known ones."""
    try:
        return GPUS[name.upper()]
    except KeyError:
        raise UserError(f"no peak speed is known for the GPU {name!r}", f"choose one of {', '.join(GPUS)}") from None


class Sizes(Protocol):
    """What `Transformer.of` reads of `models.mmdit.MMDiTConfig`."""

    @property
    def hidden_size(self) -> int: ...
    @property
    def depth(self) -> int: ...
    @property
    def depth_single_blocks(self) -> int: ...
    @property
    def mlp_ratio(self) -> float: ...


@dataclass(frozen=True, slots=True)
class Transformer:
    """The sizes of an MMDiT that its cost depends on; the defaults are the report's 11B model (Table 2)."""

    width: int = 3072
    double: int = 19
    single: int = 38
    mlp_ratio: float = 4.0

    @classmethod
    def of(cls, config: Sizes) -> Transformer:
        return cls(config.hidden_size, config.depth, config.depth_single_blocks, config.mlp_ratio)

    @property
    def blocks(self) -> int:
        return self.double + self.single

    @property
    def weights_per_token(self) -> float:
        """Weights that one token passes: in both kinds of block 4 width^2 of attention and 2 ratio width^2 of MLP."""
        return self.blocks * (4 + 2 * self.mlp_ratio) * self.width**2

    def attention_per_token(self, length: int) -> float:
        """Forward FLOPs of q k^T and of its product with v, for one of `length` tokens."""
        return self.blocks * 4.0 * length * self.width

    def forward_per_token(self, length: int) -> float:
        """Forward FLOPs of one token in a sequence of `length` tokens, video and text."""
        return 2 * self.weights_per_token + self.attention_per_token(length)

    def train_per_token(self, length: int, frozen: bool = False) -> float:
        """Forward and backward. `frozen`: only an adapter is trained, so that linear layers need no gradients of their
        weights; the adapter's own, a hundredth of a layer, are not counted."""
        linear = 2 * self.weights_per_token
        return (1 + BACKWARD) * self.forward_per_token(length) - (linear if frozen else 0)

    def recompute(self, double: int, single: int) -> float:
        """The part of a forward pass that runs again when so many blocks are checkpointed, 0 to 1."""
        if not (0 <= double <= self.double and 0 <= single <= self.single):
            raise UserError(
                f"{double} double and {single} single blocks cannot be checkpointed",
                f"the model has {self.double} and {self.single}",
            )
        return (double + single) / self.blocks


TEXT_TOKENS = 512
"""T5's padded length, which every sample carries (spec section 3)."""


@dataclass(frozen=True, slots=True)
class SampleCost:
    """One training sample. `length`: video and text tokens. FLOPs: `forward_per_token`, `forward` and `train`."""

    video_tokens: int
    length: int
    forward_per_token: float
    attention_share: float

    @property
    def forward(self) -> float:
        return self.length * self.forward_per_token

    @property
    def train(self) -> float:
        """Forward and backward, without recomputation."""
        return (1 + BACKWARD) * self.forward


def sample_cost(
    spec: LatentSpec, frames: int, height: int, width: int, model: Transformer | None = None, text: int = TEXT_TOKENS
) -> SampleCost:
    """The cost of a video of frames x height x width; UserError where it does not fit the grid of `spec`."""
    if text < 0:
        raise UserError(f"{text} text tokens", "give 0 or more")
    if height < 1 or width < 1:
        raise UserError(f"a picture of {height}x{width}", "both sides must be positive")
    model = model or Transformer()
    tokens = spec.grid(frames, height, width).tokens
    length = tokens + text
    per_token = model.forward_per_token(length)
    return SampleCost(tokens, length, per_token, model.attention_per_token(length) / per_token)


@dataclass(frozen=True, slots=True)
class Utilisation:
    """Parts of the peak. The work is the transformer's forward and backward in all three.

    `mfu_dit`: over the time of its forward and backward alone, None where that was not measured. `mfu_step`: over the
    whole step, with encoding, optimiser and waiting. `hfu_step`: as `mfu_step`, recomputation counted as work.
    """

    mfu_dit: float | None
    mfu_step: float
    hfu_step: float


def mfu(flops: float, seconds: float, gpus: int, gpu: Gpu) -> float:
    """The part of the peak of `gpus` GPUs that `flops` in `seconds` are."""
    if not (seconds > 0 and math.isfinite(seconds)):
        raise UserError(f"{seconds} seconds are no measured time", "give a positive number of seconds")
    if gpus < 1:
        raise UserError(f"{gpus} GPUs", "give at least one")
    return flops / (seconds * gpus * gpu.bf16)


def utilisation(
    sample: SampleCost,
    samples: int,
    gpus: int,
    gpu: Gpu,
    step_seconds: float,
    dit_seconds: float | None = None,
    recompute: float = 0.0,
) -> Utilisation:
    """MFU of a step that trains on `samples` samples over all GPUs. `recompute`: see `Transformer.recompute`.

    A step over different shapes: the sum of its samples' FLOPs and `mfu`.
    """
    if dit_seconds is not None and dit_seconds > step_seconds:
        raise UserError(f"the transformer took {dit_seconds} s of a step of {step_seconds} s", "exchange the two times")
    work = samples * sample.train
    again = samples * recompute * sample.forward
    return Utilisation(
        mfu_dit=None if dit_seconds is None else mfu(work, dit_seconds, gpus, gpu),
        mfu_step=mfu(work, step_seconds, gpus, gpu),
        hfu_step=mfu(work + again, step_seconds, gpus, gpu),
    )


def seconds_at(flops: float, utilisation: float, gpus: int, gpu: Gpu) -> float:
    """The time that `flops` take at a utilisation (0, 1]: the inverse of `mfu`."""
    if not 0 < utilisation <= 1:
        raise UserError(f"a utilisation of {utilisation}", "give a part of the peak, above 0 and at most 1")
    return mfu(flops, 1.0, gpus, gpu) / utilisation


def dollars(gpu_days: float, per_hour: float = 2.0) -> float:
    """US dollars; $2 a GPU-hour is the report's price for an H200 (Table 3)."""
    if per_hour < 0:
        raise UserError(f"a price of ${per_hour} an hour", "give 0 or more")
    return gpu_days * 24 * per_hour


@dataclass(frozen=True, slots=True)
class Budget:
    """What training on a number of samples takes."""

    flops: float
    days: float
    gpu_days: float
    usd: float


def budget(sample: SampleCost, samples: float, gpus: int, gpu: Gpu, mfu_step: float, per_hour: float = 2.0) -> Budget:
    """Time and money for `samples` samples of one shape at a whole-step MFU."""
    if samples <= 0:
        raise UserError(f"{samples} samples", "give a positive number")
    flops = samples * sample.train
    days = seconds_at(flops, mfu_step, gpus, gpu) / SECONDS_PER_DAY
    return Budget(flops, days, days * gpus, dollars(days * gpus, per_hour))


def information_ratio(spec: LatentSpec) -> float:
    """D_info = D_T D_H D_W C_in / C_out: numbers of the video per number of the latent (report 4.3)."""
    return spec.time * spec.space**2 * 3 / spec.channels


def token_ratio(spec: LatentSpec) -> int:
    """D_token = D_T D_H D_W P_T P_H P_W: pixels of the video per token; no patch spans time (report 4.3)."""
    return spec.time * (spec.space * spec.patch) ** 2


def tiles_along(size: int, tile: int, overlap: float) -> Counter[int]:
    """How many tiles of each length cut an axis: they start every int(tile (1 - overlap)), the last are shorter."""
    stride = int(tile * (1 - overlap))
    if size < 1 or stride < 1:
        raise UserError(f"tiles of {tile} with overlap {overlap} cannot cover {size}", "give an overlap below 1")
    return Counter(min(tile, size - start) for start in range(0, size, stride))


def tiles_of(
    frames: int, height: int, width: int, side: int = 256, tile_frames: int | None = 32, overlap: float = 0.25
) -> Mapping[tuple[int, int, int], int]:
    """How many tiles of each (frames, height, width) an autoencoder sees of a video (spec section 1.4).

    What fits one tile is not cut, and height and width are cut together. The defaults are the Video DC-AE's;
    `tile_frames` None, for whole clips, is how the HunyuanVideo one is used.
    """
    times = tiles_along(frames, tile_frames, overlap) if tile_frames and frames > tile_frames else Counter({frames: 1})
    cut_plane = max(height, width) > side
    sides = [tiles_along(size, side, overlap) if cut_plane else Counter({size: 1}) for size in (height, width)]
    shapes = itertools.product(times.items(), *(axis.items() for axis in sides))
    return {(t, h, w): nt * nh * nw for (t, nt), (h, nh), (w, nw) in shapes}


def tiled_voxels(tiles: Mapping[tuple[int, int, int], int]) -> int:
    """Voxels of all tiles together."""
    return sum(count * t * h * w for (t, h, w), count in tiles.items())
