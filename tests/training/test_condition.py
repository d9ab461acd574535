"""Conditions against the published values; drawing and dropping."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

pytest.importorskip("torch")

import torch

from curation.errors import UserError
from tests.support import golden
from tests.support.toy import ToyAutoencoder, ToyTextEncoder
from training import condition
from training.condition import Kind
from training.models.base import LatentSpec, TextStates

CAUSAL, PLAIN = LatentSpec(16, 4, 8, True, 2), LatentSpec(128, 4, 32, False, 1)
V2V = {kind: 1.0 for kind in Kind if kind.startswith("v2v")}


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_the_published_training_conditions() -> None:
    found, settings = golden.tensors("training_conditions")
    for case in settings["cases"]:
        f = golden.below(found, f"{case['case']}.")
        autoencoder = ToyAutoencoder(f["in.ae_matrix"], case["causal_ae"])
        latent = autoencoder.encode(f["in.video"])
        golden.close(latent, f["latent"])
        offered = condition.weights_of(case["kinds_offered"])
        left = condition.eligible(offered, case["frames"], autoencoder.spec)
        assert left == case["kinds_left_in_callers_dictionary"], case["case"]
        assert offered == case["kinds_offered"], "the caller's weights stay as they are"
        kinds = condition.draw_kinds(offered, 1, case["frames"], autoencoder.spec, seeded())
        made = condition.training_condition(kinds, f["in.video"], latent, autoencoder)
        golden.close(made, f["cond"])
        assert condition.mask_of_frames(made)[0].nonzero().flatten().tolist() == case["conditioned_frames"]


def _marked_references(row: dict[str, Any]) -> list[torch.Tensor]:
    """References whose latents say where they come from: 100 * (reference + 1) + frame."""
    _, height, width = row["latent"]
    return [
        (100.0 * (i + 1) + torch.arange(length))[None, None, :, None, None].expand(1, 1, length, height, width)
        for i, length in enumerate(row["reference_lengths"])
    ]


def test_the_published_masks_of_sampling() -> None:
    for row in golden.table("condition_masks"):
        spec = LatentSpec(1, 4, 8, row["causal"], 1)
        made = condition.sampling_condition(
            Kind(row["kind"]), _marked_references(row), torch.zeros(1, 1, *row["latent"]), spec
        )
        frames = condition.mask_of_frames(made)[0].nonzero().flatten().tolist()
        assert frames == row["conditioned_frames"], row
        source = [None if s is None else 100 * (s[0] + 1) + s[1] for s in row["source"]]
        assert [v or None for v in made[0, 1, :, 0, 0].tolist()] == source, row
        assert (made == made[..., :1, :1]).all(), "every position of a frame has the mask"


@pytest.mark.parametrize(
    ("spec", "kind", "frames", "latents"),
    [
        (CAUSAL, Kind.I2V_LOOP, 1, 1),
        (CAUSAL, Kind.V2V_HEAD, 33, 9),
        (CAUSAL, Kind.V2V_TAIL_EASY, 65, 17),
        (PLAIN, Kind.I2V_TAIL, 1, 1),
        (PLAIN, Kind.V2V_TAIL, 32, 8),
        (PLAIN, Kind.V2V_HEAD_EASY, 64, 16),
    ],
)
def test_how_much_is_given(spec: LatentSpec, kind: Kind, frames: int, latents: int) -> None:
    given = condition.GIVEN[kind]
    assert (given.frames(spec), given.latents(spec)) == (frames, latents)


@pytest.mark.parametrize(
    ("spec", "frames", "left"),
    [
        (CAUSAL, 33, 0),
        (CAUSAL, 37, 2),
        (CAUSAL, 65, 2),
        (CAUSAL, 69, 4),
        (PLAIN, 32, 0),
        (PLAIN, 36, 2),
        (PLAIN, 64, 2),
        (PLAIN, 68, 4),
    ],
)
def test_v2v_is_for_clips_longer_than_what_is_given(spec: LatentSpec, frames: int, left: int) -> None:
    assert len(condition.eligible({Kind.T2V: 1.0} | V2V, frames, spec)) == 1 + left


def test_a_short_clip_does_not_take_v2v_from_the_next() -> None:
    """The public code deletes the entry from the shared dictionary, for the rest of the run."""
    weights = {Kind.T2V: 1.0, Kind.V2V_HEAD: 9.0}
    assert set(condition.draw_kinds(weights, 64, 33, CAUSAL, seeded())) == {Kind.T2V}
    assert weights == {Kind.T2V: 1.0, Kind.V2V_HEAD: 9.0}
    assert Kind.V2V_HEAD in condition.draw_kinds(weights, 64, 37, CAUSAL, seeded())


def test_kinds_are_drawn_by_weight_and_by_seed() -> None:
    drawn = condition.draw_kinds(condition.IMAGE_STAGES, 8000, 33, CAUSAL, seeded(3))
    assert drawn == condition.draw_kinds(condition.IMAGE_STAGES, 8000, 33, CAUSAL, seeded(3))
    counts = Counter(drawn)
    for kind, weight in condition.IMAGE_STAGES.items():
        assert counts[kind] / 8000 == pytest.approx(weight / 8, abs=0.02), kind


def test_a_still_image_and_a_clip_that_nothing_fits_are_t2v() -> None:
    assert set(condition.draw_kinds({Kind.I2V_HEAD: 1.0}, 8, 1, CAUSAL, seeded())) == {Kind.T2V}
    assert condition.eligible({Kind.V2V_TAIL: 1.0}, 9, CAUSAL) == {Kind.T2V: 1}


def test_samples_of_a_batch_have_kinds_of_their_own_and_images_are_encoded_together() -> None:
    autoencoder = ToyAutoencoder(torch.randn(4, 3), causal=True)
    video = torch.randn(4, 3, 37, 4, 4)
    latent = autoencoder.encode(video)
    kinds = [Kind.I2V_LOOP, Kind.T2V, Kind.V2V_TAIL, Kind.I2V_HEAD]
    autoencoder.calls.clear()
    made = condition.training_condition(kinds, video, latent, autoencoder)
    assert autoencoder.calls == [(3, 3, 1, 4, 4), (1, 3, 33, 4, 4)]
    for i, kind in enumerate(kinds):
        alone = condition.training_condition([kind], video[i, None], latent[i, None], autoencoder)
        golden.close(made[i, None], alone)
    golden.close(made[2, 1:, -9:], autoencoder.encode(video[2, None, :, -33:])[0])
    assert not made[1].any()


def test_nothing_of_the_other_frames_is_in_what_is_given() -> None:
    autoencoder = ToyAutoencoder(torch.randn(4, 3), causal=True)
    video = torch.randn(1, 3, 41, 4, 4)
    changed = video.clone()
    changed[:, :, 1:-33] = 9
    kinds = [Kind.I2V_LOOP], [Kind.V2V_TAIL]
    for kind in kinds:
        a, b = (condition.training_condition(kind, v, autoencoder.encode(v), autoencoder) for v in (video, changed))
        assert torch.equal(a, b), kind


def test_a_uncausal_v2v_copies_the_latent_of_its_clip() -> None:
    autoencoder = ToyAutoencoder(torch.randn(4, 3), causal=False)
    video = torch.randn(1, 3, 72, 4, 4)
    latent = autoencoder.encode(video) + 1
    autoencoder.calls.clear()
    made = condition.training_condition([Kind.V2V_HEAD_EASY], video, latent, autoencoder)
    golden.close(made[:, 1:, :16], latent[:, :, :16])
    assert not made[:, :, 16:].any() and autoencoder.calls == []


def test_references_of_a_user_are_cut_encoded_and_put_back() -> None:
    autoencoder = ToyAutoencoder(torch.randn(4, 3), causal=True)
    video, noise = torch.randn(2, 3, 9, 4, 4), torch.randn(2, 4, 5, 2, 2)
    references = condition.encode_references(Kind.I2V_LOOP, [video], autoencoder)
    golden.close(references[0], autoencoder.encode(video[:, :, :1]))
    golden.close(references[1], autoencoder.encode(video[:, :, -1:]))
    made = condition.sampling_condition(Kind.I2V_LOOP, references, noise, autoencoder.spec)
    whole = condition.with_references(noise, made)
    golden.close(whole[:, :, [0, -1]], torch.cat(references, 2))
    assert torch.equal(whole[:, :, 1:-1], noise[:, :, 1:-1])


def test_given_frames_are_put_back_in_the_samples_that_have_them() -> None:
    latent, given = torch.randn(2, 2, 4, 3, 2, 2).unbind()
    made = torch.cat([torch.zeros(2, 1, 3, 2, 2), given], 1)
    made[1, 0, 2] = 1
    whole = condition.with_references(latent, made)
    assert torch.equal(whole[1, :, 2], given[1, :, 2])
    whole[1, :, 2] = latent[1, :, 2]
    assert torch.equal(whole, latent)


def test_what_a_user_cannot_give() -> None:
    autoencoder = ToyAutoencoder(torch.randn(4, 3), causal=True)
    with pytest.raises(UserError, match="33 frames, not 9"):
        condition.encode_references(Kind.V2V_HEAD, [torch.zeros(1, 3, 9, 4, 4)], autoencoder)
    with pytest.raises(UserError, match="give an image"):
        condition.encode_references(Kind.I2V_HEAD, [], autoencoder)
    with pytest.raises(UserError, match="make the video longer"):
        condition.sampling_condition(
            Kind.V2V_HEAD, [torch.zeros(1, 4, 9, 2, 2)], torch.zeros(1, 4, 5, 2, 2), autoencoder.spec
        )


@pytest.mark.parametrize(
    "weights", [{"i2v": 1.0}, {"t2v": -1.0, "i2v_head": 2.0}, {"t2v": 0.0}, {}, {"t2v": float("nan")}]
)
def test_weights_that_make_no_sense(weights: dict[str, float]) -> None:
    with pytest.raises(UserError, match=r"choose from t2v|write for example"):
        condition.weights_of(weights)


def test_prompts_are_dropped_of_each_encoder_independently() -> None:
    encoder, count = ToyTextEncoder(), 6000
    empty, one = encoder.encode([""]), encoder.encode(["a cat"])
    states = TextStates(one.tokens_BMD.expand(count, -1, -1), one.pooled_BP.expand(count, -1))
    left = condition.drop_text(states, empty, seeded(5))
    tokens = (left.tokens_BMD == empty.tokens_BMD).flatten(1).all(1)
    pooled = (left.pooled_BP == empty.pooled_BP).all(1)
    assert torch.equal(left.tokens_BMD[~tokens], states.tokens_BMD[~tokens])
    assert torch.equal(left.pooled_BP[~pooled], states.pooled_BP[~pooled])
    assert tokens.float().mean().item() == pytest.approx(0.1**0.5, abs=0.02)
    assert pooled.float().mean().item() == pytest.approx(0.1**0.5, abs=0.02)
    assert (tokens & pooled).float().mean().item() == pytest.approx(0.1, abs=0.015)


def test_the_published_weights_drop_one_image_of_eight() -> None:
    for weights in (condition.IMAGE_STAGES, condition.HIGH_COMPRESSION):
        assert weights[Kind.T2V] / sum(weights.values()) == 0.125
