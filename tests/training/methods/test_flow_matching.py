"""What a sample is trained with depends on seed, step and sample alone; conditions come of the encoded ends."""

from __future__ import annotations

from dataclasses import replace

import pytest

torch = pytest.importorskip("torch")

from curation.errors import UserError
from tests.support import encoded
from tests.support.toy_run import network
from training.condition import TEXT_DROPOUT, Kind
from training.cost.formulas import Transformer
from training.data.batches import MicroBatch
from training.methods.flow_matching import FlowInputs, FlowMatching
from training.tokens import pack

SIZES = Transformer(width=64, double=2, single=2)
SAMPLES = encoded.table({encoded.CLIP: 400})
I2V = {Kind.I2V_HEAD: 1.0}


def method(weights: dict[Kind, float] | None = None, seed: int = 1, **changes: object) -> FlowMatching:
    source = encoded.Memory(SAMPLES)
    return FlowMatching(source, seed, SIZES, weights or {Kind.T2V: 1.0}, **changes)  # type: ignore[arg-type]


def prepared(found: FlowMatching, samples: tuple[int, ...], step: int = 3) -> FlowInputs:
    return found.prepare(step, MicroBatch(0, encoded.CLIP, samples))


def test_a_samples_draws_depend_on_no_other_sample() -> None:
    weights = {Kind.T2V: 1.0, Kind.I2V_HEAD: 1.0, Kind.I2V_LOOP: 1.0}
    together, alone = prepared(method(weights), (5, 17)), prepared(method(weights), (17,))
    for name in ("data_BLC", "noise_BLC", "times_B", "tokens_BMD", "pooled_BP", "mask_BT"):
        assert torch.equal(getattr(together, name)[1:], getattr(alone, name)), name
    assert together.times_B.dtype == torch.float32
    other = prepared(method(weights), (17,), step=4)
    assert not torch.equal(other.noise_BLC, alone.noise_BLC) and not torch.equal(other.times_B, alone.times_B)
    assert not torch.equal(prepared(method(weights, seed=2), (17,)).noise_BLC, alone.noise_BLC)


def test_noise_of_two_samples_and_of_noise_and_time_are_apart() -> None:
    found = prepared(method(), (1, 2))
    assert not torch.equal(found.noise_BLC[0], found.noise_BLC[1])
    assert abs(float(found.noise_BLC.mean())) < 0.3 and 0.7 < float(found.noise_BLC.std()) < 1.3


def test_texts_are_dropped_apart_each_with_its_probability() -> None:
    found = prepared(method(), tuple(range(400)))
    tokens = (found.tokens_BMD == 0).all(-1).all(-1)
    pooled = (found.pooled_BP == 0).all(-1)
    both, p = float((tokens & pooled).float().mean()), TEXT_DROPOUT
    assert abs(float(tokens.float().mean()) - p) < 0.07 and abs(float(pooled.float().mean()) - p) < 0.07
    assert abs(both - p * p) < 0.05


def test_kinds_come_by_weight_and_give_the_encoded_ends() -> None:
    weights = {Kind.T2V: 1.0, Kind.I2V_HEAD: 5.0, Kind.I2V_LOOP: 1.0, Kind.I2V_TAIL: 1.0}
    found = prepared(method(weights), tuple(range(400)))
    given = [tuple(mask) for mask in found.mask_BT.int().tolist()]
    for mask, share in {(0, 0): 1 / 8, (1, 0): 5 / 8, (1, 1): 1 / 8, (0, 1): 1 / 8}.items():
        assert abs(given.count(mask) / 400 - share) < 0.08, mask
    head = prepared(method(I2V), (3,))
    one = encoded.Memory(SAMPLES).read([3])[0]
    want = torch.zeros(1, 9, 2, 2, 3)
    want[:, 0, 0] = 1
    assert one.head_C1HW is not None
    want[:, 1:, :1] = one.head_C1HW[None]
    assert head.cond_BLK is not None and torch.equal(head.cond_BLK, pack(want, 1))


def test_an_image_and_text_to_video_have_no_condition() -> None:
    samples = encoded.table({encoded.IMAGE: 4})
    found = FlowMatching(encoded.Memory(samples), 1, SIZES, I2V)
    assert found.prepare(0, MicroBatch(0, encoded.IMAGE, (0, 1, 2, 3))).cond_BLK is None
    assert prepared(method(), (1, 2)).cond_BLK is None


def test_v2v_copies_the_clip_and_is_refused_where_that_would_leak() -> None:
    long = replace(encoded.CLIP, frames=40)
    samples = encoded.table({long: 2})
    found = FlowMatching(encoded.Memory(samples), 1, SIZES, {Kind.V2V_HEAD: 1.0})
    made = found.prepare(0, MicroBatch(0, long, (0, 1)))
    assert made.mask_BT.int().tolist() == [[1] * 8 + [0] * 2] * 2
    causal = replace(encoded.SPEC, causal=True)
    with pytest.raises(UserError, match="v2v_head needs latents of the given stretch"):
        FlowMatching(encoded.Memory(samples, causal), 1, SIZES, {Kind.V2V_HEAD: 1.0})


def test_the_loss_is_the_mean_over_samples_and_has_a_gradient() -> None:
    found, net = method({Kind.T2V: 1.0, Kind.I2V_HEAD: 1.0}), network()
    inputs = prepared(found, (1, 2, 3))
    losses = found.loss(net, inputs, torch.float32)
    assert torch.allclose(losses.total, losses.per_sample_B.mean()) and losses.times_B is inputs.times_B
    losses.total.backward()
    assert all(parameter.grad is not None for parameter in net.parameters())
    assert not losses.per_sample_B.requires_grad


def test_given_frames_can_be_left_out_of_the_loss() -> None:
    inputs = prepared(method(I2V), (1, 2))
    net, alone = network(), method(I2V, with_references=False)
    whole = method(I2V).loss(net, inputs, torch.float32).total
    assert not torch.allclose(alone.loss(net, inputs, torch.float32).total, whole)


def test_a_latent_of_another_size_is_told() -> None:
    other = replace(encoded.CLIP, height=96)
    with pytest.raises(UserError, match="latent of sample 4 is 2x2x3, its bucket's is 2x3x3"):
        method().prepare(0, MicroBatch(0, other, (4,)))


def test_flops_are_those_of_forward_and_backward() -> None:
    inputs = prepared(method(), (1, 2))
    length = 12 + encoded.WORDS
    assert inputs.tokens == 24 and inputs.flops == 2 * 3 * length * SIZES.forward_per_token(length)
