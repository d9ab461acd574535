"""What sampling and training know of a network: three protocols, and the shape of a latent.

    Autoencoder   video  <-> latent       `hunyuan.HunyuanVae`, `dcae.VideoDcAe`
    TextEncoder   prompt  -> TextStates   `text`
    Denoiser      tokens  -> velocity     `mmdit.MMDiT`

Letters in tensor names: B batch, C channels, T frames, H height, W width, L video tokens, M text tokens, D width.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from curation.errors import UserError
from training.tokens import Grid

if TYPE_CHECKING:  # `cost` counts tokens where torch is not installed
    import torch
    from torch import Tensor

    from training.ops import Attention


@dataclass(frozen=True, slots=True)
class LatentSpec:
    """The shape of an autoencoder's latent. `time`, `space`: video frames and pixels of a latent position.

    `causal`: the first frame stands alone, so T frames give (T - 1) / time + 1; else T / time, and a still image gives
    one. `patch`: latent positions along each side of a transformer's token.
    """

    channels: int
    time: int
    space: int
    causal: bool
    patch: int

    def size(self, frames: int, height: int, width: int) -> tuple[int, int, int]:
        """(T, H, W) of the latent of a video; UserError, naming what fits, where it would not be whole."""
        side = self.space * self.patch
        if height < 1 or width < 1:
            raise UserError(f"a picture of {height}x{width}", "both sides must be positive")
        if height % side or width % side:
            near = f"{max(1, round(height / side)) * side}x{max(1, round(width / side)) * side}"
            raise UserError(f"a picture of {height}x{width} does not fit", f"sides are multiples of {side}: {near}")
        return self.frames(frames), height // self.space, width // self.space

    def frames(self, frames: int) -> int:
        """Latent frames of a video of `frames`; UserError where the number is off the grid."""
        extra = 1 if self.causal else 0
        if frames == 1:
            return 1
        if frames < 1 or (frames - extra) % self.time:
            lower = max(1, (frames - extra) // self.time * self.time + extra)
            raise UserError(
                f"{frames} frames do not fit this autoencoder",
                f"give {'a multiple of ' + str(self.time) if not extra else f'{self.time}k + 1'}: "
                f"{lower} or {lower // self.time * self.time + self.time + extra}",
            )
        return (frames - extra) // self.time + extra

    def video_frames(self, latent_frames: int) -> int:
        """Frames that a latent of `latent_frames` stands for: the inverse of `frames`."""
        return (latent_frames - 1) * self.time + 1 if self.causal else latent_frames * self.time

    def grid(self, frames: int, height: int, width: int) -> Grid:
        """The tokens of a video."""
        t, h, w = self.size(frames, height, width)
        return Grid(t, h // self.patch, w // self.patch)

    @property
    def token_channels(self) -> int:
        return self.channels * self.patch**2


@dataclass(frozen=True, slots=True)
class TextStates:
    """What the transformer reads of prompts: a state a text token (B, M, D), and one pooled vector a prompt (B, P)."""

    tokens_BMD: Tensor
    pooled_BP: Tensor


@dataclass(frozen=True, slots=True)
class Share:
    """The tokens that a process computes where several share a sample: which of its text's and which of its video's,
    either of which may be none. `attend`: attention of these, text first, to the tokens of all."""

    text: slice
    video: slice
    attend: Attention


class Autoencoder(Protocol):
    """Video in [-1, 1], shape (B, 3, T, H, W), to a scaled latent (B, C, T', H', W') and back."""

    @property
    def spec(self) -> LatentSpec: ...

    def encode(self, video_B3THW: Tensor, generator: torch.Generator | None = None) -> Tensor: ...

    def decode(self, latent_BCTHW: Tensor, still: bool = True) -> Tensor:
        """`still`: take a latent of one frame for an image, where it could be a short clip too."""
        ...


class TextEncoder(Protocol):
    """Prompts to states."""

    def encode(self, prompts: Sequence[str]) -> TextStates: ...


class Denoiser(Protocol):
    """The velocity (noise minus data) at time `t_B` (1 is noise) of tokens (B, L, token channels).

    `cond_BLK`: packed mask channel and masked condition latent, None for none.
    """

    def __call__(
        self, x_BLC: Tensor, t_B: Tensor, text: TextStates, grid: Grid, cond_BLK: Tensor | None = None
    ) -> Tensor: ...
