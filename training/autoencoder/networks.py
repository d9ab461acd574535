"""The two networks as engines train them. Each has one forward: a data-parallel engine sees nothing but forwards."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.grad import conv3d_weight

from curation.errors import UserError
from training.autoencoder.discriminator import PatchDiscriminator
from training.autoencoder.settings import Settings
from training.models.dcae.autoencoder import VideoDcAe
from training.parallel.pair import Both


class Rebuilt(NamedTuple):
    """What comes back of a clip. `projected_BDThw`: the aligned stage's output in the teacher's width. `latent_BCTHW`:
    what it was decoded from, not scaled, without gradient."""

    video_B3THW: Tensor
    projected_BDThw: Tensor | None
    latent_BCTHW: Tensor


@dataclass(frozen=True, slots=True)
class Weighed:
    """A convolution as it ran in one forward: what went in and came out. A loss is weighed by its gradient there."""

    conv: nn.Conv3d
    input: Tensor
    output: Tensor

    def gradient(self, loss: Tensor) -> Tensor:
        """The loss's gradient at the kernel, adding to no `grad`; its graph stays.

        It comes of input and output, not of the kernel: an engine that shares weights among ranks has put a part in the
        kernel's place by now, and activation checkpointing would run the layer again.
        """
        (output,) = torch.autograd.grad(loss, self.output, retain_graph=True)
        stride, padding = self.conv.stride, self.conv.padding
        shape = (self.conv.out_channels, self.conv.in_channels, *self.conv.kernel_size)
        return conv3d_weight(self.input.detach(), shape, output, stride, padding)  # type: ignore[arg-type]


class Layers(NamedTuple):
    """Where losses are weighed: the last convolution of all, and the last that the aligned stage's output comes of."""

    last: Weighed
    aligned: Weighed | None


class Rebuilder(nn.Module):
    """Encoder and decoder at once, whole clips without tiles: (B, 3, T, H, W) in [-1, 1] to `Rebuilt`.

    The latent's scale has no part here: it would be divided by and multiplied with. A clip whose latent is one frame is
    decoded as `VideoDcAe.decode` does it, from that frame held for two: one alone is a still image's.
    `stage` (from 1) is aligned with a teacher of `width` through a learned 1x1 projection. UserError: that stage has no
    frame for each frame.
    """

    def __init__(self, autoencoder: VideoDcAe, stage: int | None = None, width: int = 0) -> None:
        super().__init__()
        self.autoencoder = autoencoder
        self._ran: dict[str, Weighed] = {}
        self._kept: Tensor | None = None
        self._watch("last", autoencoder.get_submodule("decoder.project_out.op_list.2.conv"))
        if stage is None:
            self.projection = None
            return
        _check_stage(autoencoder, stage)
        self.projection = nn.Conv3d(autoencoder.config.widths[stage], width, 1, bias=False)
        aligned = autoencoder.encoder.get_submodule(f"stages.{stage - 1}")
        aligned.register_forward_hook(self._keep)
        *_, down = aligned.get_submodule("op_list").children()
        self._watch("aligned", down.get_submodule("main.conv"))

    def forward(self, video_B3THW: Tensor) -> Rebuilt:
        latent, frames = self.autoencoder.encoder(video_B3THW), video_B3THW.shape[2]
        if latent.shape[2] == 1 < frames:
            made = self.autoencoder.decoder(latent.expand(-1, -1, 2, -1, -1))[:, :, :frames]
        else:
            made = self.autoencoder.decoder(latent)
        if self.projection is None:
            return Rebuilt(made, None, latent.detach())
        assert self._kept is not None, "the hook has kept the stage's output"
        kept, self._kept = self._kept, None
        # Without gradients nothing is aligned: a validation has no use for it.
        return Rebuilt(made, self.projection(kept) if made.requires_grad else None, latent.detach())

    def layers(self) -> Layers:
        """Of the last forward, which is then forgotten."""
        ran, self._ran = self._ran, {}
        return Layers(ran["last"], ran.get("aligned"))

    def _watch(self, name: str, conv: nn.Module) -> None:
        def ran(module: nn.Module, given: tuple[Tensor], output: Tensor) -> None:
            if output.requires_grad:
                assert isinstance(module, nn.Conv3d)
                self._ran[name] = Weighed(module, given[0], output)

        conv.register_forward_hook(ran)

    def _keep(self, module: nn.Module, given: object, output: Tensor) -> None:
        self._kept = output


class Judge(nn.Module):
    """The discriminator, of real clips and rebuilt ones in one forward: their logits.

    It normalises by what it sees and keeps no running statistics: nothing would read them, and so nothing of it but its
    weights has to be saved or sent between ranks.
    """

    def __init__(self, network: PatchDiscriminator) -> None:
        super().__init__()
        self.network = network
        for module in network.modules():
            if isinstance(module, nn.BatchNorm3d):
                module.track_running_stats = False

    def forward(self, real_B3THW: Tensor, rebuilt_B3THW: Tensor) -> tuple[Tensor, Tensor]:
        return self.network(real_B3THW), self.network(rebuilt_B3THW)

    def of(self, rebuilt_B3THW: Tensor) -> Tensor:
        """Logits whose gradient reaches the clip and not these weights: what the autoencoder learns from."""
        fixed = {name: parameter.detach() for name, parameter in self.network.named_parameters()}
        return functional_call(self.network, fixed, (rebuilt_B3THW,))


@dataclass(frozen=True, slots=True)
class Networks:
    """`judge` None: there is no adversarial loss."""

    rebuilder: Rebuilder
    judge: Judge | None

    @classmethod
    def of(cls, autoencoder: VideoDcAe, settings: Settings, width: int = 0) -> Networks:
        """Those that the settings ask for; new weights are drawn. `width`: the teacher's. UserError: `Rebuilder`."""
        distillation, adversary = settings.distillation, settings.adversary
        rebuilder = Rebuilder(autoencoder, distillation.stage if distillation else None, width)
        return cls(rebuilder, Judge(PatchDiscriminator(adversary.discriminator)) if adversary else None)

    @property
    def module(self) -> nn.Module:
        """What `Engine.wrap` takes: of a `Pair` where there are two."""
        return self.rebuilder if self.judge is None else Both(self.rebuilder, self.judge)


def _check_stage(autoencoder: VideoDcAe, stage: int) -> None:
    halve = autoencoder.config.halve_time
    whole = halve.index(True) if True in halve else len(halve)  # stages before time is halved
    if not 1 <= stage <= whole:
        raise UserError(
            f"distillation.stage = {stage}: the teacher sees frames, and only stages 1 to {whole} have one for each",
            f"choose one of 1 to {whole}",
        )
