"""The models on a GPU: the same numbers as on a CPU, in float32, and near them in bfloat16."""

from __future__ import annotations

import pytest

pytest.importorskip("torch")

import torch

from training.models.base import TextStates
from training.models.dcae import VideoDcAe, preset
from training.models.mmdit import MMDiT
from training.models.mmdit import preset as network
from training.offload import Offload
from training.sampling.denoise import Settings
from training.sampling.exact import exact
from training.sampling.guidance import Guidance
from training.sampling.sampler import Request, Sampler
from training.tokens import Grid

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU"),
]
GRID = Grid(4, 6, 10)


class Fixed:
    """A text encoder with one answer, drawn on the CPU."""

    def __init__(self, device: str) -> None:
        drawn = torch.Generator().manual_seed(0)
        self.states = [torch.randn(1, *shape, generator=drawn).to(device) for shape in ((9, 32), (16,))]

    def encode(self, prompts: object) -> TextStates:
        return TextStates(*self.states)


def mmdit(device: str, dtype: torch.dtype) -> MMDiT:
    torch.manual_seed(0)
    return MMDiT(network("tiny_dcae")).to(device, dtype)


def inputs(device: str, dtype: torch.dtype) -> tuple[torch.Tensor, torch.Tensor, TextStates]:
    drawn = torch.Generator().manual_seed(1)
    x, tokens = torch.randn(2, GRID.tokens, 8, generator=drawn), torch.randn(2, 9, 32, generator=drawn)
    text = TextStates(tokens.to(device, dtype), torch.randn(2, 16, generator=drawn).to(device, dtype))
    return x.to(device, dtype), torch.tensor([0.3, 0.9], device=device), text


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-4), (torch.bfloat16, 5e-2)])
@pytest.mark.parametrize("compiled", [False, True])
def test_the_mmdit_and_its_gradients(dtype: torch.dtype, tolerance: float, compiled: bool) -> None:
    on_cpu, on_gpu = mmdit("cpu", torch.float32), mmdit("cuda", dtype)
    if compiled:
        on_gpu.compile_blocks()
    found = []
    for model, device, kind in ((on_cpu, "cpu", torch.float32), (on_gpu, "cuda", dtype)):
        x, t, text = inputs(device, kind)
        out = model(x, t, text, GRID)
        out.float().square().mean().backward()
        gradient = model.get_parameter("double_blocks.0.img_attn.q_proj.weight").grad
        assert gradient is not None
        found.append((out.float().cpu(), gradient.float().cpu()))
    for ours, theirs in zip(*found, strict=True):
        assert (ours - theirs).norm() <= tolerance * ours.norm()


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-4), (torch.bfloat16, 5e-2)])
def test_the_dcae(dtype: torch.dtype, tolerance: float) -> None:
    torch.manual_seed(0)
    on_cpu = VideoDcAe(preset("tiny"))
    with torch.no_grad():
        for parameter in on_cpu.parameters():
            parameter.mul_(5)  # far from the identity that a new network is
    torch.manual_seed(1)
    video = torch.rand(1, 3, 8, 64, 96) * 2 - 1
    with torch.no_grad():
        latent, rebuilt = on_cpu.encode(video), on_cpu.decode(on_cpu.encode(video))
        on_gpu = on_cpu.to("cuda", dtype)
        theirs = on_gpu.encode(video.cuda()).cpu()
        back = on_gpu.decode(latent.cuda()).float().cpu()
    assert (latent - theirs).norm() <= tolerance * latent.norm()
    assert (rebuilt - back).norm() <= tolerance * rebuilt.norm()


def test_a_seed_starts_the_same_video_on_any_device() -> None:
    made = []
    for device in ("cpu", "cuda"):
        torch.manual_seed(0)
        autoencoder = VideoDcAe(preset("tiny")).to(device)
        sampler = Sampler(mmdit(device, torch.float32), autoencoder, Fixed(device), torch.device(device))
        made.append(sampler(Request(("a",), 8, 64, 96, seeds=(3,)), Settings(3, Guidance())).latent_BCTHW.cpu())
    torch.testing.assert_close(made[0], made[1], atol=1e-3, rtol=1e-3)


def test_inputs_of_recomputed_blocks_wait_in_pinned_memory_and_change_no_bit() -> None:
    """Copied out and back in a stream of its own, twice, through the same buffers."""
    model, offload = mmdit("cuda", torch.float32), Offload()
    text = Fixed("cuda").encode([""])
    drawn = torch.Generator().manual_seed(1)
    x_BLC = torch.randn(1, GRID.tokens, model.config.in_channels, generator=drawn).cuda()
    for _ in range(2):
        found = []
        for keep in (None, offload):
            model.recompute(2, 2, keep)
            with exact(1):
                model(x_BLC, torch.full((1,), 0.5, device="cuda"), text, GRID).square().mean().backward()
            found.append([weight.grad for weight in model.parameters()])
            model.zero_grad()
        assert all(torch.equal(a, b) for a, b in zip(*found, strict=True))
    assert sum(len(free) for free in offload._buffers.values()) == 6
