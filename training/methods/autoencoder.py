"""Training the autoencoder: L1 + LPIPS, later against a discriminator, where wanted aligned with a teacher.

    frames -> still or clip (keyed by seed, step and micro-batch) -> rebuilder -> L1, LPIPS, alignment
                                                                 -> judge -> adversarial loss, its own loss

Spec sections 1.5 and 1.7. Losses are float32 whatever the networks compute in, and all that weighs them is of one
micro-batch, so that the number of ranks changes nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor

from curation.errors import UserError
from training.autoencoder.alignment import alignment_loss
from training.autoencoder.losses import (
    Perceptual,
    adaptive_weight,
    discriminator_loss,
    generator_loss,
    reconstruction_loss,
)
from training.autoencoder.networks import Layers, Networks, Rebuilt
from training.autoencoder.settings import Settings
from training.autoencoder.teacher import Teacher, features
from training.cost.autoencoder import Work
from training.data.batches import Cost, MicroBatch
from training.data.clips import Clips
from training.methods.base import Losses
from training.methods.draws import Draw, generator
from training.models.base import LatentSpec
from training.parallel.context import ALONE, Context
from training.parallel.pair import Two

MOST = 1e8
"""Of the alignment's adaptive weight; LightningDiT's."""


@dataclass(frozen=True, slots=True)
class ClipInputs:
    """Clips of one bucket as bytes, a quarter of what floats would take to the device. `against`: the judge takes
    part."""

    samples: tuple[int, ...]
    frames_BTHW3: Tensor
    against: bool
    tokens: int
    flops: float

    @property
    def video(self) -> Tensor:
        """(B, 3, T, H, W), float32 in [-1, 1]."""
        return self.frames_BTHW3.permute(0, 4, 1, 2, 3).float() / 127.5 - 1

    def to(self, device: torch.device) -> Self:
        return replace(self, frames_BTHW3=self.frames_BTHW3.to(device, non_blocking=True))

    def pinned(self) -> Self:
        return replace(self, frames_BTHW3=self.frames_BTHW3.pin_memory())


@dataclass(frozen=True)
class Autoencoding:
    """`networks`: what the engine wraps, for the layers where losses are weighed. `perceptual`: LPIPS, on the device
    (`perception.perceptual`). `context`: the ranks that share each clip's channels, as `networks` are split. UserError:
    settings ask for what is not given."""

    clips: Clips
    seed: int
    networks: Networks
    work: Work
    settings: Settings
    perceptual: Perceptual | None = None
    teacher: Teacher | None = None
    context: Context = ALONE

    def __post_init__(self) -> None:
        for wanted, given, name in (
            (self.settings.lpips, self.perceptual, "lpips"),
            (self.settings.adversary, self.networks.judge, "adversary"),
            (self.settings.distillation, self.teacher, "distillation"),
        ):
            assert bool(wanted) == (given is not None), f"the settings' {name} and what is given for it differ"

    @property
    def spec(self) -> LatentSpec:
        return self.networks.rebuilder.autoencoder.spec

    def prepare(self, step: int, batch: MicroBatch) -> ClipInputs:
        """Inputs of a micro-batch. UserError: a sample is missing, or its frames are not its bucket's."""
        bucket = batch.bucket
        found = self.clips.read(batch.samples)
        for sample, frames in zip(batch.samples, found, strict=True):
            size = (bucket.frames, bucket.height, bucket.width)
            if frames.shape != (*size, 3):
                shapes = ["x".join(map(str, shape)) for shape in (frames.shape[:3], size)]
                raise UserError(
                    f"the frames of sample {sample} are {shapes[0]}, its bucket's are {shapes[1]}",
                    "freeze the tier again",
                )
        still = self._still(step, batch.number)
        adversary = self.settings.adversary
        return self._inputs(
            batch.samples,
            [frames[:1] for frames in found] if still else found,
            against=adversary is not None and step >= adversary.start,
        )

    def validation(self, samples: Sequence[int]) -> ClipInputs:
        """Inputs of samples of one bucket: whole clips."""
        return self._inputs(tuple(samples), self.clips.read(samples), against=False)

    def coded(self, model: Any, inputs: ClipInputs, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        """The clips as they come back, not clamped, and their latents, not scaled; float32."""
        made: Rebuilt = _rebuilder(model)(inputs.video.to(dtype))
        return made.video_B3THW.float(), made.latent_BCTHW.float()

    def rebuilt(self, model: Any, inputs: ClipInputs, dtype: torch.dtype) -> Tensor:
        """The first of `coded`."""
        return self.coded(model, inputs, dtype)[0]

    def loss(self, model: Any, inputs: ClipInputs, dtype: torch.dtype) -> Losses:
        """The sum of all terms, the judge's own loss among them.

        Parts: `l1`, `lpips` and `alignment` as means, without their weights; `adversarial` likewise, `*_weight` what
        such a term was multiplied with; `judge`, `real`, `fake`: its loss and mean logits.
        UserError: bfloat16 on a CPU.
        """
        check_precision(inputs.frames_BTHW3.device, dtype)
        video = inputs.video
        made: Rebuilt = _rebuilder(model)(video.to(dtype))
        layers = self.networks.rebuilder.layers()
        again = made.video_B3THW.float()
        found = reconstruction_loss(video, again, self.perceptual, self.settings.lpips)
        elements = video[0, :, 0].numel()
        parts = {"l1": found.l1 / elements}
        if self.perceptual is not None:
            parts["lpips"] = found.perceptual / elements
        total = found.nll
        for term in (
            self._alignment(found.nll, video, made, layers),
            self._adversarial(found.nll, video, made, layers, model.second if inputs.against else None),
        ):
            total = total + term.total
            parts |= term.parts
        each = (again - video).abs().flatten(1).mean(1)
        return Losses(total, each.detach(), parts={name: part.detach() for name, part in parts.items()})

    def cost(self) -> Cost:
        """What batches are balanced by: FLOPs of training on a bucket's batch."""
        return lambda one: one.batch * self.work.train(one.frames, one.height, one.width)

    def _alignment(self, nll: Tensor, video_B3THW: Tensor, made: Rebuilt, layers: Layers) -> _Term:
        settings, teacher = self.settings.distillation, self.teacher
        if settings is None or teacher is None or made.projected_BDThw is None or layers.aligned is None:
            return _NOTHING
        frames = ((video_B3THW + 1) / 2).transpose(1, 2).flatten(0, 1)
        projected = made.projected_BDThw.transpose(1, 2).flatten(0, 1)
        height, width = projected.shape[-2:]
        wanted = features(teacher, frames, (height, width))
        loss = alignment_loss(projected, wanted, settings.cosine_margin, settings.distance_margin)
        weight = settings.weight * adaptive_weight(nll, loss, layers.aligned.gradient, MOST)
        return _Term(weight * loss, {"alignment": loss, "alignment_weight": weight})

    def _adversarial(self, nll: Tensor, video_B3THW: Tensor, made: Rebuilt, layers: Layers, wrapped: Any) -> _Term:
        """`wrapped`: the judge as it is to be called, None in the first phase."""
        settings, judge = self.settings.adversary, self.networks.judge
        if wrapped is None or settings is None or judge is None:
            return _NOTHING
        again = made.video_B3THW
        loss = generator_loss(judge.of(again).float())
        weight = settings.weight * adaptive_weight(nll, loss, layers.last.gradient)
        real, fake = (x.float() for x in wrapped(video_B3THW.to(again.dtype), again.detach()))
        own = discriminator_loss(real, fake)
        parts = {"adversarial": loss, "adversarial_weight": weight, "judge": own}
        return _Term(weight * loss + own, {**parts, "real": real.mean(), "fake": fake.mean()})

    def _still(self, step: int, number: int) -> bool:
        draw = torch.rand((), generator=generator(self.seed, step, number, Draw.STILL))
        return draw.item() < self.settings.stills

    def _inputs(self, samples: tuple[int, ...], found: Sequence[np.ndarray], against: bool) -> ClipInputs:
        frames_BTHW3 = torch.from_numpy(np.stack(found))
        count, *size, _ = frames_BTHW3.shape
        frames, height, width = size
        return ClipInputs(
            samples=samples,
            frames_BTHW3=frames_BTHW3,
            against=against,
            tokens=count * self.spec.grid(frames, height, width).tokens,
            flops=count * self.work.train(frames, height, width),
        )


@dataclass(frozen=True, slots=True)
class _Term:
    total: Tensor | float
    parts: dict[str, Tensor]


_NOTHING = _Term(0.0, {})


def check_precision(device: torch.device, dtype: torch.dtype) -> None:
    """UserError: bfloat16 on a CPU. oneDNN's gradients of a bfloat16 convolution are wrong where an axis is short,
    without a word (docs/autoencoder.md)."""
    if device.type == "cpu" and dtype == torch.bfloat16:
        raise UserError("an autoencoder's gradients in bfloat16 are wrong on a CPU", "--set network.precision=float32")


def _rebuilder(model: Any) -> Any:
    return model.first if isinstance(model, Two) else model
