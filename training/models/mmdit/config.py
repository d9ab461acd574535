"""The sizes of an MMDiT, and the presets that the report trains (spec section 3).

Field names are the public ones. The two published weight layouts differ in two flags alone and give equal outputs:
Flux's (`fused_qkv`, `interleaved_rope`) and Open-Sora v2's (neither); `training.models.convert` turns one into another.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from curation.errors import UserError
from training.models.base import LatentSpec


@dataclass(frozen=True, slots=True)
class MMDiTConfig:
    """Everything that decides the parameters' names and shapes. The defaults are Open-Sora v2's 11B model.

    `in_channels`: channels of a token, latent channels times `patch_size` squared. `cond_embed`: an input for the
    condition, one mask channel and the masked latent. `axes_dim`: channels of a head turned by time, row and column.
    `qkv_bias`: whether double blocks' query, key and value projections have biases; single blocks' always have.
    """

    in_channels: int = 64
    patch_size: int = 2
    cond_embed: bool = True
    context_in_dim: int = 4096
    vec_in_dim: int = 768
    hidden_size: int = 3072
    num_heads: int = 24
    axes_dim: tuple[int, int, int] = (16, 56, 56)
    theta: float = 10_000.0
    depth: int = 19
    depth_single_blocks: int = 38
    mlp_ratio: float = 4.0
    qkv_bias: bool = True
    fused_qkv: bool = False
    interleaved_rope: bool = False

    def __post_init__(self) -> None:
        if self.hidden_size % self.num_heads:
            raise UserError(
                f"a width of {self.hidden_size} does not divide among {self.num_heads} heads",
                "make hidden_size a multiple of num_heads",
            )
        if sum(self.axes_dim) != self.head_dim or any(axis % 2 for axis in self.axes_dim):
            raise UserError(
                f"axes_dim {list(self.axes_dim)} does not split a head of {self.head_dim} channels",
                "give three even numbers that add up to hidden_size / num_heads",
            )
        if self.in_channels % self.patch_size**2:
            raise UserError(
                f"tokens of {self.in_channels} channels do not unpack to patches of {self.patch_size}",
                "make in_channels the latent channels times patch_size squared",
            )

    @property
    def head_dim(self) -> int:
        return self.hidden_size // self.num_heads

    @property
    def mlp_size(self) -> int:
        return int(self.hidden_size * self.mlp_ratio)

    @property
    def cond_channels(self) -> int:
        """Channels of a packed condition token: the mask's and the latent's."""
        return self.patch_size**2 + self.in_channels

    def for_latent(self, spec: LatentSpec) -> MMDiTConfig:
        """This network with the in- and output of another autoencoder."""
        return replace(self, in_channels=spec.token_channels, patch_size=spec.patch)


def opensora_v2() -> MMDiTConfig:
    """11,891,390,528 parameters on HunyuanVideo latents, in the layout of the released weights."""
    return MMDiTConfig()


def opensora_v2_fused() -> MMDiTConfig:
    """The same network in Flux's layout, fused projections and interleaved rotation."""
    return MMDiTConfig(fused_qkv=True, interleaved_rope=True)


def opensora_v2_dcae(latent_channels: int = 128) -> MMDiTConfig:
    """The same network on Video DC-AE latents (128 or 256 channels), a token a latent position (report, 4.3.3)."""
    return MMDiTConfig(in_channels=latent_channels, patch_size=1)


def flux_dev() -> MMDiTConfig:
    """Flux-dev's transformer without its guidance input: the text-to-image start of the report's training."""
    return MMDiTConfig(cond_embed=False, fused_qkv=True, interleaved_rope=True)


def tiny() -> MMDiTConfig:
    """Under a million parameters on HunyuanVideo-shaped latents: for demonstrations and tests on a CPU."""
    return MMDiTConfig(
        context_in_dim=32,
        vec_in_dim=16,
        hidden_size=64,
        num_heads=4,
        axes_dim=(4, 6, 6),
        depth=2,
        depth_single_blocks=2,
    )


def tiny_flux() -> MMDiTConfig:
    """`tiny` as `flux_dev` is: stacked, and without an input for a condition, so that diffusers has a place for all."""
    return replace(tiny(), cond_embed=False, fused_qkv=True, interleaved_rope=True)


def tiny_dcae(latent_channels: int = 8) -> MMDiTConfig:
    """`tiny` with a token a latent position."""
    return replace(tiny(), in_channels=latent_channels, patch_size=1)


def tiny_embedded() -> MMDiTConfig:
    """`tiny_dcae` on the states of the text encoder that ships in a package, 384 wide."""
    return replace(tiny_dcae(), context_in_dim=384, vec_in_dim=384)


PRESETS: dict[str, Callable[[], MMDiTConfig]] = {
    "opensora_v2": opensora_v2,
    "opensora_v2_fused": opensora_v2_fused,
    "opensora_v2_dcae128": opensora_v2_dcae,
    "opensora_v2_dcae256": lambda: opensora_v2_dcae(256),
    "flux_dev": flux_dev,
    "tiny": tiny,
    "tiny_flux": tiny_flux,
    "tiny_dcae": tiny_dcae,
    "tiny_embedded": tiny_embedded,
}


def preset(name: str) -> MMDiTConfig:
    """The configuration of that name; UserError names those there are."""
    if name not in PRESETS:
        raise UserError(f"there is no model preset {name!r}", f"choose one of {', '.join(PRESETS)}")
    return PRESETS[name]()
