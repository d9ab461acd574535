"""What the autoencoder is trained with: the losses, their weights and when they begin; the report's numbers.

Spec sections 1.5 and 1.7; `docs/autoencoder.md` says where paper and public code disagree and which is taken.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from training.autoencoder.discriminator import DiscriminatorConfig
from training.parallel.base import AdamW

RATE = 5e-5
PACE = 2.0
"""The discriminator's rate over the autoencoder's: 1e-4 to 5e-5."""

AVERAGE, MOST_NORM = 0.99, 1.0
"""The decay of averaged weights, and the norm above which gradients are cut."""
OPTIMIZER = AdamW(beta1=0.9, beta2=0.999, eps=1e-15, weight_decay=0.0)
"""The report's. The public code has beta2 0.98 and eps 1e-8."""

PHASE_1, PHASE_2 = 250_000, 200_000
"""Steps of the two phases, each of 8 clips of 32x256x256."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Adversary:
    """The second phase. `weight`: of the adversarial loss, times its adaptive weight; `start`: the step it begins at,
    0 for a run of its own that begins from the first phase's weights."""

    weight: float = 0.05
    start: int = PHASE_1
    discriminator: DiscriminatorConfig = field(default_factory=DiscriminatorConfig)


@dataclass(frozen=True, slots=True, kw_only=True)
class Distillation:
    """Alignment of the encoder with a teacher's features. The report gives no numbers: these are LightningDiT's.

    `stage`: of the encoder, counted from 1, whose output is aligned; `weight`: times its adaptive weight. Margins are
    of cosines that are near enough.
    """

    stage: int = 3
    weight: float = 0.1
    cosine_margin: float = 0.5
    distance_margin: float = 0.25


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """`lpips`: the weight of the perceptual loss beside L1, 0 for none; `stills`: the part of micro-batches that are
    cut to their first frame. Without `adversary` there is one phase, without `distillation` no teacher."""

    lpips: float = 0.5
    stills: float = 0.2
    adversary: Adversary | None = field(default_factory=Adversary)
    distillation: Distillation | None = None
