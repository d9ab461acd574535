"""The preset of a run that trains the autoencoder: `autoencoder`, `autoencoder_gan` and `tiny_autoencoder` ship.

Which autoencoder is trained, from which weights, and where LPIPS and the teacher are, the model file says
(`modelfile`). What each number means and where it comes from: docs/autoencoder.md.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Literal, Self

from pydantic import Field, model_validator

from pipelines.config import tomlfile
from pipelines.config.preset import SHIPPED, RecoverySection, RunFile
from pipelines.config.tomlfile import Section

if TYPE_CHECKING:
    from training.presets import AutoencoderPreset

_Share = Annotated[float, Field(ge=0, le=1)]
_NotNegative = Annotated[float, Field(ge=0)]
_Positive = Annotated[int, Field(ge=1)]


class LossesSection(Section):
    """`lpips`: the weight of LPIPS beside L1, 0 for none; it needs two files of the model file's [perception]."""

    lpips: _NotNegative = 0.5


class _Term(Section):
    """A loss that is there where its weight is."""

    weight: _NotNegative = 0.0

    @model_validator(mode="after")
    def _used(self) -> Self:
        idle = sorted(self.model_fields_set - {"weight"})
        if not self.weight and idle:
            raise ValueError(f"{idle[0]} has no effect without a weight")
        return self


class AdversarySection(_Term):
    """A discriminator that is trained against the autoencoder. `weight`: times the adaptive weight, 0 for none;
    `start`: the step at which it begins; `pace`: its rate over the autoencoder's; the rest is its network."""

    start: Annotated[int, Field(ge=0)] = 0
    pace: Annotated[float, Field(gt=0)] = 2.0
    channels: _Positive = 64
    layers: _Positive = 5
    timed: _Positive = 2
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.3
    norm: Literal["batch", "group"] = "batch"


class DistillationSection(_Term):
    """Alignment of the encoder's `stage` with DINOv2, the model file's `perception.dinov2`. `weight`: times the
    adaptive weight, 0 for none. Margins are of cosines that are near enough."""

    stage: _Positive = 3
    cosine_margin: _NotNegative = 0.5
    distance_margin: _NotNegative = 0.25


class PrecisionSection(Section):
    """`precision`: of the networks; masters and losses are float32, and on a CPU all must be. `recompute`: the
    autoencoder's blocks are computed again in the backward pass, in place of keeping what they hold."""

    precision: Literal["float32", "bfloat16"] = "bfloat16"
    recompute: bool = False


class StepsSection(RecoverySection):
    """As the transformer's, but off by default: where a discriminator begins, the loss leaps for good."""

    deviations: _NotNegative = 0.0


class FramesSection(Section):
    """`readers`: clips that each process decodes at once, each in a sandbox of its own. `leave_out`: samples of the
    manifest, by number, that are not trained on."""

    readers: _Positive = 4
    leave_out: tuple[Annotated[int, Field(ge=0)], ...] = ()


class ChannelsSection(Section):
    """`channels`: ranks that have each clip together and share the channels of the widest layers."""

    channels: _Positive = 1


class AutoencoderPresetFile(RunFile):
    """A whole preset file. `stills`: the share of micro-batches that are cut to their first frame."""

    method: Literal["autoencoder"]
    stills: _Share = 0.2
    losses: LossesSection = LossesSection()
    adversary: AdversarySection = AdversarySection()
    distillation: DistillationSection = DistillationSection()
    network: PrecisionSection = PrecisionSection()
    recovery: RecoverySection = StepsSection()
    frames: FramesSection = FramesSection()
    parallel: ChannelsSection = ChannelsSection()

    def preset(self, name: str) -> AutoencoderPreset:
        """What `training` takes. Needs torch. UserError: a schedule that makes no sense."""
        from training.autoencoder.discriminator import DiscriminatorConfig
        from training.autoencoder.settings import Adversary, Distillation, Settings
        from training.presets import AutoencoderPreset

        ours, aligned = self.adversary, self.distillation
        network = DiscriminatorConfig(ours.channels, ours.layers, ours.timed, ours.dropout, ours.norm)
        settings = Settings(
            lpips=self.losses.lpips,
            stills=self.stills,
            adversary=Adversary(weight=ours.weight, start=ours.start, discriminator=network) if ours.weight else None,
            distillation=Distillation(**aligned.model_dump()) if aligned.weight else None,
        )
        return AutoencoderPreset(
            **self.common(name),
            precision=self.network.precision,
            context=self.parallel.channels,
            settings=settings,
            pace=ours.pace,
            readers=self.frames.readers,
            leave_out=self.frames.leave_out,
            recompute=self.network.recompute,
        )


def load(name_or_path: str, changes: Sequence[str] = ()) -> AutoencoderPresetFile:
    """A preset by path, or by the name of one that ships, with `key=value` changes. UserError: a key or a value that
    is not allowed."""
    return tomlfile.load(name_or_path, AutoencoderPresetFile, SHIPPED, "preset", changes)
