"""What is trained is what runs later: the rebuilder is encode and decode; the judge keeps nothing but its weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import pytest

torch = pytest.importorskip("torch")

from curation.errors import UserError
from tests.support.toy_autoencoder import CONFIG
from training.autoencoder.discriminator import DiscriminatorConfig, PatchDiscriminator
from training.autoencoder.networks import Judge, Networks, Rebuilder
from training.autoencoder.perception import perceptual
from training.autoencoder.settings import OPTIMIZER, PACE, PHASE_1, RATE, Distillation, Settings
from training.models.dcae import VideoDcAe, preset


def video(frames: int) -> Any:
    return torch.rand(1, 3, frames, 16, 16, generator=torch.Generator().manual_seed(1)) * 2 - 1


@pytest.mark.parametrize("frames", [1, 2, 8])
def test_the_rebuilder_is_encode_and_decode(frames: int) -> None:
    """A still image, a clip whose latent is one frame, and a longer one."""
    torch.manual_seed(0)
    autoencoder = VideoDcAe(CONFIG)
    with torch.no_grad():
        want = autoencoder.decode(autoencoder.encode(video(frames)), still=frames == 1)
        got = Rebuilder(autoencoder)(video(frames)).video_B3THW
    assert got.shape == want.shape == (1, 3, frames, 16, 16) and torch.allclose(got, want, atol=1e-6)


def test_the_aligned_stage_has_a_position_a_patch() -> None:
    torch.manual_seed(0)
    rebuilder = Rebuilder(VideoDcAe(CONFIG), 1, 5)
    made = rebuilder(video(4))
    assert made.projected_BDThw is not None and made.projected_BDThw.shape == (1, 5, 4, 8, 8)
    layers = rebuilder.layers()
    names = ("decoder.project_out.op_list.2.conv.weight", "encoder.stages.0.op_list.1.main.conv.weight")
    assert layers.aligned is not None
    for layer, name in zip((layers.last, layers.aligned), names, strict=True):
        loss = made.video_B3THW.square().mean() + made.projected_BDThw.mean()
        (want,) = torch.autograd.grad(loss, rebuilder.autoencoder.get_parameter(name), retain_graph=True)
        got = layer.gradient(loss)
        assert got.shape == want.shape and torch.allclose(got, want, rtol=1e-4, atol=1e-6 * want.norm().item())
    assert all(weight.grad is None for weight in rebuilder.parameters())
    with torch.no_grad():
        assert rebuilder(video(4)).projected_BDThw is None


def test_the_report_s_third_stage_pairs_with_dinov2() -> None:
    """512 channels of 32x32 for 256 pixels: DINOv2's patches of 14 in 448 pixels."""
    with torch.device("meta"):
        rebuilder = Rebuilder(VideoDcAe(preset("f32t4c128")), Distillation().stage, 1024)
        made = rebuilder(torch.empty(1, 3, 8, 256, 256))
    assert rebuilder.projection is not None and rebuilder.projection.in_channels == 512
    assert made.projected_BDThw is not None and made.projected_BDThw.shape == (1, 1024, 8, 32, 32)


@pytest.mark.parametrize("stage", [0, 4, 6])
def test_a_stage_without_a_frame_for_each_frame_is_refused(stage: int) -> None:
    with torch.device("meta"):
        autoencoder = VideoDcAe(preset("tiny"))
        with pytest.raises(UserError, match=f"distillation.stage = {stage}: .* only stages 1 to 3"):
            Rebuilder(autoencoder, stage, 8)


@pytest.mark.parametrize("norm", ["batch", "group"])
def test_the_judge_keeps_nothing_but_its_weights(norm: Literal["batch", "group"]) -> None:
    torch.manual_seed(0)
    judge = Judge(PatchDiscriminator(DiscriminatorConfig(channels=4, layers=2, dropout=0.0, norm=norm)))
    plain = PatchDiscriminator(DiscriminatorConfig(channels=4, layers=2, dropout=0.0, norm=norm))
    plain.load_state_dict(judge.network.state_dict())
    before = {name: buffer.clone() for name, buffer in judge.named_buffers()}
    real, fake = video(4), video(4).flip(-1).requires_grad_()
    logits = judge(real, fake)
    assert torch.equal(logits[0], plain(real)) and torch.equal(logits[1], plain(fake))
    assert all(torch.equal(buffer, before[name]) for name, buffer in judge.named_buffers())
    assert bool(before) == (norm == "batch")
    again = judge.of(fake)
    assert torch.equal(again, logits[1])
    again.sum().backward()
    assert fake.grad is not None and all(weight.grad is None for weight in judge.parameters())


def test_the_report_s_numbers() -> None:
    settings = Settings()
    assert settings.adversary is not None and settings.distillation is None
    assert (settings.lpips, settings.stills, settings.adversary.weight) == (0.5, 0.2, 0.05)
    assert settings.adversary.start == PHASE_1 == 250_000
    assert (RATE, RATE * PACE, OPTIMIZER.weight_decay) == (5e-5, 1e-4, 0)
    with torch.device("meta"):
        networks = Networks.of(VideoDcAe(preset("tiny")), settings)
    assert networks.judge is not None and networks.rebuilder.projection is None


def test_lpips_is_there_or_refused_in_one_line(tmp_path: Path) -> None:
    assert perceptual(Settings(lpips=0), None, None) is None
    with pytest.raises(UserError, match=r"VGG16 .* no path was given; curl .*, or train without it: losses.lpips=0"):
        perceptual(Settings(), None, None)
    with pytest.raises(UserError, match=r"VGG16 of torchvision: nothing at .*, or train without it: losses.lpips=0"):
        perceptual(Settings(), tmp_path / "vgg16.pth", None)
