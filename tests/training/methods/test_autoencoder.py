"""The autoencoder's loss is what its parts say, weighed as defined; it learns; what is drawn depends on no rank."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from curation.errors import UserError
from tests.support import toy_autoencoder as toys
from tests.support.toy_autoencoder import CLIP, WIDE, Drawn, ToyAutoencoder, adversary
from tests.support.toy_run import Kept
from training.autoencoder.alignment import alignment_loss
from training.autoencoder.discriminator import DiscriminatorConfig
from training.autoencoder.settings import Distillation, Settings
from training.autoencoder.teacher import features
from training.callbacks.reconstruction import Reconstruction
from training.data.batches import MicroBatch
from training.methods.autoencoder import Autoencoding, ClipInputs
from training.models.dcae.network import recompute
from training.parallel.pair import Two
from training.parallel.single import Single

CPU = torch.device("cpu")
PLAIN = Settings(adversary=None)
STEADY = replace(adversary(), discriminator=replace(adversary().discriminator, dropout=0.0))
"""A discriminator without dropout, so that two forwards give the same."""
ALIGNED = "autoencoder.encoder.stages.0.op_list.1.main.conv.weight"
"""The last kernel of the toy's first stage."""


def method(settings: Settings, **changes: Any) -> Autoencoding:
    return ToyAutoencoder(Path(), settings, **changes).method()


def inputs(found: Autoencoding, step: int = 0, number: int = 0) -> ClipInputs:
    """Of a micro-batch that is no still: 0 of step 0 is none with the toy's seed, nor with 43."""
    return found.prepare(step, MicroBatch(number, CLIP, (1,)))


def called(found: Autoencoding, given: ClipInputs) -> Any:
    networks = found.networks
    model = networks.rebuilder if networks.judge is None else Two(networks.rebuilder, networks.judge)
    return found.loss(model, given, torch.float32)


def gradient(loss: Any, weight: Any) -> Any:
    return torch.autograd.grad(loss, weight, retain_graph=True)[0]


def test_it_learns_a_few_clips(tmp_path: Path) -> None:
    """L1 and LPIPS fall, PSNR and SSIM rise, of the averaged weights, with stills among the clips."""
    toy = ToyAutoencoder(tmp_path, PLAIN, {CLIP: 2}, rate=5e-3)
    found, kept = [], Kept()
    run, _, _ = toy.parts()
    found.append(Reconstruction(run.engine, run.method, range(2), 1, lpips=toys.tiny_lpips()).measured())  # type: ignore[arg-type]
    run, averages, _ = toy.go(120, kept, saves=False)
    found.append(Reconstruction(run.engine, run.method, range(2), 1, averages, toys.tiny_lpips()).measured())  # type: ignore[arg-type]
    first, last = kept.reports[0].values, kept.reports[-1].values
    assert last["part/l1"] < 0.5 * first["part/l1"] and last["part/lpips"] < 0.5 * first["part/lpips"]
    (before, after) = found
    assert after["validation/psnr"] > before["validation/psnr"] + 3
    assert after["validation/ssim"] > before["validation/ssim"] + 0.1
    assert after["validation/lpips"] < 0.6 * before["validation/lpips"]


def test_the_loss_is_a_sum_over_pixels_and_a_mean_over_frames() -> None:
    found = method(PLAIN)
    given = inputs(found)
    losses = called(found, given)
    video, again = given.video, found.rebuilt(found.networks.rebuilder, given, torch.float32)
    frames, rebuilt = (x.transpose(1, 2).flatten(0, 1) for x in (video, again))
    assert found.perceptual is not None
    l1, lpips = (video - again).abs().mean(), found.perceptual(frames, rebuilt).mean()
    assert losses.total.item() == pytest.approx((3 * 16 * 16 * (l1 + 0.5 * lpips)).item(), rel=1e-5)
    assert losses.parts["l1"].item() == pytest.approx(l1.item(), rel=1e-5)
    assert losses.parts["lpips"].item() == pytest.approx(lpips.item(), rel=1e-5)
    assert losses.per_sample_B.tolist() == pytest.approx([l1.item()], rel=1e-5)
    assert set(losses.parts) == {"l1", "lpips"} and not any(part.requires_grad for part in losses.parts.values())


def test_without_lpips_there_is_l1_alone() -> None:
    found = method(replace(PLAIN, lpips=0.0))
    assert set(called(found, inputs(found)).parts) == {"l1"}


def test_the_adversarial_weight_is_its_definition() -> None:
    """0.05 |grad of L1 + LPIPS| / (|grad of -mean D| + 1e-4), both at the last layer."""
    found = method(Settings(adversary=STEADY))
    given, networks = inputs(found), found.networks
    assert networks.judge is not None
    losses = called(found, given)

    again = networks.rebuilder(given.video).video_B3THW
    alone = Autoencoding(found.clips, found.seed, replace(networks, judge=None), found.work, PLAIN, found.perceptual)
    nll = alone.loss(networks.rebuilder, replace(given, against=False), torch.float32).total
    nll_norm = gradient(nll, networks.rebuilder.autoencoder.last_layer).norm()
    term = -networks.judge.network(again).mean()
    weight = 0.05 * nll_norm / (gradient(term, networks.rebuilder.autoencoder.last_layer).norm() + 1e-4)
    assert losses.parts["adversarial_weight"].item() == pytest.approx(weight.item(), rel=1e-4)
    assert losses.parts["adversarial"].item() == pytest.approx(term.item(), rel=1e-4)
    real, fake = networks.judge.network(given.video), networks.judge.network(again.detach())
    own = 0.5 * ((1 - real).relu().mean() + (1 + fake).relu().mean())
    assert losses.parts["judge"].item() == pytest.approx(own.item(), rel=1e-4)
    assert losses.total.item() == pytest.approx((nll + weight * term + own).item(), rel=1e-4)


def test_each_network_learns_from_its_own_loss_alone() -> None:
    found = method(Settings(adversary=STEADY))
    given, networks = inputs(found), found.networks
    assert networks.judge is not None
    losses = called(found, given)
    losses.total.backward()
    kernel, layer = networks.judge.get_parameter("network.main.0.weight"), networks.rebuilder.autoencoder.last_layer
    again = networks.rebuilder(given.video).video_B3THW
    real, fake = networks.judge(given.video, again.detach())
    own = 0.5 * ((1 - real).relu().mean() + (1 + fake).relu().mean())
    assert kernel.grad is not None and torch.allclose(kernel.grad, gradient(own, kernel), rtol=1e-3, atol=1e-6)
    losses = called(found, given)
    whole = gradient(losses.total, layer)
    assert layer.grad is not None and torch.allclose(layer.grad, whole, rtol=1e-3, atol=1e-3)


def test_the_second_phase_begins_at_its_step(tmp_path: Path) -> None:
    """Until then the discriminator stands still and costs nothing; its own count of updates begins with it."""
    toy, kept = ToyAutoencoder(tmp_path, Settings(adversary=adversary(start=2))), Kept()
    drawn = {name: weight.clone() for name, weight in toy.parts()[0].engine.masters().items()}
    run, _, _ = toy.go(2, kept, saves=False)
    first = run.engine.masters()
    ours = [name for name in first if name.startswith("discriminator.")]
    assert len(ours) > 5 and all(torch.equal(first[name], drawn[name]) for name in ours)
    run, averages, _ = toy.go(4, kept, saves=False)
    second = run.engine.masters()
    # A hinge that both sides are within pushes the last bias up as hard as down.
    assert not any(torch.equal(second[name], drawn[name]) for name in ours if not name.endswith("bias"))
    assert second["discriminator.updates"].item() == 2
    assert not any(name.startswith("discriminator.") for name in averages.values)
    assert ["part/judge" in report.values for report in kept.reports] == [False, False, False, False, True, True]
    assert {"part/adversarial", "part/adversarial_weight", "part/real", "part/fake"} <= set(kept.reports[-1].values)


def test_stills_are_drawn_by_seed_step_and_micro_batch_alone() -> None:
    found = method(PLAIN, buckets={CLIP: 4, WIDE: 4})
    drawn = {(step, number): found._still(step, number) for step in range(200) for number in range(4)}
    assert abs(sum(drawn.values()) / len(drawn) - 0.2) < 0.05
    assert all(found._still(*key) == still for key, still in drawn.items())
    assert any(still != method(PLAIN, seed=7)._still(*key) for key, still in drawn.items())
    step, number = next(key for key, still in drawn.items() if still)
    for batch in (MicroBatch(number, CLIP, (2,)), MicroBatch(number, WIDE, (4, 6))):
        still = found.prepare(step, batch)
        whole = found.validation(batch.samples)
        assert torch.equal(still.frames_BTHW3, whole.frames_BTHW3[:, :1])
        assert still.flops < whole.flops and 2 * still.tokens == whole.tokens


@pytest.mark.parametrize("ranks", [1, 2, 4])
def test_stills_do_not_depend_on_the_number_of_ranks(tmp_path: Path, ranks: int) -> None:
    run, _, _ = ToyAutoencoder(tmp_path, PLAIN, {CLIP: 8}, per_step=4).parts()
    lengths = {
        (step, batch.number): run.method.prepare(step, batch).frames_BTHW3.shape[1]  # type: ignore[union-attr]
        for step in range(6)
        for rank in range(ranks)
        for batch in run.batches.share(step, rank, ranks)
    }
    assert lengths == {key: 1 if run.method._still(*key) else 4 for key in lengths}  # type: ignore[attr-defined]
    assert len(lengths) == 24 and set(lengths.values()) == {1, 4}


def test_the_alignment_weight_is_its_definition() -> None:
    """0.1 |grad of L1 + LPIPS| / (|grad of the alignment| + 1e-4) where the aligned stage ends."""
    found = method(replace(PLAIN, distillation=Distillation(stage=1)))
    given, networks = inputs(found), found.networks
    losses = called(found, given)
    assert found.teacher is not None

    made = networks.rebuilder(given.video)
    frames = ((given.video + 1) / 2)[0].transpose(0, 1)
    wanted = features(found.teacher, frames, (8, 8))
    loss = alignment_loss(made.projected_BDThw[0].transpose(0, 1), wanted)
    alone = Autoencoding(found.clips, found.seed, networks, found.work, PLAIN, found.perceptual)
    nll = alone.loss(networks.rebuilder, given, torch.float32).total
    layer = networks.rebuilder.get_parameter(ALIGNED)
    weight = 0.1 * gradient(nll, layer).norm() / (gradient(loss, layer).norm() + 1e-4)
    assert losses.parts["alignment"].item() == pytest.approx(loss.item(), rel=1e-4)
    assert losses.parts["alignment_weight"].item() == pytest.approx(weight.item(), rel=1e-4)
    assert losses.total.item() == pytest.approx((nll + weight * loss).item(), rel=1e-4)
    losses.total.backward()
    assert networks.rebuilder.projection is not None and networks.rebuilder.projection.weight.grad is not None


def test_alignment_is_learnt_beside_the_rest(tmp_path: Path) -> None:
    kept = Kept()
    settings = Settings(adversary=STEADY, distillation=Distillation(stage=1, weight=1.0, cosine_margin=0.0))
    ToyAutoencoder(tmp_path, replace(settings, stills=0.0), {CLIP: 2}, rate=5e-3).go(25, kept, saves=False)
    first, last = kept.reports[0].values, kept.reports[-1].values
    assert last["part/alignment"] < 0.8 * first["part/alignment"] and last["part/l1"] < first["part/l1"]


def test_bfloat16_trains(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All losses, with float32's numbers but for the rounding; on a CPU it is refused, for oneDNN is wrong there."""
    found = method(PLAIN)
    with pytest.raises(UserError, match=r"gradients in bfloat16 are wrong on a CPU; --set network.precision=float32"):
        found.loss(found.networks.rebuilder, inputs(found), torch.bfloat16)
    monkeypatch.setattr("training.methods.autoencoder.check_precision", lambda *_: None)
    monkeypatch.setattr(torch.backends.mkldnn, "enabled", False)
    settings = Settings(adversary=STEADY, distillation=Distillation(stage=1))
    runs = []
    for precision in ("float32", "bfloat16"):
        kept = Kept()
        made = ToyAutoencoder(tmp_path, settings, make_engine=lambda kind=precision: Single(CPU, kind))  # type: ignore[arg-type]
        made.go(3, kept, saves=False)
        runs.append(kept.reports)
    for exact, rounded in zip(*runs, strict=True):
        assert rounded.finite and rounded.loss == pytest.approx(exact.loss, rel=0.03)
        for name in ("part/l1", "part/lpips", "part/judge", "part/alignment"):
            assert rounded.values[name] == pytest.approx(exact.values[name], rel=0.1), name


def test_frames_of_another_size_and_missing_ones_are_told() -> None:
    other = replace(CLIP, frames=8)
    with pytest.raises(UserError, match="the frames of sample 1 are 4x16x16, its bucket's are 8x16x16"):
        method(PLAIN).prepare(0, MicroBatch(0, other, (1,)))
    lost = method(PLAIN, clips=Drawn({CLIP: 4}, lost=[2]))
    with pytest.raises(UserError, match="sample 2 has no frames"):
        lost.prepare(0, MicroBatch(0, CLIP, (1, 2)))


@pytest.mark.slow
def test_the_tiny_preset_learns_with_all_losses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from training.models.dcae import preset

    monkeypatch.setattr(toys, "CONFIG", preset("tiny"))
    clip, kept = replace(CLIP, frames=8, height=64, width=64), Kept()
    deep = adversary(start=60)
    deep = replace(deep, discriminator=DiscriminatorConfig(channels=8, norm="group"))
    settings = Settings(adversary=deep, distillation=Distillation())
    ToyAutoencoder(tmp_path, settings, {clip: 2}, rate=3e-3).go(120, kept, saves=False)
    first, last = kept.reports[0].values, kept.reports[-1].values
    assert last["part/l1"] < 0.9 * first["part/l1"] and "part/judge" in last


def test_blocks_that_are_computed_again_change_no_bit_and_keep_less() -> None:
    """With a judge and a teacher, whose losses are weighed by gradients of their own."""
    settings = Settings(adversary=STEADY, distillation=Distillation(stage=1), stills=0)
    losses, gradients, kept = [], [], []
    for recomputed in (False, True):
        found = method(settings)
        autoencoder = found.networks.rebuilder.autoencoder
        if recomputed:
            assert recompute(autoencoder) == 6
        held: dict[int, tuple[int, Any]] = {}

        def pack(tensor: Any, held: Any = held) -> Any:
            held[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes(), tensor
            return tensor

        given = replace(inputs(found, step=1), against=True)
        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            loss = called(found, given)
            kept.append(sum(size for size, _ in held.values()))
        loss.total.backward()
        losses.append(loss.total)
        gradients.append([one.grad for one in autoencoder.parameters()])
    assert torch.equal(*losses) and all(torch.equal(a, b) for a, b in zip(*gradients, strict=True))
    assert kept[1] < 0.8 * kept[0], kept
