"""A network, an autoencoder and a text encoder that are one formula each, in the shape of `training.models.base`.

The golden files of sampling and training were made with the first two (golden README, "Training and sampling files").
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import torch
from torch import Tensor

from training.models.base import LatentSpec, TextStates
from training.tokens import Grid


class ToyDenoiser:
    """(0.4 - 0.2 t) x + 0.5 sin(2 x + mean(y)) + 0.3 mean(txt) + 0.2 mean over channels(cond) cos(x)."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(
        self, x_BLC: Tensor, t_B: Tensor, text: TextStates, grid: Grid, cond_BLK: Tensor | None = None
    ) -> Tensor:
        assert x_BLC.shape[1] == grid.tokens
        self.calls += 1
        pooled = text.pooled_BP.mean(-1)[:, None, None]
        tokens = text.tokens_BMD.mean((-2, -1))[:, None, None]
        v = (0.4 - 0.2 * t_B[:, None, None]) * x_BLC + 0.5 * torch.sin(2 * x_BLC + pooled) + 0.3 * tokens
        return v if cond_BLK is None else v + 0.2 * cond_BLK.mean(-1, keepdim=True) * torch.cos(x_BLC)


class ToyAutoencoder:
    """Means over squares of pixels, then over time, then a matrix of channels; `decode` spreads it out again.

    `calls` holds the shape of every video that was encoded. `drawn`: how far a latent is from its mean, in normal
    numbers of the caller's generator, as a posterior's draw is.
    """

    def __init__(self, matrix_C3: Tensor, causal: bool, patch: int = 1, space: int = 2, drawn: float = 0.0) -> None:
        self.matrix_C3 = matrix_C3
        self.drawn = drawn
        self.spec = LatentSpec(channels=len(matrix_C3), time=4, space=space, causal=causal, patch=patch)
        self.calls: list[tuple[int, ...]] = []

    def encode(self, video_B3THW: Tensor, generator: torch.Generator | None = None) -> Tensor:
        self.calls.append(tuple(video_B3THW.shape))
        side = self.spec.space
        small = torch.nn.functional.avg_pool3d(video_B3THW, (1, side, side))
        if self.spec.causal:
            small = torch.cat([small[:, :, :1], _means_of_4(small[:, :, 1:])], 2)
        elif small.shape[2] > 1:
            small = _means_of_4(small)
        latent = torch.einsum("cr,brthw->bcthw", self.matrix_C3, small)
        return latent + self.drawn * torch.randn(latent.shape, generator=generator) if self.drawn else latent

    def decode(self, latent_BCTHW: Tensor, still: bool = True) -> Tensor:
        pixels = torch.einsum("rc,bcthw->brthw", torch.linalg.pinv(self.matrix_C3), latent_BCTHW)
        frames = pixels.repeat_interleave(self.spec.time, 2)[:, :, -self.spec.video_frames(pixels.shape[2]) :]
        return frames.repeat_interleave(self.spec.space, 3).repeat_interleave(self.spec.space, 4)


class ToyTextEncoder:
    """States drawn from a seed that is the prompt's: equal prompts, equal states. M = 5, D = 8, P = 6."""

    def encode(self, prompts: Sequence[str]) -> TextStates:
        drawn = [torch.randn(46, generator=_seeded(prompt)) for prompt in prompts]
        both = torch.stack(drawn)
        return TextStates(both[:, :40].reshape(-1, 5, 8), both[:, 40:])


def _means_of_4(x_BCTHW: Tensor) -> Tensor:
    return x_BCTHW.unflatten(2, (-1, 4)).mean(3) if x_BCTHW.shape[2] else x_BCTHW


def _seeded(prompt: str) -> torch.Generator:
    return torch.Generator().manual_seed(int.from_bytes(hashlib.sha256(prompt.encode()).digest()[:4], "big"))
