"""Sizes of the Video DC-AE, and how it cuts a clip into tiles. `PRESETS` names the published ones."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from curation.errors import UserError
from training.models.base import LatentSpec
from training.models.tiling import Cut

BlockKind = Literal["res", "vit"]
Direction = Literal["encode", "decode"]


@dataclass(frozen=True, slots=True)
class Tiling:
    """Tiles of `pixels` x `pixels` x `frames` for what is larger than one; neighbours share `overlap` of a tile.

    `axes` says what is cut: "both", "space", "time", or "none" for whole clips. With `keep_every_frame` a decoded clip
    is `time` times as long as its latent; without it, it has the length that the public code gives. That code decodes
    a last time tile of one latent frame as a still image, and so loses three frames of clips of 52, 76, 100 and 124
    (golden README, oddity 5).
    """

    axes: Literal["both", "space", "time", "none"] = "both"
    pixels: int = 256
    frames: int = 32
    overlap: float = 0.25
    keep_every_frame: bool = True

    def time(self, factor: int, direction: Direction) -> Cut | None:
        """The cut along time, `factor` frames a latent frame; None where time is not cut."""
        least = 2 if self.keep_every_frame else 1
        return self._cut(self.frames, factor, direction, least) if self.axes in ("both", "time") else None

    def space(self, factor: int, direction: Direction) -> Cut | None:
        """The cut along height and width; None where they are not cut."""
        return self._cut(self.pixels, factor, direction, 1) if self.axes in ("both", "space") else None

    def _cut(self, tile: int, factor: int, direction: Direction, least: int) -> Cut:
        """`least`: latent positions that a last tile must have."""
        small = tile // factor
        if direction == "encode":
            return Cut.of(tile, small, self.overlap, least * factor)
        return Cut.of(small, tile, self.overlap, least)

    def check(self, time: int, space: int) -> None:
        """UserError where tiles of an autoencoder that divides by `time` and `space` would not fit together."""
        for name, tile, factor in (("frames", self.frames, time), ("pixels", self.pixels, space)):
            small = tile // factor
            overlapping = int(small * self.overlap)
            fits = tile % factor == 0 and 1 <= overlapping < small and self.overlap < 1
            for size in (tile, small):
                fits = fits and int(size * (1 - self.overlap)) * small == (small - overlapping) * size
                fits = fits and int(size * self.overlap) * small == overlapping * size
            if name == "frames" and self.keep_every_frame:  # a last tile of one latent frame lies in the one before
                fits = fits and 2 * factor - 1 <= int(tile * self.overlap)
            if not fits:
                raise UserError(
                    f"tiles of {tile} {name} with an overlap of {self.overlap} do not fit together",
                    f"take a multiple of {factor} {name} whose overlap is one too, such as {8 * factor} and 0.25",
                )


@dataclass(frozen=True, slots=True)
class DcAeConfig:
    """A network of len(widths) stages; between two of them height and width halve, and time where `halve_time` says so.

    `latent_std`: latents are divided by it on encode and multiplied on decode. 0.493 is the value that the released
    model was trained on; the public inference configuration leaves it out (conflict, spec section 1.4).
    `one_by_one`: the samples of a batch go through the network one after another, in the memory of one.
    """

    latent_channels: int
    widths: tuple[int, ...] = (128, 256, 512, 512, 1024, 1024)
    blocks: tuple[BlockKind, ...] = ("res", "res", "res", "vit", "vit", "vit")
    encoder_depths: tuple[int, ...] = (2, 2, 2, 3, 3, 3)
    decoder_depths: tuple[int, ...] = (3, 3, 3, 3, 3, 3)
    halve_time: tuple[bool, ...] = (False, False, False, True, True)
    latent_std: float = 0.493
    tiling: Tiling = field(default_factory=Tiling)
    one_by_one: bool = True

    def __post_init__(self) -> None:
        stages = len(self.widths)
        assert len(self.blocks) == len(self.encoder_depths) == len(self.decoder_depths) == stages
        assert len(self.halve_time) == stages - 1
        self.tiling.check(self.spec.time, self.spec.space)

    @property
    def spec(self) -> LatentSpec:
        """What the latent stands for; the transformer takes it without patches."""
        return LatentSpec(
            self.latent_channels, 2 ** sum(self.halve_time), 2 ** len(self.halve_time), causal=False, patch=1
        )

    def cuts(self, direction: Direction) -> tuple[Cut | None, Cut | None]:
        """How a clip is cut along time, and along height and width."""
        spec = self.spec
        return self.tiling.time(spec.time, direction), self.tiling.space(spec.space, direction)


PRESETS = {
    "f32t4c128": DcAeConfig(latent_channels=128),
    "f32t4c256": DcAeConfig(latent_channels=256),
    "tiny": DcAeConfig(
        latent_channels=8,
        widths=(8, 16, 32, 32, 64, 64),
        encoder_depths=(1,) * 6,
        decoder_depths=(1,) * 6,
    ),
}
"""The published ones, and one for demonstrations and tests on a CPU."""


def preset(name: str) -> DcAeConfig:
    """The configuration of that name; UserError where there is none."""
    if name not in PRESETS:
        raise UserError(f"there is no Video DC-AE '{name}'", f"take one of {', '.join(PRESETS)}")
    return PRESETS[name]
