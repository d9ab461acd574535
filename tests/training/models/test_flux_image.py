"""Flux through diffusers: a tiny random pipeline, drawn by the adapter and by the pipeline's own call."""

from __future__ import annotations

import importlib
import itertools
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("diffusers")
pytest.importorskip("transformers")

import torch

from curation.errors import UserError
from tests.support import tiny_text
from training.flow import times
from training.models.flux_image import FluxImage
from training.tokens import Grid

diffusers: Any = importlib.import_module("diffusers")  # typed so, because its names are made when asked for
TIMES = times(3, Grid(1, 4, 3)).tolist()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("flux")
    torch.manual_seed(0)
    for name, part in {"transformer": transformer(), "vae": vae()}.items():
        part.save_pretrained(root / name)
    tiny_text.clip(root / "text_encoder")
    tiny_text.t5(root / "text_encoder_2")
    for encoder in ("text_encoder", "text_encoder_2"):
        (root / encoder.replace("text_encoder", "tokenizer")).mkdir()
        for file in list((root / encoder).glob("*token*")):
            shutil.move(file, root / encoder.replace("text_encoder", "tokenizer"))
    # Flux-dev's own scheduler shifts by the size of the image.
    scheduler = diffusers.FlowMatchEulerDiscreteScheduler(shift=3.0, use_dynamic_shifting=True)
    scheduler.save_pretrained(root / "scheduler")
    return root


def transformer(guidance: bool = True) -> Any:
    sizes = {"num_layers": 1, "num_single_layers": 1, "attention_head_dim": 16, "num_attention_heads": 2}
    text = {"joint_attention_dim": tiny_text.T5_WIDTH, "pooled_projection_dim": tiny_text.CLIP_WIDTH}
    return diffusers.FluxTransformer2DModel(
        in_channels=64, axes_dims_rope=(4, 6, 6), guidance_embeds=guidance, **sizes, **text
    )


def vae(scale: float = 0.3611) -> Any:
    blocks = {"down_block_types": ("DownEncoderBlock2D",) * 4, "up_block_types": ("UpDecoderBlock2D",) * 4}
    sizes = {"block_out_channels": (4, 4, 4, 4), "latent_channels": 16, "norm_num_groups": 2, "layers_per_block": 1}
    return diffusers.AutoencoderKL(
        **blocks, **sizes, scaling_factor=scale, shift_factor=0.1159, use_quant_conv=False, use_post_quant_conv=False
    )


def copied(folder: Path, to: Path) -> Path:
    return Path(shutil.copytree(folder, to, dirs_exist_ok=True))


def seeded(seed: int = 5) -> Any:
    return torch.Generator().manual_seed(seed)


@pytest.fixture(scope="module")
def model(folder: Path) -> FluxImage:
    return FluxImage(folder, dtype=torch.float32)


def test_draws_an_image_of_the_size(model: FluxImage) -> None:
    image = model.draw("a red fox", 64, 48, TIMES, seeded())
    assert image.shape == (64, 48, 3)
    assert image.dtype == np.uint8
    assert image.std() > 1
    assert np.array_equal(image, model.draw("a red fox", 64, 48, TIMES, seeded()))
    for other in (model.draw("a dog", 64, 48, TIMES, seeded()), model.draw("a red fox", 64, 48, TIMES, seeded(6))):
        assert not np.array_equal(image, other)


@torch.no_grad()
def test_steps_are_the_callers_times_and_guidance_is_four(model: FluxImage, folder: Path) -> None:
    """The same image by hand: Euler steps over the given times, from the noise of the pipeline's seed."""
    pipeline: Any = model._pipeline
    embeds, pooled, text_ids = pipeline.encode_prompt("a red fox", "a red fox", max_sequence_length=512)
    x, image_ids = pipeline.prepare_latents(1, 16, 64, 48, torch.float32, torch.device("cpu"), seeded())
    for t, after in itertools.pairwise(TIMES):
        velocity = pipeline.transformer(
            hidden_states=x,
            timestep=torch.tensor([t]),
            guidance=torch.tensor([4.0]),
            pooled_projections=pooled,
            encoder_hidden_states=embeds,
            txt_ids=text_ids,
            img_ids=image_ids,
        ).sample
        x = x + (after - t) * velocity
    latent = pipeline._unpack_latents(x, 64, 48, 8) / 0.3611 + 0.1159
    want = (pipeline.vae.decode(latent).sample[0] / 2 + 0.5).clamp(0, 1).permute(1, 2, 0).numpy() * 255
    got = model.draw("a red fox", 64, 48, TIMES, seeded())
    assert np.abs(got - want).max() <= 0.51
    unshifted = model.draw("a red fox", 64, 48, [1, 2 / 3, 1 / 3, 0], seeded())
    assert not np.array_equal(got, unshifted)


def test_a_size_or_a_prompt_that_does_not_fit_is_refused(model: FluxImage) -> None:
    with pytest.raises(UserError, match="multiples of 16"):
        model.draw("a fox", 64, 56, TIMES)
    with pytest.raises(UserError, match="89 tokens too long"):
        model.draw(" ".join(["fox"] * 600), 64, 48, TIMES)


@pytest.mark.parametrize("bad", [[1.0, 0.5], [0.0], [1.0, 0.2, 0.4, 0.0]])
def test_times_run_down_to_zero(model: FluxImage, bad: list[float]) -> None:
    with pytest.raises(AssertionError, match="not a sampler's times"):
        model.draw("a fox", 64, 48, bad)


def test_a_model_without_guidance_is_given_none(folder: Path, tmp_path: Path) -> None:
    free = copied(folder, tmp_path / "free")
    transformer(guidance=False).save_pretrained(free / "transformer")
    with pytest.raises(UserError, match="reads no guidance scale"):
        FluxImage(free)
    with pytest.raises(UserError, match="reads a guidance scale"):
        FluxImage(folder, guidance=None)
    assert FluxImage(free, guidance=None, dtype=torch.float32).draw("a fox", 32, 32, TIMES).shape == (32, 32, 3)


def no_vae(root: Path) -> None:
    shutil.rmtree(root / "vae")


def other_vae(root: Path) -> None:
    vae(scale=0.18215).save_pretrained(root / "vae")


def no_tokenizer(root: Path) -> None:
    shutil.rmtree(root / "tokenizer_2")


def narrower_settings(root: Path) -> None:
    file = root / "transformer" / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"num_single_layers": 2}))


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (no_vae, "vae.*does not exist"),
        (other_vae, "is not Flux's: \\(16, 0.18215"),
        (no_tokenizer, "has no tokenizer"),
        (narrower_settings, "is not Flux's transformer: it lacks single_transformer_blocks.1"),
    ],
)
def test_a_wrong_folder_is_a_users_error(spoil: Any, says: str, folder: Path, tmp_path: Path) -> None:
    spoil(copied(folder, tmp_path / "flux"))
    with pytest.raises(UserError, match=says):
        FluxImage(tmp_path / "flux")
