"""Losses of autoencoder training and the discriminator, against the public ones."""

from __future__ import annotations

from typing import Any

import pytest

torch = pytest.importorskip("torch")

from tests.support import golden
from tests.training.dcae_golden import config_of
from training.autoencoder.discriminator import DiscriminatorConfig, PatchDiscriminator
from training.autoencoder.losses import (
    Perceptual,
    discriminator_loss,
    generator_loss,
    gradient_ratio,
    reconstruction_loss,
    weighted_generator_loss,
)
from training.models.dcae import VideoDcAe

Golden = tuple[dict[str, Any], dict[str, dict[str, Any]]]


@pytest.fixture(scope="module")
def losses() -> Golden:
    found, settings = golden.tensors("ae_losses")
    return found, {case["case"]: case for case in settings["cases"]}


def listed(values: Any) -> Perceptual:
    """A perceptual distance that gives the values of the file."""

    def distance(real: Any, fake: Any) -> Any:
        assert len(real) == len(fake) == len(values)
        return values

    return distance


def sums(got: Any, want: Any) -> None:
    """Sums over a clip reach 10,000: relative 1e-3 (golden README)."""
    golden.close(got, want, atol=1e-4, rtol=1e-3)


@pytest.mark.parametrize("name", ["recon0", "recon1", "recon2"])
def test_reconstruction(losses: Golden, name: str):
    found, cases = losses
    mine, case = golden.below(found, f"{name}."), cases[name]
    perceptual = listed(mine["perceptual_per_frame"]) if "perceptual_per_frame" in mine else None
    rebuilt = mine["reconstruction"].clone().requires_grad_()
    got = reconstruction_loss(mine["video"], rebuilt, perceptual, case["perceptual_weight"], case["logvar"])
    sums(got.l1, mine["recon_loss"])
    sums(got.perceptual, mine["perceptual_loss"])
    sums(got.nll, mine["nll_loss"])
    (grad,) = torch.autograd.grad(got.nll, rebuilt)
    golden.close(grad, mine["grad_reconstruction"], atol=1e-5, rtol=1e-3)


def test_the_perceptual_distance_sees_frames_and_passes_its_gradient():
    video, rebuilt = torch.randn(2, 3, 4, 5, 6), torch.randn(2, 3, 4, 5, 6, requires_grad=True)

    def squared(real: Any, fake: Any) -> Any:
        assert real.shape == fake.shape == (8, 3, 5, 6)
        assert torch.equal(real[5], video[1, :, 1])
        return (real - fake).square().mean((1, 2, 3))

    got = reconstruction_loss(video, rebuilt, squared)
    golden.close(got.perceptual, (video - rebuilt).square().mean() * 3 * 5 * 6)
    (grad,) = torch.autograd.grad(got.perceptual, rebuilt)
    golden.close(grad, 2 * (rebuilt - video) / 8)


@pytest.mark.parametrize("name", ["disc0", "disc1"])
def test_discriminator_losses(losses: Golden, name: str):
    mine = golden.below(losses[0], f"{name}.")
    real, fake = (mine[side].clone().requires_grad_() for side in ("real", "fake"))
    hinge = discriminator_loss(real, fake)
    golden.close(hinge, mine["hinge"])
    golden.close(discriminator_loss(real, fake, "vanilla"), mine["vanilla"])
    golden.close(discriminator_loss(real, fake, "wgan"), mine["wgan_gp"])
    golden.close(discriminator_loss(real, fake, step=2, start=3), mine["hinge_before_start"])
    golden.close(discriminator_loss(real, fake, step=3, start=3), mine["hinge"])
    grads = torch.autograd.grad(hinge, (real, fake))
    for grad, side in zip(grads, ("real", "fake"), strict=True):
        golden.close(grad, mine[f"grad_{side}"], atol=1e-5, rtol=1e-3)


@pytest.mark.parametrize("name", ["adaptive0", "adaptive1", "adaptive2"])
def test_adaptive_weight(losses: Golden, name: str):
    """Losses that are linear in the last layer have the gradients of the file."""
    found, cases = losses
    mine, case = golden.below(found, f"{name}."), cases[name]
    golden.close(generator_loss(mine["logits"]), mine["generator_loss"])
    golden.close(case["disc_weight"] * gradient_ratio(mine["grad_nll"], mine["grad_generator"]), mine["weight"])
    layer = torch.zeros_like(mine["grad_nll"], requires_grad=True)
    nll = (layer * mine["grad_nll"]).sum()
    logits = mine["logits"] - (layer * mine["grad_generator"]).sum()
    got = weighted_generator_loss(nll, logits, layer, case["disc_weight"], case["global_step"], case["gen_start"])
    golden.close(got, mine["weighted_generator_loss"])


def test_discriminator_names_and_shapes_are_the_public_ones():
    manifest = golden.table("manifest_dcae_discriminator")
    with torch.device("meta"):
        model = PatchDiscriminator()
    assert {name: list(p.shape) for name, p in model.named_parameters()} == manifest["parameters"]
    assert {name: list(b.shape) for name, b in model.named_buffers()} == manifest["buffers"]
    assert sum(p.numel() for p in model.parameters()) == 18_823_553
    with torch.device("meta"):
        assert model.eval()(torch.zeros(1, 3, 32, 256, 256)).shape == (1, 1, 8, 8, 8)


def small_discriminator(found: dict[str, Any]) -> PatchDiscriminator:
    model = PatchDiscriminator(DiscriminatorConfig(channels=4, dropout=0.0))
    model.load_state_dict(golden.below(found, "discriminator.weight."))
    return model


def test_discriminator(losses: Golden):
    mine = golden.below(losses[0], "discriminator.")
    model = small_discriminator(losses[0])
    golden.close(model.eval()(mine["in"]), mine["out_eval"])
    video = mine["in"].clone().requires_grad_()
    out = model.train()(video)
    golden.close(out, mine["out_train"])
    (grad,) = torch.autograd.grad((out * mine["cotangent"]).sum(), video)
    golden.close(grad, mine["grad_in"], atol=1e-5, rtol=1e-3)
    after = golden.below(mine, "after_train.")
    buffers = dict(model.named_buffers())
    assert len(after) == 10
    for name, value in after.items():
        golden.close(buffers[name], value)


def test_group_norm_takes_each_sample_alone():
    torch.manual_seed(0)
    videos = torch.randn(2, 3, 4, 64, 64)
    differs = {}
    for norm in ("batch", "group"):
        model = PatchDiscriminator(DiscriminatorConfig(channels=4, dropout=0.0, norm=norm)).train()
        differs[norm] = not torch.allclose(model(videos)[:1], model(videos[:1]), atol=1e-5)
    assert differs == {"batch": True, "group": False}


def test_discriminator_starts_as_the_public_one():
    torch.manual_seed(0)
    state = PatchDiscriminator().state_dict()
    for name, (mean, std) in {"main.10.weight": (0.0, 0.02), "main.11.weight": (1.0, 0.02)}.items():
        assert state[name].mean().item() == pytest.approx(mean, abs=0.005)
        assert state[name].std().item() == pytest.approx(std, rel=0.1)


def test_one_generator_and_one_discriminator_step(losses: Golden):
    found, cases = losses
    mine, case = golden.below(found, "step."), cases["step"]
    ae = VideoDcAe(config_of(case["autoencoder"], axes="none"))
    ae.load_state_dict(golden.below(mine, "weight."))
    discriminator = small_discriminator(found).train()

    rebuilt = ae.decode(ae.encode(mine["video"]))
    golden.close(rebuilt, mine["reconstruction"])
    recon = reconstruction_loss(mine["video"], rebuilt, listed(mine["perceptual_per_frame"]), case["perceptual_weight"])
    sums(recon.l1, mine["recon_loss"])
    sums(recon.perceptual, mine["perceptual_loss"])
    sums(recon.nll, mine["nll_loss"])

    logits = discriminator(rebuilt)
    golden.close(generator_loss(logits), mine["generator_loss"])
    weighted = weighted_generator_loss(recon.nll, logits, ae.last_layer, case["disc_weight"])
    sums(weighted, mine["weighted_generator_loss"])
    total = recon.nll + weighted
    sums(total, mine["total"])
    first_layer = ae.get_parameter("encoder.project_in.conv.weight")
    first, last = torch.autograd.grad(total, (first_layer, ae.last_layer))
    golden.close(first, mine["grad.first_layer"], atol=1e-2, rtol=1e-3)
    golden.close(last, mine["grad.last_layer"], atol=1e-2, rtol=1e-3)

    with torch.no_grad():
        real, fake = discriminator(mine["video"]), discriminator(rebuilt.detach())
    golden.close(real, mine["real_logits"])
    golden.close(fake, mine["fake_logits"])
    golden.close(discriminator_loss(real, fake), mine["discriminator_loss"])
