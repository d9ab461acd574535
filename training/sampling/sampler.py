"""Sampling: prompts and images become videos. The file to read first of `training`.

    prompts -> text states -+
    images  -> condition   -+-> walk from noise (`denoise`, guided by `guidance`) -> latent -> decode -> videos
    seeds   -> noise       -+        `search` tries candidates on the way

A seed gives one video, alone or in any batch: whatever is drawn for a sample depends on its seed alone (`seeds`). Alone
it is the same to the bit on one machine and number of threads; other batch sizes round differently.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import partial

import torch
from torch import Tensor
from torch.nn import functional as F

from curation.errors import UserError
from training.condition import (
    GIVEN,
    Kind,
    check_count,
    encode_references,
    held_frames,
    sampling_condition,
    with_references,
)
from training.models.base import Autoencoder, Denoiser, LatentSpec, TextEncoder
from training.prompt import DEFAULT_MOTION, chosen_motion, with_suffix
from training.sampling import seeds as randoms
from training.sampling.denoise import Settings, Told, Walk
from training.sampling.exact import exact
from training.sampling.search import Score, Search, Searching, SearchLog
from training.sampling.seeds import Purpose

SAME_ASPECT = 0.02
"""A reference whose aspect differs by less is resized; more would be seen."""


@dataclass(frozen=True, slots=True)
class Request:
    """Videos to make: one a prompt, all of one size. Sides in pixels; `motion` 1 to 15.

    `references`: what `kind` starts from or ends in, (3, T, H, W) in [-1, 1] each, the same for all prompts; an image
    has T = 1. `seeds`: one a prompt, 0 to 2^63 - 1; none counts from 0.
    """

    prompts: tuple[str, ...]
    frames: int
    height: int
    width: int
    fps: int = 24
    motion: int = DEFAULT_MOTION
    negative: str = ""
    kind: Kind = Kind.T2V
    references: tuple[Tensor, ...] = ()
    seeds: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Sampled:
    """Videos (B, T, H, W, 3) as bytes, and what they came from. `found`: what a search saw.

    T is the request's number of frames, less those that would only repeat a given image (`condition.held_frames`).
    """

    videos_BTHW3: Tensor
    latent_BCTHW: Tensor
    prompts: tuple[str, ...]
    seeds: tuple[int, ...]
    found: SearchLog | None = None


@dataclass(frozen=True, slots=True)
class Sampler:
    """The networks that a video comes from, on one device. `threads`: of a CPU (`exact`)."""

    denoiser: Denoiser
    autoencoder: Autoencoder
    text: TextEncoder
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    dtype: torch.dtype = torch.float32
    threads: int = 1

    def __call__(
        self,
        request: Request,
        settings: Settings | None = None,
        search: Search | None = None,
        score: Score | None = None,
    ) -> Sampled:
        """Make the videos. UserError: a size or number of frames off the grid, references that do not fit."""
        with torch.inference_mode(), exact(self.threads):
            return self._made(request, settings, search, score)

    def _made(self, request: Request, settings: Settings | None, search: Search | None, score: Score | None) -> Sampled:
        settings = _for_kind(settings or Settings(), request.kind)
        seeds = _seeds(request)
        check_references(request, self.autoencoder.spec)
        noise = self._noise(request, seeds)
        prompts = tuple(_worded(prompt, request) for prompt in request.prompts)
        condition = self._condition(request, noise, seeds)
        told = Told(self.text.encode(prompts), self.text.encode([request.negative]), condition)
        walk = Walk(self.denoiser, told, noise, self.autoencoder.spec.patch, settings, self.dtype)
        searching = None
        if search is not None:
            assert score is not None, "a search needs a score"
            own = [randoms.generator(seed, Purpose.SEARCH) for seed in seeds]
            searching = Searching(walk, search, partial(self._decoded, request), score, own)
        latent = walk.run(searching)
        if condition is not None:
            latent = with_references(latent, condition)
        videos = (self._decoded(request, latent) * 255).round().to(torch.uint8).permute(0, 1, 3, 4, 2)
        return Sampled(videos.cpu(), latent, prompts, seeds, searching.found if searching else None)

    def _noise(self, request: Request, seeds: Sequence[int]) -> Tensor:
        spec = self.autoencoder.spec
        shape = (spec.channels, *spec.size(request.frames, request.height, request.width))
        drawn = [torch.randn(shape, generator=randoms.generator(seed, Purpose.NOISE)) for seed in seeds]
        return torch.stack(drawn).to(self.device)

    def _condition(self, request: Request, noise: Tensor, seeds: Sequence[int]) -> Tensor | None:
        if request.kind is Kind.T2V:
            return None
        size = (request.height, request.width)
        videos = [fitted(reference, *size)[None].to(self.device, self.dtype) for reference in request.references]
        each = [
            encode_references(request.kind, videos, self.autoencoder, randoms.generator(seed, Purpose.REFERENCE))
            for seed in seeds  # encoded anew for each: an autoencoder may draw the latent
        ]
        latents = [torch.cat(of_one).float() for of_one in zip(*each, strict=True)]
        return sampling_condition(request.kind, latents, noise, self.autoencoder.spec)

    def _decoded(self, request: Request, latent_BCTHW: Tensor) -> Tensor:
        """Videos (B, T, 3, H, W) in 0 to 1, without frames that repeat a given image."""
        video = self.autoencoder.decode(latent_BCTHW.to(self.dtype), still=request.frames == 1).float()
        first, last = held_frames(request.kind, latent_BCTHW.shape[2], self.autoencoder.spec)
        video = video[:, :, first : video.shape[2] - last]
        return ((video + 1) / 2).clamp(0, 1).transpose(1, 2)


def check_references(request: Request, spec: LatentSpec) -> None:
    """UserError where a request's references would not be used: too many of them, or for a video too short for any."""
    check_count(request.kind, len(request.references))
    if request.references and spec.frames(request.frames) == 1:
        few = "a still image" if request.frames == 1 else f"a video of {request.frames} frames"
        raise UserError(f"{few} cannot start from what is given", f"ask for {spec.video_frames(2)} frames or more")


def fitted(reference_3THW: Tensor, height: int, width: int) -> Tensor:
    """A reference at the video's size. UserError where its aspect is another: what to cut is the user's choice."""
    h, w = reference_3THW.shape[-2:]
    if abs(w * height / (h * width) - 1) > SAME_ASPECT:
        raise UserError(
            f"the reference is {w}x{h}, the video {width}x{height}",
            "ask for a size of the reference's aspect, or let it be cropped (--fit crop)",
        )
    if (h, w) == (height, width):
        return reference_3THW.float()
    frames = reference_3THW.transpose(0, 1).float()
    resized = F.interpolate(frames, (height, width), mode="bicubic", antialias=True, align_corners=False)
    return resized.clamp(-1, 1).transpose(0, 1)


def cropped(reference_3THW: Tensor, height: int, width: int) -> Tensor:
    """The largest middle part of a reference with the aspect height:width."""
    h, w = reference_3THW.shape[-2:]
    new_h, new_w = kept(h, w, height, width)
    top, left = (h - new_h) // 2, (w - new_w) // 2
    return reference_3THW[..., top : top + new_h, left : left + new_w]


def kept(h: int, w: int, height: int, width: int) -> tuple[int, int]:
    """(h, w) of the largest part of an h x w picture with the aspect height:width."""
    if w * height > h * width:
        return h, max(1, round(h * width / height))
    return max(1, round(w * height / width)), w


def _for_kind(settings: Settings, kind: Kind) -> Settings:
    """The image scale is dynamic for images alone (spec section 5)."""
    if not settings.guidance.dynamic_image or (kind is not Kind.T2V and not GIVEN[kind].video):
        return settings
    return replace(settings, guidance=replace(settings.guidance, dynamic_image=False))


def _worded(prompt: str, request: Request) -> str:
    """A prompt as the network was taught it; a still image has neither rate nor motion."""
    if request.frames == 1:
        return with_suffix(prompt, None, None)
    return with_suffix(prompt, request.fps, chosen_motion(request.motion))


def _seeds(request: Request) -> tuple[int, ...]:
    if not request.prompts:
        raise UserError("no prompt", "say what the video shows")
    seeds = request.seeds or tuple(range(len(request.prompts)))
    if len(seeds) != len(request.prompts):
        raise UserError(f"{len(seeds)} seeds for {len(request.prompts)} prompts", "give one seed a prompt, or none")
    return randoms.checked(seeds)
