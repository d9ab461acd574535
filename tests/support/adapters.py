"""Adapters that change something, for tests."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import pytest
import torch

pytest.importorskip("peft")

from tests.support.mmdit import inputs_for
from tests.support.toy_run import Toy, network
from training.callbacks.averages import Averages
from training.checkpoint.folder import Identity
from training.lora.inject import adapted, base_of
from training.lora.spec import LoraSpec
from training.models.mmdit import MMDiT, MMDiTConfig
from training.models.mmdit.config import tiny
from training.parallel.base import AdamW
from training.tokens import Grid
from training.trainer import Run

SPEC = LoraSpec(rank=4, alpha=16, targets=("all",))


def config_of(stacked: bool, cond: bool = True) -> MMDiTConfig:
    """The tiny network in Flux's layout or in Open-Sora's."""
    return replace(tiny(), fused_qkv=stacked, interleaved_rope=stacked, cond_embed=cond)


def trained(model: MMDiT, spec: LoraSpec = SPEC) -> MMDiT:
    """The model with an adapter whose B is no longer zero."""
    adapted(model, spec)
    draw = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if ".lora_B." in name:
                weight.normal_(std=0.05, generator=draw)
    return model


def output(model: MMDiT) -> Any:
    with torch.no_grad():
        return model(**inputs_for(model.config, Grid(2, 3, 2)))


@dataclass
class LoraToy(Toy):
    """A toy run that trains an adapter on the weights of `base_seed`."""

    spec: LoraSpec = field(default_factory=lambda: LoraSpec(rank=4, alpha=8, dropout=0.3))
    base_seed: int = 0
    base_dtype: torch.dtype = torch.float32

    def parts(self) -> tuple[Run, Averages | None, Identity]:
        run, _, identity = super().parts()
        net = adapted(network(self.base_seed).to(self.base_dtype).train(), self.spec, self.network_seed)
        base = base_of(net)
        run.engine.wrap(net, AdamW())
        identity = replace(identity, base=base, alpha=self.spec.strength, shapes=run.engine.shapes())
        return run, None if self.decay is None else Averages(run.engine, self.decay), identity
