"""Small MMDiTs for tests: with random or golden weights, and inputs for them."""

from __future__ import annotations

from typing import Any

import torch

from tests.support import golden
from training.models.base import TextStates
from training.models.mmdit import MMDiT, MMDiTConfig
from training.tokens import Grid

_SAME_NAMES = (
    "in_channels patch_size cond_embed context_in_dim vec_in_dim hidden_size num_heads theta depth "
    "depth_single_blocks mlp_ratio qkv_bias fused_qkv"
).split()


def public_config(options: dict[str, Any]) -> MMDiTConfig:
    """Ours, from the public option names."""
    fields = {name: options[name] for name in _SAME_NAMES}
    return MMDiTConfig(**fields, axes_dim=tuple(options["axes_dim"]), interleaved_rope=not options["use_liger_rope"])


def golden_model(name: str) -> tuple[MMDiT, dict[str, Any], Grid]:
    """(model with the file's weights, the file's tensors, its grid)."""
    found, settings = golden.tensors(name)
    model = MMDiT(public_config(settings["config"]))
    model.load_state_dict(golden.below(found, "weight."))
    sizes = settings["grid"]
    return model, found, Grid(sizes["T"], sizes["H"], sizes["W"])


def lively(config: MMDiTConfig) -> MMDiT:
    """A model that no zero or near-zero initial weight makes simple."""
    torch.manual_seed(0)
    model = MMDiT(config)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    return model


def inputs_for(config: MMDiTConfig, grid: Grid, batch: int = 2, words: int = 5) -> dict[str, Any]:
    """Random arguments of a forward pass; a condition where the model has an input for it."""
    draw = torch.Generator().manual_seed(1)
    text = TextStates(
        torch.randn(batch, words, config.context_in_dim, generator=draw),
        torch.randn(batch, config.vec_in_dim, generator=draw),
    )
    x = torch.randn(batch, grid.tokens, config.in_channels, generator=draw)
    t = torch.rand(batch, generator=draw)
    cond = torch.randn(batch, grid.tokens, config.cond_channels, generator=draw) if config.cond_embed else None
    return {"x_BLC": x, "t_B": t, "text": text, "grid": grid, "cond_BLK": cond}
