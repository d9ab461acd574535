"""Encoder and decoder of the Video DC-AE: the trace of spec section 1.1, one line a step. No scaling, no tiles."""

from __future__ import annotations

from torch import Tensor, nn

from training.models.dcae.blocks import Block, ChannelRmsNorm, ConvLayer, OpList, stage_blocks
from training.models.dcae.config import DcAeConfig
from training.models.dcae.resample import Down, FromLatent, ToLatent, Up


class Encoder(nn.Module):
    """(B, 3, T, H, W) -> (B, C, T/4, H/32, W/32) for the published sizes: per stage its blocks, then half the size."""

    def __init__(self, config: DcAeConfig) -> None:
        super().__init__()
        self.project_in = ConvLayer(3, config.widths[0], 3)
        self.stages = nn.ModuleList(_encoder_stage(config, stage) for stage in range(len(config.widths)))
        self.project_out = ToLatent(config.widths[-1], config.latent_channels)

    def forward(self, video_B3THW: Tensor) -> Tensor:
        x = self.project_in(video_B3THW)
        for stage in self.stages:
            x = stage(x)
        return self.project_out(x)


class Decoder(nn.Module):
    """The encoder backwards, deepest stage first: per stage twice the size, then its blocks."""

    def __init__(self, config: DcAeConfig) -> None:
        super().__init__()
        self.project_in = FromLatent(config.latent_channels, config.widths[-1])
        self.stages = nn.ModuleList(_decoder_stage(config, stage) for stage in range(len(config.widths)))
        width = config.widths[0]
        self.project_out = OpList(ChannelRmsNorm(width), nn.ReLU(), ConvLayer(width, 3, 3))

    def forward(self, latent_BCTHW: Tensor) -> Tensor:
        x = self.project_in(latent_BCTHW)
        for stage in reversed(self.stages):
            x = stage(x)
        return self.project_out(x)


def recompute(network: nn.Module) -> int:
    """Let every block of every stage be computed again in the backward pass; how many there are. Resampling and the
    ends are kept: they are where losses are weighed (`autoencoder.networks`).
    """
    blocks = [one for stage in network.modules() if isinstance(stage, OpList) for one in stage.op_list.children()]
    found = [one for one in blocks if isinstance(one, Block)]
    for one in found:
        one.recomputed = True
    return len(found)


def init_weights(network: nn.Module, std: float = 0.02) -> None:
    """Truncated normal for every kernel and norm weight, zero for biases (spec section 1.2)."""
    for name, parameter in network.named_parameters():
        if name.endswith("bias"):
            nn.init.zeros_(parameter)
        else:
            nn.init.trunc_normal_(parameter, std=std)


def _encoder_stage(config: DcAeConfig, stage: int) -> OpList:
    width = config.widths[stage]
    ops = stage_blocks(config.blocks[stage], width, config.encoder_depths[stage])
    if stage + 1 < len(config.widths):
        ops.append(Down(width, config.widths[stage + 1], 2 if config.halve_time[stage] else 1))
    return OpList(*ops)


def _decoder_stage(config: DcAeConfig, stage: int) -> OpList:
    width = config.widths[stage]
    ops = stage_blocks(config.blocks[stage], width, config.decoder_depths[stage])
    if stage + 1 < len(config.widths):
        ops.insert(0, Up(config.widths[stage + 1], width, 2 if config.halve_time[stage] else 1))
    return OpList(*ops)
