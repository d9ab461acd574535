"""Conditions: which frames of a clip the network is given, and which prompts it is not given.

A condition is a mask channel, 1 at given latent frames, over the latent of what is given there, zero elsewhere:
shape (B, 1 + C, T, H, W). Packed into tokens it goes to the network beside the noisy latent: 2C + 1 channels in all
(spec section 3, "Conditioning" and "Task encoding"). Training draws a kind for each sample, sampling is told one.

What is given is encoded on its own, so that nothing of the other frames leaks into it. The one exception is v2v with an
autoencoder that is not causal, which copies the clip's latent as the public code does.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from math import isfinite, sqrt

import torch
from torch import Tensor

from curation.errors import UserError
from training.models.base import Autoencoder, LatentSpec, TextStates


class Kind(StrEnum):
    """What is given: nothing, images at the ends, or a stretch of video at one end ("easy": a longer one)."""

    T2V = "t2v"
    I2V_HEAD = "i2v_head"
    I2V_TAIL = "i2v_tail"
    I2V_LOOP = "i2v_loop"
    V2V_HEAD = "v2v_head"
    V2V_TAIL = "v2v_tail"
    V2V_HEAD_EASY = "v2v_head_easy"
    V2V_TAIL_EASY = "v2v_tail_easy"


@dataclass(frozen=True, slots=True)
class End:
    """One stretch at the start (`at` 0) or at the end (`at` -1) of a clip."""

    at: int
    frames: int
    latents: int

    def of_video(self, video_B3THW: Tensor) -> Tensor:
        return _end(video_B3THW, self.at, self.frames)

    def of_latent(self, latent_BCTHW: Tensor) -> Tensor:
        return _end(latent_BCTHW, self.at, self.latents)


@dataclass(frozen=True, slots=True)
class Given:
    """`groups` is the length in the autoencoder's steps of time (4 frames); 0 is one image."""

    head: bool = False
    tail: bool = False
    groups: int = 0

    @property
    def video(self) -> bool:
        return self.groups > 0

    def frames(self, spec: LatentSpec) -> int:
        """Video frames at each end: 1, or 33 (easy 65) with a causal autoencoder, else 32 (64)."""
        return self.groups * spec.time + spec.causal if self.video else 1

    def latents(self, spec: LatentSpec) -> int:
        """Latent frames at each end: 1, or 9 (17), else 8 (16)."""
        return spec.frames(self.frames(spec))

    @property
    def ends_at(self) -> list[int]:
        """Which ends: 0 the start, -1 the end."""
        return [0] * self.head + [-1] * self.tail

    def ends(self, spec: LatentSpec) -> list[End]:
        return [End(at, self.frames(spec), self.latents(spec)) for at in self.ends_at]


GIVEN: Mapping[Kind, Given] = {
    Kind.T2V: Given(),
    Kind.I2V_HEAD: Given(head=True),
    Kind.I2V_TAIL: Given(tail=True),
    Kind.I2V_LOOP: Given(head=True, tail=True),
    Kind.V2V_HEAD: Given(head=True, groups=8),
    Kind.V2V_TAIL: Given(tail=True, groups=8),
    Kind.V2V_HEAD_EASY: Given(head=True, groups=16),
    Kind.V2V_TAIL_EASY: Given(tail=True, groups=16),
}

Weights = Mapping[Kind, float]

TEXT_ONLY: Weights = {Kind.T2V: 1}
IMAGE_STAGES: Weights = {Kind.T2V: 1, Kind.I2V_HEAD: 5, Kind.I2V_LOOP: 1, Kind.I2V_TAIL: 1}
"""stage1_i2v and stage2_i2v: one sample of eight goes without its image, the condition's dropout (section 4.3)."""
HIGH_COMPRESSION: Weights = {Kind.T2V: 1, Kind.I2V_HEAD: 7}

TEXT_DROPOUT = sqrt(0.1)
"""Of each text encoder, so that one prompt of ten has neither (section 4.3)."""


def weights_of(named: Mapping[str, float]) -> dict[Kind, float]:
    """Weights as a user writes them. UserError: an unknown kind, a weight below zero, or none above it."""
    if unknown := set(named) - set(Kind):
        raise UserError(f"unknown condition {', '.join(sorted(unknown))}", f"choose from {', '.join(Kind)}")
    if not all(isfinite(weight) and weight >= 0 for weight in named.values()) or not sum(named.values()):
        raise UserError("conditions need weights of 0 and more, one of them above 0", "write for example t2v = 1")
    return {Kind(name): weight for name, weight in named.items()}


def eligible(weights: Weights, frames: int, spec: LatentSpec) -> dict[Kind, float]:
    """The kinds that a clip of `frames` can have, in a new mapping; the one that was given stays whole.

    v2v needs a clip longer than what is given: with one of equal length every frame would be, and none left to learn.
    That is the public limit too (golden README, "Oddities" 6). Images need a second latent frame. No kind: t2v.
    """

    def fits(kind: Kind) -> bool:
        given = GIVEN[kind]
        return kind is Kind.T2V or (frames > given.frames(spec) if given.video else spec.frames(frames) > 1)

    left = {kind: weight for kind, weight in weights.items() if weight > 0 and fits(kind)}
    return left or {Kind.T2V: 1}


def draw_kinds(weights: Weights, count: int, frames: int, spec: LatentSpec, generator: torch.Generator) -> list[Kind]:
    """A kind for each of `count` clips of `frames`, by weight among those that fit; `generator` lives on the CPU."""
    left = eligible(weights, frames, spec)
    chances = torch.tensor(list(left.values()), dtype=torch.float64)
    drawn = torch.multinomial(chances, count, replacement=True, generator=generator)
    return [list(left)[i] for i in drawn.tolist()]


def training_condition(
    kinds: Sequence[Kind],
    video_B3THW: Tensor,
    latent_BCTHW: Tensor,
    autoencoder: Autoencoder,
    generator: torch.Generator | None = None,
) -> Tensor:
    """The condition of a batch of clips, a kind each: (B, 1 + C, T, H, W).

    What has one length is encoded in one call: all images of the batch together, then each length of video.
    """
    assert len(kinds) == len(latent_BCTHW) == len(video_B3THW)
    spec = autoencoder.spec
    condition = _nothing_given(latent_BCTHW)
    to_encode: defaultdict[int, list[tuple[int, End]]] = defaultdict(list)
    for sample, kind in enumerate(kinds):
        for end in _ends(kind, latent_BCTHW.shape[2], spec):
            if GIVEN[kind].video and not spec.causal:
                _give(condition[sample, None], end, end.of_latent(latent_BCTHW[sample, None]))
            else:
                to_encode[end.frames].append((sample, end))
    for _, places in sorted(to_encode.items()):
        stretches = torch.cat([end.of_video(video_B3THW[sample, None]) for sample, end in places])
        for (sample, end), latent in zip(places, autoencoder.encode(stretches, generator), strict=True):
            _give(condition[sample, None], end, latent[None])
    return condition


def encoded_condition(
    kinds: Sequence[Kind],
    latent_BCTHW: Tensor,
    heads: Sequence[Tensor | None],
    tails: Sequence[Tensor | None],
    spec: LatentSpec,
) -> Tensor:
    """`training_condition` where images were encoded before: `heads`, `tails` (C, 1, H, W), None of an image.

    v2v copies the clip's latent, so only an autoencoder that is not causal has it (`check_encoded`).
    """
    condition = _nothing_given(latent_BCTHW)
    for sample, kind in enumerate(kinds):
        for end in _ends(kind, latent_BCTHW.shape[2], spec):
            if GIVEN[kind].video:
                assert not spec.causal, f"{kind} needs latents of its stretch"
                given = end.of_latent(latent_BCTHW[sample, None])
            else:
                image_C1HW = (heads if end.at == 0 else tails)[sample]
                assert image_C1HW is not None, f"sample has no latent of its {'head' if end.at == 0 else 'tail'}"
                given = image_C1HW[None]
            _give(condition[sample, None], end, given)
    return condition


def check_encoded(weights: Weights, spec: LatentSpec) -> None:
    """UserError where latents that were encoded before lack what a kind needs."""
    videos = sorted(kind for kind, weight in weights.items() if weight > 0 and GIVEN[kind].video)
    if videos and spec.causal:
        raise UserError(
            f"{', '.join(videos)} needs latents of the given stretch alone, and `encode` writes those of images",
            "leave it out of [conditions], or train on latents of an autoencoder that is not causal (Video DC-AE)",
        )


def encode_references(
    kind: Kind, videos: Sequence[Tensor], autoencoder: Autoencoder, generator: torch.Generator | None = None
) -> list[Tensor]:
    """What a user gives, (B, 3, T, H, W) each, as latents for `sampling_condition`: the stretch that counts of each.

    The head is the start of the first, the tail the end of the last; so a loop takes one video or two images.
    UserError: none given, one that is too short, or one that is not used.
    """
    ends = GIVEN[kind].ends(autoencoder.spec)
    check_count(kind, len(videos))
    for end in ends:
        if videos[end.at].shape[2] < end.frames:
            raise UserError(f"{kind} needs {end.frames} frames, not {videos[end.at].shape[2]}", "give a longer video")
    return [autoencoder.encode(end.of_video(videos[end.at]), generator) for end in ends]


def check_count(kind: Kind, references: int) -> None:
    """UserError where a kind cannot use so many references, each of them: none is ignored."""
    used = len(GIVEN[kind].ends_at)
    if used and not references:
        raise UserError(f"{kind} needs something to start from", "give an image or a video")
    if references > used:
        found = f"{references} reference" + "s" * (references > 1)
        raise UserError(
            f"{kind} uses {used or 'none'} of {found}", "leave out what is not used, or choose another kind"
        )


def wanted_frames(kind: Kind, references: int, spec: LatentSpec) -> list[tuple[int, int]]:
    """Of each of so many references, the frames at its start and at its end that `encode_references` reads.

    UserError as `check_count`.
    """
    check_count(kind, references)
    wanted = [[0, 0] for _ in range(references)]
    for end in GIVEN[kind].ends(spec):
        wanted[end.at][end.at] = end.frames
    return [(head, tail) for head, tail in wanted]


def held_frames(kind: Kind, latent_frames: int, spec: LatentSpec) -> tuple[int, int]:
    """Video frames at the start and the end that only repeat a given image, where its latent frame stands for several.

    With an autoencoder that is not causal an image fills a whole latent frame, 4 video frames that all show it: 3 of
    them are one too many. The public code cuts them off, and so does `sample`.
    """
    given = GIVEN[kind]
    if given.video or spec.causal or latent_frames <= 1:
        return 0, 0
    extra = spec.time - 1
    return extra * given.head, extra * given.tail


def sampling_condition(kind: Kind, references: Sequence[Tensor], latent_BCTHW: Tensor, spec: LatentSpec) -> Tensor:
    """The condition of a sampler, (B, 1 + C, T, H, W) like the latent: one kind, references with the same batch.

    UserError: a clip that is shorter than what is given. One latent frame, an image, is never conditioned.
    """
    condition = _nothing_given(latent_BCTHW)
    for end in _ends(kind, latent_BCTHW.shape[2], spec):
        if latent_BCTHW.shape[2] < end.latents:
            raise UserError(f"{kind} gives {end.frames} frames, more than the video has", "make the video longer")
        assert references and references[end.at].shape[2] >= end.latents, f"{kind} needs {end.latents} latent frames"
        _give(condition, end, end.of_latent(references[end.at]))
    return condition


def with_references(latent_BCTHW: Tensor, condition: Tensor) -> Tensor:
    """A sampled latent with its given frames put back, in every sample (the public code does so in the first alone)."""
    return torch.where(condition[:, :1] > 0, condition[:, 1:].to(latent_BCTHW.dtype), latent_BCTHW)


def mask_of_frames(condition: Tensor) -> Tensor:
    """(B, T): 1 where a latent frame is given, as `flow.loss_without_references` takes it."""
    return condition[:, 0, :, 0, 0]


def drop_text(states: TextStates, empty: TextStates, generator: torch.Generator, p: float = TEXT_DROPOUT) -> TextStates:
    """Some prompts replaced by `empty`, the states of "" (batch 1): T5's and CLIP's independently, each with `p`.

    `generator` lives on the CPU, so that the same prompts go whatever the device.
    """
    dropped = torch.rand(2, len(states.pooled_BP), generator=generator) < p
    tokens_B, pooled_B = dropped.to(states.pooled_BP.device)
    return TextStates(
        torch.where(tokens_B[:, None, None], empty.tokens_BMD, states.tokens_BMD),
        torch.where(pooled_B[:, None], empty.pooled_BP, states.pooled_BP),
    )


def _ends(kind: Kind, latent_frames: int, spec: LatentSpec) -> list[End]:
    return GIVEN[kind].ends(spec) if latent_frames > 1 else []


def _nothing_given(latent_BCTHW: Tensor) -> Tensor:
    b, c, *rest = latent_BCTHW.shape
    return latent_BCTHW.new_zeros(b, 1 + c, *rest)


def _give(condition: Tensor, end: End, latent: Tensor) -> None:
    """Writes mask and latent into one end of a condition."""
    place = end.of_latent(condition)
    place[:, :1] = 1
    place[:, 1:] = latent


def _end(x: Tensor, at: int, length: int) -> Tensor:
    return x[:, :, :length] if at == 0 else x[:, :, -length:]
