"""Small MMDiTs for tests: with random or golden weights, and inputs for them."""

from __future__ import annotations

from typing import Any

import pytest
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


def flux_transformer(config: MMDiTConfig, guidance: bool = False) -> Any:
    """diffusers' own network of the same size, with random weights."""
    diffusers = pytest.importorskip("diffusers")
    torch.manual_seed(3)
    model = diffusers.FluxTransformer2DModel(
        patch_size=1,
        in_channels=config.in_channels,
        num_layers=config.depth,
        num_single_layers=config.depth_single_blocks,
        attention_head_dim=config.head_dim,
        num_attention_heads=config.num_heads,
        joint_attention_dim=config.context_in_dim,
        pooled_projection_dim=config.vec_in_dim,
        guidance_embeds=guidance,
        axes_dims_rope=config.axes_dim,
    )
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    return model.eval()


def flux_output(theirs: Any, inputs: dict[str, Any]) -> Any:
    """What it gives for the arguments of our network, whose condition it has no input for."""
    with torch.no_grad():
        return theirs(
            hidden_states=inputs["x_BLC"],
            encoder_hidden_states=inputs["text"].tokens_BMD,
            pooled_projections=inputs["text"].pooled_BP,
            timestep=inputs["t_B"],
            img_ids=inputs["grid"].positions(),
            txt_ids=torch.zeros(inputs["text"].tokens_BMD.shape[1], 3),
            return_dict=False,
        )[0]


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
