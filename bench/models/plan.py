"""What `bench.models` measures: sizes by device, as plain data that needs no torch.

On a CPU everything is small enough for two cores and three minutes. On a GPU widths and lengths are the real ones
(`opensora_v2`, Tables 4 and 5 of the report) and only the number of blocks is not.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from training.cost.formulas import BACKWARD, Transformer
from training.tokens import Grid

BLOCKS, AUTOENCODERS, LARGE_AUTOENCODERS, SAMPLING = "blocks", "autoencoders", "large autoencoders", "sampling"

OURS, OURS_COMPILED = "ours, eager", "ours, compiled"
PLAIN, PLAIN_COMPILED = "plain torch, eager", "plain torch, compiled"
COMPILED = (OURS_COMPILED, PLAIN_COMPILED)
DCAE, HUNYUAN, DIFFUSERS = "Video DC-AE", "HunyuanVae", "diffusers' HunyuanVideo"

VARIANTS: Mapping[str, tuple[str, ...]] = {
    SAMPLING: (OURS,),
    AUTOENCODERS: (DCAE, HUNYUAN, DIFFUSERS),
    BLOCKS: (PLAIN, OURS, OURS_COMPILED, PLAIN_COMPILED),
    LARGE_AUTOENCODERS: (DCAE, HUNYUAN, DIFFUSERS),
}
"""The networks of each comparison. In this order, so that what may run out of time comes last."""

OUT_OF_MEMORY, OUT_OF_TIME = "out of memory", "no time was left"

LIMIT_S: Mapping[str, Mapping[str, float]] = {
    "cpu": {SAMPLING: 20, AUTOENCODERS: 45, BLOCKS: 85},
    "cuda": {SAMPLING: 30, AUTOENCODERS: 60, BLOCKS: 180, LARGE_AUTOENCODERS: 70},
}
"""Wall-clock seconds of a comparison; what one leaves, the next ones have. After them nothing new is begun."""

NETWORK: Mapping[str, Mapping[str, Any]] = {
    "cpu": {"hidden_size": 256, "num_heads": 2, "depth": 2, "depth_single_blocks": 4, "context_in_dim": 64},
    "cuda": {"hidden_size": 3072, "num_heads": 24, "depth": 2, "depth_single_blocks": 4},
}
"""What differs from `opensora_v2`. A head has 128 channels in both."""


@dataclass(frozen=True, slots=True)
class Length:
    """Tokens of a sample and samples of a step."""

    grid: Grid
    text: int
    batch: int

    @property
    def name(self) -> str:
        return f"{self.batch} x ({self.grid.tokens:,} + {self.text})"


LENGTHS: Mapping[str, tuple[Length, ...]] = {
    "cpu": (Length(Grid(4, 16, 16), 64, 1),),
    "cuda": (
        Length(Grid(9, 16, 16), 512, 12),
        Length(Grid(33, 16, 16), 512, 3),
        Length(Grid(9, 48, 48), 512, 1),
        Length(Grid(33, 48, 48), 512, 1),
    ),
}
"""On a GPU: 33 and 129 frames at 256 pixels with the batches of Table 4; the same at 768 pixels, where Table 5 spreads
a sample over four GPUs, in a batch of one."""

SAMPLED = {"cpu": Length(Grid(4, 8, 8), 64, 1), "cuda": Length(Grid(9, 48, 48), 512, 1)}


@dataclass(frozen=True, slots=True)
class Clip:
    """A clip of `frames`, to which a causal autoencoder takes one more. `tile`: pixels along a side of a tile."""

    frames: int
    height: int
    width: int
    tile: int
    tiled: tuple[bool, ...]

    def name(self, tiled: bool) -> str:
        return f"{self.frames} x {self.height} x {self.width}, {'tiled' if tiled else 'not tiled'}"

    def frames_for(self, variant: str) -> int:
        return self.frames + (variant != DCAE)


CLIPS: Mapping[tuple[str, str], Clip] = {
    ("cpu", AUTOENCODERS): Clip(16, 64, 160, 128, (False, True)),
    ("cuda", AUTOENCODERS): Clip(128, 256, 256, 256, (False, True)),
    ("cuda", LARGE_AUTOENCODERS): Clip(128, 768, 768, 256, (True,)),
}
"""Tiles are the published ones on a GPU. On a CPU no clip is long enough for the Video DC-AE's tiles of 32 frames."""

WAYS = ("encode", "decode")
KINDS = ("t2v", "i2v")
STEPS = 5
WHOLE_STEPS = 1
"""Of 5 steps 3 are whole, as 30 are of the published 50 with 10."""


def pass_name(kind: str, skipping: bool) -> str:
    return f"{kind}, {'what cancels skipped' if skipping else 'three passes always'}"


def works(device: str, what: str) -> tuple[str, ...]:
    """The names of what each network of a comparison is timed on."""
    if what == BLOCKS:
        return tuple(length.name for length in LENGTHS[device])
    if what == SAMPLING:
        return tuple(pass_name(kind, skipping) for kind in KINDS for skipping in (False, True))
    clip = CLIPS.get((device, what))
    return tuple(codec_name(way, clip, tiled) for tiled in clip.tiled for way in WAYS) if clip else ()


def codec_name(way: str, clip: Clip, tiled: bool) -> str:
    return f"{way} {clip.name(tiled)}"


def train_flops(device: str, length: Length) -> float:
    """FLOPs of a step over the blocks by `training.cost.formulas`: forward and backward of the whole batch."""
    config = NETWORK[device]
    model = Transformer(config["hidden_size"], config["depth"], config["depth_single_blocks"])
    tokens = length.grid.tokens + length.text
    return (1 + BACKWARD) * length.batch * tokens * model.forward_per_token(tokens)


def passes_left(kind: str) -> float:
    """The share of three passes a step that is left where what cancels is skipped."""
    whole = [step for step in range(STEPS) if step < WHOLE_STEPS or step % 2 == 0]
    return (len(whole) * (2 if kind == "t2v" else 3) + STEPS - len(whole)) / (3 * STEPS)
