"""A training run of a tiny Video DC-AE on drawn clips, small enough for a test; with a discriminator if wanted."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from curation.errors import UserError
from curation.shards.manifest import Bucket
from tests.support import encoded
from tests.support.toy_run import head_of
from training.autoencoder.discriminator import DiscriminatorConfig
from training.autoencoder.networks import Networks
from training.autoencoder.settings import AVERAGE, OPTIMIZER, PACE, Adversary, Settings
from training.callbacks.averages import Averages
from training.callbacks.checkpointing import Checkpointing
from training.checkpoint.folder import Checkpoints, Identity
from training.checkpoint.load import resume
from training.cost.autoencoder import Work
from training.data.batches import Batches
from training.methods.autoencoder import Autoencoding
from training.models.dcae import DcAeConfig, VideoDcAe
from training.models.dcae.split import split
from training.parallel.channels import channels_of
from training.parallel.context import ALONE
from training.parallel.pair import Pair
from training.parallel.single import Single
from training.quality.lpips import Lpips
from training.schedule import Schedule
from training.trainer import Progress, Run, train

CONFIG = DcAeConfig(
    latent_channels=8,
    widths=(8, 16, 32),
    blocks=("res", "res", "vit"),
    encoder_depths=(1, 1, 1),
    decoder_depths=(1, 1, 1),
    halve_time=(False, True),
)
"""Three stages of the six: 2x4x4 instead of 4x32x32."""

CLIP = Bucket("256px", 4, 16, 16, 1)
WIDE = Bucket("256px", 4, 16, 24, 2)


class Drawn:
    """`Clips` in memory: a smooth pattern that moves, another one for each number. `lost`: samples that are missing."""

    def __init__(self, buckets: Mapping[Bucket, int], lost: Sequence[int] = ()) -> None:
        rows = encoded.table(buckets).to_pylist()
        self._buckets, self._lost = [Bucket.of(row) for row in rows], set(lost)

    def read(self, samples: Sequence[int]) -> list[NDArray[np.uint8]]:
        if found := self._lost.intersection(samples):
            raise UserError(f"sample {min(found)} has no frames", "cut the clips again")
        return [self._one(sample) for sample in samples]

    def _one(self, sample: int) -> NDArray[np.uint8]:
        bucket, draw = self._buckets[sample], np.random.default_rng(sample)
        t, y, x = np.ogrid[: bucket.frames, : bucket.height, : bucket.width]
        phases, speeds = draw.uniform(0, 6.3, 3), draw.uniform(0.05, 0.4, (3, 2))
        waves = [
            np.sin(fast * y + slow * x + 0.2 * t + phase) for (fast, slow), phase in zip(speeds, phases, strict=True)
        ]
        return np.stack([(127.5 + 120 * wave).astype(np.uint8) for wave in waves], axis=-1)


class TinyTeacher:
    """A `Teacher` that needs no file: drawn features of patches of 4 pixels."""

    def __init__(self, width: int = 6, patch: int = 2) -> None:
        self.width, self.patch = width, patch
        draw = torch.Generator().manual_seed(5)
        self._kernel = torch.randn(self.width, 3, self.patch, self.patch, generator=draw)

    def __call__(self, frames: Tensor) -> Tensor:
        return torch.nn.functional.conv2d(frames - 0.5, self._kernel, stride=self.patch)


def tiny_lpips() -> Lpips:
    """Two stages with drawn weights: a distance like LPIPS, without its files."""
    with torch.random.fork_rng():
        torch.manual_seed(3)
        network = Lpips(((4, 1), (6, 1)))
        for weight in network.linear:
            torch.nn.init.uniform_(weight, 0.0, 1.0)
    return network.eval().requires_grad_(False)


def adversary(start: int = 0, norm: Any = "group", weight: float = 0.05) -> Adversary:
    return Adversary(start=start, weight=weight, discriminator=DiscriminatorConfig(channels=4, layers=2, norm=norm))


@dataclass
class ToyAutoencoder:
    """A run over `buckets`; `go` trains it to a step, from the newest checkpoint in `folder` where there is one."""

    folder: Path
    settings: Settings = field(default_factory=lambda: Settings(adversary=None))
    buckets: Mapping[Bucket, int] = field(default_factory=lambda: {CLIP: 4})
    per_step: int = 2
    seed: int = 42
    rate: float = 1e-3
    every: int = 1000
    make_engine: Callable[[], Single] = lambda: Single(torch.device("cpu"))
    network_seed: int = 0
    clips: Any = None
    config: DcAeConfig = CONFIG
    channels: int = 1

    @property
    def checkpoints(self) -> Checkpoints:
        return Checkpoints(self.folder)

    def method(self, engine: Any = None) -> Autoencoding:
        """`engine`: whose ranks share channels."""
        settings = self.settings
        torch.manual_seed(self.network_seed)
        teacher = TinyTeacher() if settings.distillation else None
        made = VideoDcAe(self.config)
        if (channels := channels_of(engine, self.channels)) is not None:
            split(made, channels)
        networks = Networks.of(made, settings, TinyTeacher().width)
        lpips = tiny_lpips() if settings.lpips else None
        clips = self.clips or Drawn(self.buckets)
        return Autoencoding(
            clips, self.seed, networks, Work.of(self.config), settings, lpips, teacher, context=channels or ALONE
        )

    def parts(self) -> tuple[Run, Averages, Identity]:
        frozen, engine = encoded.frozen(self.buckets), self.make_engine()
        method = self.method(engine)
        first: Any = engine
        whole: Any = Pair(engine, self.make_engine(), pace=PACE) if self.settings.adversary else engine
        whole.wrap(method.networks.module, OPTIMIZER)
        batches = Batches(frozen.samples, seed=self.seed, per_step=self.per_step, cost=method.cost())
        run = Run(whole, method, batches, Schedule(((0, self.rate),)), steps=0)
        identity = Identity(
            manifest=frozen.manifest.sha256,
            seed=self.seed,
            per_step=self.per_step,
            held_out=0,
            shapes=whole.shapes(),
        )
        return run, Averages(first, AVERAGE), identity

    def go(
        self, steps: int, *callbacks: Any, stop_after: int | None = None, saves: bool = True
    ) -> tuple[Run, Averages, Progress]:
        run, averages, identity = self.parts()
        run = replace(run, steps=steps)
        found = resume(self.checkpoints, identity, run.engine, averages)
        head = head_of(run.engine, identity)
        saving = Checkpointing(run.engine, self.checkpoints, head, every=self.every, averages=averages)
        beside = [averages, *([saving] if saves else []), *callbacks]
        asked = itertools.count(1)
        stop = (lambda: next(asked) >= stop_after) if stop_after else lambda: False
        try:
            return run, averages, train(run, found[0] if found else Progress(), beside, stop)
        finally:
            run.engine.close()
