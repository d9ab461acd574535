"""FLOPs counted on the networks: the autoencoders' (spec 1.4, 2), and the transformer's against its formula."""

from __future__ import annotations

import pytest

pytest.importorskip("torch")

import torch

from curation.errors import UserError
from training.cost.autoencoder import Work, count_flops, encode_flops
from training.cost.formulas import Transformer


def test_a_multiplication_and_an_addition_count_as_two() -> None:
    layer = torch.nn.Conv3d(3, 5, 3, padding=1, device="meta")
    assert count_flops(lambda: layer(torch.empty(2, 3, 4, 6, 8, device="meta"))) == 2 * (3 * 27) * 5 * 2 * 4 * 6 * 8


def test_video_dcae_tile() -> None:
    assert round(encode_flops("dcae", 32, 256, 256) / 1e12, 1) == 26.3


def test_video_dcae_768_costs_more_than_training_the_transformer_on_it() -> None:
    flops = encode_flops("dcae", 128, 768, 768)
    assert round(flops / 1e15, 2) == 1.94
    assert flops > 3 * 18_944 * Transformer().forward_per_token(18_944)


def test_hunyuan_encoder() -> None:
    pytest.importorskip("diffusers")
    # The spec counts the middle attention dense, 4 (33 * 32^2)^2 * 512; ours leaves out what the frame mask hides.
    hidden = (1 - 34 / (2 * 33)) * 4 * (33 * 32**2) ** 2 * 512
    assert round((encode_flops("hunyuan", 129, 256, 256) + hidden) / 1e12) == 79
    assert encode_flops("hunyuan", 129, 768, 768) / 1e15 == pytest.approx(1.11, rel=0.02)


def test_the_formula_is_what_the_transformer_does() -> None:
    from training.models.base import TextStates
    from training.models.mmdit import MMDiT, preset
    from training.tokens import Grid

    with torch.device("meta"):
        model = MMDiT(preset("opensora_v2"))
        text = TextStates(torch.empty(1, 512, 4096), torch.empty(1, 768))
        tokens, t = torch.empty(1, 2304, 64), torch.empty(1)
    counted = count_flops(lambda: model(tokens, t, text, Grid(9, 16, 16)))
    assert counted / (2816 * Transformer().forward_per_token(2816)) == pytest.approx(1, abs=0.01)


def test_the_work_of_an_autoencoder_is_proportional_to_pixels() -> None:
    from training.models.dcae import VideoDcAe, preset

    config = preset("tiny")
    work = Work.of(config)
    with torch.device("meta"):
        made = VideoDcAe(config)
    for size in ((32, 96, 64), (1, 64, 128)):
        video = torch.empty(1, 3, *size, device="meta")
        counted = count_flops(lambda video=video: made.decoder(made.encoder(video)))
        assert work.forward(*size) == pytest.approx(counted, rel=1e-6)
        assert work.train(*size) == 3 * work.forward(*size)


def test_unknown_autoencoder() -> None:
    with pytest.raises(UserError, match="dcae, hunyuan"):
        encode_flops("wan", 1, 256, 256)
