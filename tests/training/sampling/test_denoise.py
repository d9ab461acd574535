"""Golden trajectories, and what guidance computes on the way."""

from __future__ import annotations

import pytest

pytest.importorskip("torch")

import torch

from tests.support import golden
from tests.support.toy import ToyDenoiser
from training.flow import Shift
from training.models.base import TextStates
from training.sampling.denoise import Settings, Told, Walk
from training.sampling.guidance import Guidance
from training.tokens import pack

CASES = ("image10", "video10", "video50", "patch1_50", "noshift10")
UNGUIDED = Guidance(text=1.0, image=1.0)


def states(seed: int, count: int = 1) -> TextStates:
    generator = torch.Generator().manual_seed(seed)
    return TextStates(torch.randn(count, 5, 8, generator=generator), torch.randn(count, 6, generator=generator))


@pytest.mark.parametrize("name", CASES)
def test_golden_trajectory(name: str) -> None:
    found, settings = golden.tensors("sampler_unguided")
    case = next(case for case in settings["cases"] if case["case"] == name)
    told = Told(TextStates(found[f"{name}.in.prompt_txt"], found[f"{name}.in.prompt_vec"]), states(0, case["batch"]))
    walk = Walk(
        ToyDenoiser(),
        told,
        found[f"{name}.in.noise"],
        case["patch"],
        Settings(case["steps"], UNGUIDED, Shift(on=case["shift"], given=case["alpha_override"])),
    )
    golden.close(walk.times, found[f"{name}.times"], atol=1e-6, rtol=1e-6)
    seen: list[torch.Tensor] = []

    def advance(x: torch.Tensor, step: int) -> torch.Tensor:
        seen.append(x)
        return walk.step(x, step)

    golden.close(walk.run(advance), found[f"{name}.out.latent"])
    for step, state in golden.below(found, f"{name}.state.").items():
        golden.close(seen[int(step)], state)


@pytest.mark.parametrize("batched", [True, False])
@pytest.mark.parametrize("conditioned", [True, False])
def test_a_guided_step_is_the_formula(batched: bool, conditioned: bool) -> None:
    """v(0,0) + g_img [v(0,img) - v(0,0)] + g_txt [v(txt,img) - v(0,img)], each from a call of its own."""
    torch.manual_seed(0)
    noise, condition = torch.randn(2, 4, 3, 4, 6), torch.zeros(2, 5, 3, 4, 6)
    if conditioned:
        condition[:, 0, 0], condition[:, 1:, 0] = 1, torch.randn(2, 4, 4, 6)
    text, empty = states(1, 2), states(2)
    guidance = Guidance(text=5.0, image=2.5, dynamic_image=False)
    walk = Walk(ToyDenoiser(), Told(text, empty, condition), noise, 2, Settings(4, guidance, batched=batched))
    x, t = walk.start_BLC, walk.times[0]
    cond = pack(condition, 2)
    both = TextStates(empty.tokens_BMD.expand(2, -1, -1), empty.pooled_BP.expand(2, -1))
    toy, times = ToyDenoiser(), t.expand(2)
    v_none = toy(x, times, both, walk.grid, torch.zeros_like(cond))
    v_image, v_all = toy(x, times, both, walk.grid, cond), toy(x, times, text, walk.grid, cond)
    want = v_none + 2.5 * (v_image - v_none) + 5.0 * (v_all - v_image)
    golden.close(walk.velocity(x, t, walk.scales(0)), want, atol=1e-5, rtol=1e-5)


def test_steps_without_guidance_run_one_pass() -> None:
    toy = ToyDenoiser()
    walk = Walk(toy, Told(states(1), states(2)), torch.randn(1, 4, 3, 4, 4), 2, Settings(20, batched=False))
    walk.run()
    # 10 whole steps and 5 of the next 10 with two passes (t2v), 5 with one.
    assert toy.calls == 15 * 2 + 5


def test_prompts_must_fit_the_batch() -> None:
    with pytest.raises(AssertionError, match="3 prompts for 2 samples"):
        Walk(ToyDenoiser(), Told(states(1, 3), states(2)), torch.randn(2, 4, 1, 4, 4), 2, Settings(1))
