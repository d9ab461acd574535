"""Flow matching against the published values, and against what the formulas promise."""

from __future__ import annotations

import itertools
from typing import Any

import pytest

pytest.importorskip("torch")

import torch

from tests.support import golden
from tests.support.toy import ToyAutoencoder, ToyDenoiser
from training import flow
from training.flow import Shift
from training.models.base import LatentSpec, TextStates
from training.tokens import Grid, grid_of, pack, unpack


def test_the_published_shift() -> None:
    table = golden.table("timestep_shift")
    t = torch.tensor(table["t"], dtype=torch.float64)
    for row in table["rows"]:
        patch = row["patch"]
        grid = Grid(row["T"], row["H"] // patch, row["W"] // patch)
        for kind, shift in (("sampling", Shift()), ("training", Shift(public_patch=patch))):
            assert shift.alpha(grid) == pytest.approx(row[f"alpha_{kind}"], abs=1e-12)
            want = torch.tensor(row[f"shifted_{kind}"], dtype=torch.float64)
            golden.close(shift(t, grid), want, atol=1e-12, rtol=0)


def test_the_published_schedules() -> None:
    for row in golden.table("sampler_schedule"):
        grid = Grid(row["latent_frames"], 1, row["tokens_per_frame"])
        times = flow.times(row["num_steps"], grid, Shift(row["shift"], row["alpha_override"]))
        assert times.dtype == torch.float32
        golden.close(times, torch.tensor(row["timesteps"]), atol=1e-6, rtol=0)


def test_the_values_that_the_report_works_with() -> None:
    causal, plain = LatentSpec(16, 4, 8, True, 2), LatentSpec(128, 4, 32, False, 1)
    for frames, side, want in ((1, 256, 1.0), (33, 256, 3.0), (129, 256, 5.745), (129, 768, 11.872)):
        assert flow.alpha(causal.grid(frames, side, side)) == pytest.approx(want, abs=1e-3)
    long = plain.grid(128, 768, 768)
    assert flow.alpha(long) == pytest.approx(6.60, abs=0.005)
    assert flow.alpha(long, public_patch=1) == pytest.approx(5.33, abs=0.005)


@pytest.mark.parametrize(("rows", "columns"), [(9, 9), (7, 5), (1, 3), (18, 31)])
def test_the_public_count_of_tokens_is_rounded_down(rows: int, columns: int) -> None:
    """The public training script counts `H * W // 4` of a latent with odd sides."""
    got = flow.alpha(Grid(1, rows, columns), public_patch=1)
    assert got == flow.alpha(Grid(1, 1, rows * columns // 4))
    assert got < flow.alpha(Grid(1, rows, columns))


def _step_cases() -> list[dict[str, Any]]:
    return golden.tensors("training_step")[1]["cases"]


@pytest.mark.parametrize(("causal", "frames"), [(True, 1), (True, 9), (False, 1), (False, 8)])
def test_the_toy_autoencoder_keeps_what_it_decodes(causal: bool, frames: int) -> None:
    autoencoder = ToyAutoencoder(torch.randn(5, 3), causal)
    latent = autoencoder.encode(torch.randn(2, 3, frames, 4, 6))
    assert latent.shape[1:] == (5, *autoencoder.spec.size(frames, 4, 6))
    video = autoencoder.decode(latent)
    assert video.shape == (2, 3, autoencoder.spec.video_frames(latent.shape[2]), 4, 6)
    golden.close(autoencoder.encode(video), latent)


def test_the_published_training_steps() -> None:
    found, _ = golden.tensors("training_step")
    for case in _step_cases():
        f, patch = golden.below(found, f"{case['case']}."), case["patch"]
        latent = ToyAutoencoder(f["in.ae_matrix"], case["causal_ae"], patch).encode(f["in.video"])
        golden.close(latent, f["latent"])
        grid = grid_of(latent, patch)
        data, noise = pack(latent, patch), f["noise_tokens"]
        golden.close(data, f["x0_tokens"])
        t = Shift(public_patch=patch)(torch.sigmoid(f["in.normal_for_t"]), grid)
        golden.close(t, f["t"])
        x_t = flow.noisy(data, noise, t)
        golden.close(x_t, f["xt_tokens"])
        states = TextStates(f["in.txt"], f["in.y_vec"])
        prediction = ToyDenoiser()(x_t, t, states, grid, f.get("cond_tokens"))
        golden.close(prediction, f["prediction"])
        target = flow.velocity(data, noise)
        golden.close(target, f["target"])
        golden.close(flow.loss(prediction, target), f["loss"])


def test_the_published_masked_loss() -> None:
    found, settings = golden.tensors("masked_loss")
    for case in settings["cases"]:
        f = golden.below(found, f"{case['case']}.")
        mask_BT = f["mask"][:, :, 0, 0]
        golden.close(flow.loss_without_references(f["prediction"], f["target"], mask_BT), f["loss"])
        golden.close(flow.loss(f["prediction"], f["target"]), f["loss_unmasked"])


@pytest.mark.parametrize(
    ("mask", "counted"),
    [
        ([0, 0, 0, 0], [0, 1, 2, 3]),
        ([1, 0, 0, 0], [1, 2, 3]),
        ([0, 0, 0, 1], [0, 1, 2]),
        ([1, 0, 0, 1], [1, 2]),
        ([1, 1, 0, 0], [0, 1, 2, 3]),
        ([0, 0, 1, 1], [0, 1, 2, 3]),
    ],
)
def test_an_end_frame_is_left_out_when_it_was_an_image(mask: list[int], counted: list[int]) -> None:
    error_T = torch.tensor([1.0, 10.0, 100.0, 1000.0])
    prediction = error_T.sqrt().repeat_interleave(6)[None, :, None]
    got = flow.loss_without_references(prediction, torch.zeros_like(prediction), torch.tensor([mask]))
    golden.close(got, error_T[counted].mean())


def test_a_clip_of_given_frames_alone_has_no_loss_and_no_nan() -> None:
    prediction = torch.randn(1, 4, 3, requires_grad=True)
    got = flow.loss_without_references(prediction, torch.zeros(1, 4, 3), torch.tensor([[1, 1]]))
    got.backward()
    assert got.item() == 0
    assert prediction.grad is not None and not prediction.grad.any()


def test_the_target_is_the_slope_of_the_line() -> None:
    data, noise = torch.randn(2, 3, 5, 4, 4).unbind()
    early, late = torch.full((3,), 0.25), torch.full((3,), 0.75)
    slope = (flow.noisy(data, noise, late) - flow.noisy(data, noise, early)) / 0.5
    golden.close(slope, flow.velocity(data, noise), atol=1e-5)
    golden.close(flow.noisy(data, noise, torch.ones(3)), noise)


def test_half_precision_data_is_mixed_in_float32() -> None:
    data, noise = (torch.randn(2, 8, 4).to(torch.bfloat16) for _ in range(2))
    t = torch.tensor([0.1234567, 0.9876543])
    golden.close(flow.noisy(data, noise, t), flow.noisy(data.float(), noise.float(), t), 1e-6, 1e-6)
    assert flow.velocity(data, noise).dtype == torch.float32
    with pytest.raises(AssertionError, match="float32"):
        flow.noisy(data, noise, t.to(torch.bfloat16))


def test_times_follow_their_generator_and_their_grid() -> None:
    small, large = Grid(1, 16, 16), Grid(33, 48, 48)
    first = flow.draw_times(4096, small, torch.Generator().manual_seed(7))
    again = flow.draw_times(4096, small, torch.Generator().manual_seed(7))
    shifted = flow.draw_times(4096, large, torch.Generator().manual_seed(7))
    assert torch.equal(first, again)
    assert first.dtype == torch.float32 and ((first > 0) & (first < 1)).all()
    assert first.logit().mean().item() == pytest.approx(0, abs=0.08)
    assert first.logit().std().item() == pytest.approx(1, abs=0.05)
    golden.close(shifted.logit() - first.logit(), torch.full((4096,), flow.alpha(large)).log(), atol=1e-2, rtol=0)


@pytest.mark.parametrize("shift", [Shift(), Shift(on=False), Shift(given=7.0)])
def test_a_schedule_falls_from_one_to_zero(shift: Shift) -> None:
    times = flow.times(50, Grid(33, 48, 48), shift)
    assert times[0] == 1 and times[-1] == 0
    assert (times.diff() < 0).all()


def test_the_published_walks_of_a_sampler() -> None:
    found, settings = golden.tensors("sampler_unguided")
    for case in settings["cases"]:
        f, patch = golden.below(found, f"{case['case']}."), case["patch"]
        grid = grid_of(f["in.noise"], patch)
        times = flow.times(case["steps"], grid, Shift(case["shift"], case["alpha_override"]))
        golden.close(times, f["times"], atol=1e-6, rtol=0)
        x, text, network = pack(f["in.noise"], patch), TextStates(f["in.prompt_txt"], f["in.prompt_vec"]), ToyDenoiser()
        for i, (now, then) in enumerate(itertools.pairwise(times)):
            if f"state.{i:02}" in f:
                golden.close(x, f[f"state.{i:02}"])
            x = x + (then - now) * network(x, now.expand(len(x)), text, grid)
        golden.close(unpack(x, grid, patch), f["out.latent"])
