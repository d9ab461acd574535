"""The models with kernels behind `training.ops` give what they give with plain torch, gradients too."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
import torch
from torch import Tensor, nn

from training import ops
from training.models.base import TextStates
from training.models.dcae.blocks import LiteMla
from training.models.mmdit import MMDiT, MMDiTConfig
from training.tokens import Grid


@pytest.fixture
def kernels() -> Iterator[Callable[[bool], None]]:
    yield ops.use_kernels
    ops.use_kernels(False)


def gradients(model: nn.Module, out: Tensor) -> list[Tensor]:
    model.zero_grad()
    out.square().mean().backward()
    return [p.grad.clone() for p in model.parameters() if p.grad is not None]


def compare(model: nn.Module, run: Callable[[], Tensor], kernels: Callable[[bool], None]) -> None:
    found = []
    for on in (False, True):
        kernels(on)
        out = run()
        found.append([out.detach(), *gradients(model, out)])
    assert len(found[0]) == len(found[1]) > 5
    for plain, ours in zip(*found, strict=True):
        torch.testing.assert_close(ours, plain, atol=2e-5, rtol=2e-4)


@pytest.mark.parametrize("fused", [False, True])
def test_the_mmdit(device: str, kernels: Callable[[bool], None], fused: bool) -> None:
    torch.manual_seed(0)
    config = MMDiTConfig(
        in_channels=8,
        patch_size=1,
        context_in_dim=24,
        vec_in_dim=12,
        hidden_size=64,
        num_heads=2,
        axes_dim=(8, 12, 12),
        depth=1,
        depth_single_blocks=1,
        mlp_ratio=2.0,
        fused_qkv=fused,
        interleaved_rope=fused,
    )
    model = MMDiT(config).to(device)
    grid = Grid(2, 3, 5)
    text = TextStates(torch.randn(2, 7, 24, device=device), torch.randn(2, 12, device=device))
    x, t = torch.randn(2, grid.tokens, 8, device=device), torch.tensor([0.2, 0.9], device=device)
    compare(model, lambda: model(x, t, text, grid), kernels)


def test_linear_attention(device: str, kernels: Callable[[bool], None]) -> None:
    torch.manual_seed(0)
    block = LiteMla(32).to(device)
    for parameter in block.parameters():
        nn.init.normal_(parameter, std=0.3)
    x = torch.randn(1, 32, 2, 4, 5, device=device)
    compare(block, lambda: block(x), kernels)
