"""A run that trains the autoencoder, as `training.assemble` takes it: its networks, its losses, its validation.

model file's autoencoder, preset -> Rebuilder (and Judge) -> Autoencoding over Clips -> parts of the loop
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch

from curation.errors import UserError
from training.assemble import BaseJob, Parts
from training.autoencoder.networks import Networks
from training.autoencoder.perception import Files, perceptual
from training.autoencoder.settings import Adversary
from training.autoencoder.teacher import Dinov2
from training.callbacks.averages import Averages
from training.callbacks.base import Callback
from training.callbacks.norms import Norms
from training.callbacks.reconstruction import Reconstruction
from training.cost.autoencoder import Work
from training.data.clips import Clips
from training.data.fitting import buckets_of, check_buckets
from training.methods.autoencoder import Autoencoding, check_precision
from training.models import build
from training.models.dcae.autoencoder import VideoDcAe
from training.models.dcae.network import recompute
from training.models.dcae.split import split
from training.parallel.base import Engine
from training.parallel.channels import channels_of
from training.parallel.context import ALONE
from training.parallel.ddp import Ddp
from training.parallel.pair import Pair
from training.parallel.single import Single
from training.presets import AutoencoderPreset
from training.quality.lpips import Lpips, load_lpips


@dataclass(frozen=True, slots=True, kw_only=True)
class AutoencoderParts(Parts):
    """`adversary`: the second network's settings, None without one; `pace`: its rate over the first one's. `lpips`: for
    validation."""

    adversary: Adversary | None
    pace: float
    lpips: Lpips | None

    def joined(self, engine: Engine) -> Engine:
        """With a discriminator: one engine of two, whose second holds the whole discriminator on every rank."""
        if self.adversary is None:
            return engine
        precision = "bfloat16" if engine.dtype == torch.bfloat16 else "float32"
        second = Single(engine.device, precision) if engine.ranks == 1 else Ddp(engine.device, precision)
        return Pair(engine, second, pace=self.pace)

    def averaged(self, engine: Engine) -> Engine:
        """The autoencoder: nothing reads an averaged discriminator."""
        return engine.first if isinstance(engine, Pair) else engine


@dataclass(frozen=True, slots=True, kw_only=True)
class AutoencoderJob(BaseJob):
    """`clips`: frames of the manifest's samples. `files`: weights of the networks that judge pictures."""

    clips: Clips
    preset: AutoencoderPreset
    files: Files = field(default_factory=Files)

    @property
    def trains(self) -> str:
        return "autoencoder"

    @property
    def readers(self) -> int:
        return self.preset.readers

    def parts(self, engine: Engine) -> AutoencoderParts:
        """UserError: a model with another autoencoder, buckets that do not fit it, weights that are not there,
        bfloat16 on a CPU."""
        preset, spec, settings, device = self.preset, self.model.autoencoder, self.preset.settings, engine.device
        if spec.kind != "dcae":
            raise UserError(
                f"preset {preset.name} trains a Video DC-AE, model {self.model.name} has HunyuanVideo's autoencoder",
                'take a model file with [autoencoder] kind = "dcae"',
            )
        check_precision(device, getattr(torch, preset.precision))
        check_buckets(self.frozen, build.latent_spec(spec))
        if settings.adversary is not None:
            _check_norm(self, settings.adversary)
        lpips = perceptual(settings, self.files.vgg16, self.files.lpips, str(device))
        teacher = Dinov2(self.files.dinov2, str(device)) if settings.distillation else None
        made = build.autoencoder(spec, device, torch.float32)
        assert isinstance(made, VideoDcAe)
        channels = channels_of(engine, preset.context)
        if channels is not None:
            split(made, channels)
        if preset.recompute:
            recompute(made)
        work = Work.of(made.config)
        torch.manual_seed(preset.seed)  # of the discriminator's and the projection's first weights
        networks = Networks.of(made.train().requires_grad_(True), settings, teacher.width if teacher else 0)
        method = Autoencoding(
            self.clips, preset.seed, networks, work, settings, lpips, teacher, context=channels or ALONE
        )
        return AutoencoderParts(
            network=networks.module,
            name=spec.preset,
            method=method,
            cost=method.cost(),
            adversary=settings.adversary,
            pace=preset.pace,
            lpips=lpips or self._metric(device),
        )

    def validation(self, engine: Engine, parts: Parts, averages: Averages | None) -> Reconstruction | None:
        assert isinstance(parts, AutoencoderParts) and isinstance(parts.method, Autoencoding)
        held, every = self.held_out, self.preset.validate_every
        return Reconstruction(engine, parts.method, held, every, averages, parts.lpips) if held else None

    def beside(self, engine: Engine) -> list[Callback]:
        return [Norms(engine)] if isinstance(engine, Pair) else []

    def _metric(self, device: torch.device) -> Lpips | None:
        """LPIPS as a metric alone, where the preset learns without it and its files are given."""
        files = self.files
        if self.preset.held_out == 0 or files.vgg16 is None or files.lpips is None:
            return None
        return load_lpips(files.vgg16, files.lpips, str(device))


def _check_norm(job: AutoencoderJob, adversary: Adversary) -> None:
    """UserError where BatchNorm would see a single position of a bucket's batch, which it cannot normalise."""
    shape = adversary.discriminator
    if shape.norm != "batch":
        return
    for bucket in buckets_of(job.frozen):
        frames = 1 if job.preset.settings.stills else -(-bucket.frames // 2**shape.timed)
        rows, columns = (-(-side // 2**shape.layers) for side in (bucket.height, bucket.width))
        if bucket.batch * frames * rows * columns == 1:
            raise UserError(
                f"BatchNorm of the discriminator has one position of a batch of {bucket} to normalise by",
                "--set adversary.norm=group, or freeze with a larger bucket",
            )
