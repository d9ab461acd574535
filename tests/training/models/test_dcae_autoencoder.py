"""The Video DC-AE as others use it: scale, files, errors, init, compilation, the scale of a data set's latents."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from safetensors.torch import save_file

from curation.errors import UserError
from training.models.base import Autoencoder, LatentSpec
from training.models.dcae import PRESETS, DcAeConfig, Tiling, VideoDcAe, latent_stats

SMALL = DcAeConfig(
    latent_channels=8,
    widths=(8, 16, 32),
    blocks=("res", "res", "vit"),
    encoder_depths=(1, 1, 1),
    decoder_depths=(1, 1, 1),
    halve_time=(True, True),
)
TWO_STAGES = DcAeConfig(8, (8, 32), ("res", "vit"), (1, 1), (1, 1), (True,), tiling=Tiling(pixels=32, frames=32))


def random_video(batch: int = 1, frames: int = 8, side: int = 16):
    return torch.randn(batch, 3, frames, side, side, generator=torch.Generator().manual_seed(0))


def model(config: DcAeConfig = SMALL) -> VideoDcAe:
    """A network whose branches all count: norm weights near one, not near zero as at the start of training."""
    torch.manual_seed(0)
    made = VideoDcAe(config)
    with torch.no_grad():
        for name, parameter in made.named_parameters():
            parameter.normal_(1.0, 0.1) if "norm.weight" in name else parameter.normal_(0, 0.1)
    return made.eval()


def test_spec():
    ae: Autoencoder = model()
    assert ae.spec == LatentSpec(channels=8, time=4, space=4, causal=False, patch=1)
    assert PRESETS["f32t4c128"].spec == LatentSpec(channels=128, time=4, space=32, causal=False, patch=1)
    assert PRESETS["f32t4c256"].spec.channels == 256
    assert {config.latent_std for config in PRESETS.values()} == {0.493}


def test_the_latent_is_divided_by_the_standard_deviation_and_multiplied_back():
    plain, scaled = model(replace(SMALL, latent_std=1.0)), model(replace(SMALL, latent_std=0.5))
    with torch.no_grad():
        latent = plain.encode(random_video())
        torch.testing.assert_close(scaled.encode(random_video()), latent / 0.5)
        torch.testing.assert_close(scaled.decode(latent / 0.5), plain.decode(latent))


def test_samples_one_by_one_equal_a_batch():
    alone, batched = model(), model(replace(SMALL, one_by_one=False))
    sizes = {"alone": [], "batched": []}
    alone.encoder.register_forward_pre_hook(lambda _m, x: sizes["alone"].append(len(x[0])))
    batched.encoder.register_forward_pre_hook(lambda _m, x: sizes["batched"].append(len(x[0])))
    with torch.no_grad():
        latent = batched.encode(random_video(batch=3))
        torch.testing.assert_close(alone.encode(random_video(batch=3)), latent, atol=1e-4, rtol=1e-4)
        torch.testing.assert_close(alone.decode(latent), batched.decode(latent), atol=1e-4, rtol=1e-4)
    assert sizes == {"alone": [1, 1, 1], "batched": [3]}


def test_only_what_is_larger_than_a_tile_is_cut():
    ae = model(replace(SMALL, tiling=Tiling(pixels=32, frames=32)))
    seen: list[tuple[int, ...]] = []
    ae.encoder.register_forward_pre_hook(lambda _m, x: seen.append(tuple(x[0].shape[2:])))
    with torch.no_grad():
        ae.encode(random_video(side=32, frames=32))
        assert seen == [(32, 32, 32)]
        seen.clear()
        ae.encode(random_video(side=16, frames=36))
        assert seen == [(32, 16, 16), (12, 16, 16)]
        seen.clear()
        ae.encode(random_video(side=40, frames=4))
        assert seen == [(4, height, width) for height in (32, 16) for width in (32, 16)]


def test_latents_are_float32_and_videos_of_the_weights_dtype():
    ae = model().to(torch.bfloat16)
    with torch.no_grad():
        latent = ae.encode(random_video())
        assert latent.dtype == torch.float32
        assert ae.decode(latent).dtype == torch.bfloat16


@pytest.mark.parametrize(
    ("shape", "words"),
    [((1, 3, 6, 16, 16), "6 frames"), ((1, 3, 8, 16, 18), "16x18"), ((1, 3, 33, 16, 16), "33 frames")],
)
def test_a_size_off_the_grid_is_refused(shape: tuple[int, ...], words: str):
    with pytest.raises(UserError, match=words):
        model().encode(torch.zeros(shape))


def test_a_latent_of_another_autoencoder_is_refused():
    with pytest.raises(UserError, match="16 latent channels where this autoencoder has 8"):
        model().decode(torch.zeros(1, 16, 2, 4, 4))
    with pytest.raises(UserError, match="choose f32t4c256"):
        model().decode(torch.zeros(1, 256, 2, 4, 4))


def test_saved_and_loaded_it_is_the_same(tmp_path: Path):
    ae = model()
    ae.save(tmp_path / "ae.safetensors")
    again = VideoDcAe.load(tmp_path / "ae.safetensors", SMALL)
    assert [path.name for path in tmp_path.iterdir()] == ["ae.safetensors"]
    assert all(parameter.requires_grad for parameter in again.parameters()) and not again.training
    with torch.no_grad():
        assert torch.equal(again.encode(random_video()), ae.encode(random_video()))
    halved = VideoDcAe.load(tmp_path / "ae.safetensors", SMALL, dtype=torch.bfloat16)
    assert halved.last_layer.dtype == torch.bfloat16


def test_a_wrong_file_is_named_with_what_differs(tmp_path: Path):
    weights = model().state_dict()
    first, second, *rest = sorted(weights)
    wrong = {name: weights[name].clone() for name in rest} | {"stray": torch.zeros(1), second: torch.zeros(2)}
    path = tmp_path / "wrong.safetensors"
    save_file(wrong, path)
    with pytest.raises(UserError) as caught:
        VideoDcAe.load(path, SMALL)
    said = str(caught.value)
    assert f"lacks: {first};" in said and "unknown tensors: stray;" in said
    assert f"other shapes: {second} 2 instead of " in said


def test_a_file_of_other_channels_names_the_preset_that_fits(tmp_path: Path):
    path = tmp_path / "c128.safetensors"
    save_file({"decoder.project_in.main.conv.weight": torch.zeros(1, 128, 1, 1, 1)}, path)
    with pytest.raises(UserError, match="128 latent channels where this autoencoder has 256; choose f32t4c128"):
        VideoDcAe.load(path, "f32t4c256")


def test_a_file_that_is_none_is_refused(tmp_path: Path):
    with pytest.raises(UserError, match="does not exist"):
        VideoDcAe.load(tmp_path / "absent.safetensors", SMALL)
    (tmp_path / "broken.safetensors").write_bytes(b"half a file")
    with pytest.raises(UserError, match="no readable safetensors file"):
        VideoDcAe.load(tmp_path / "broken.safetensors", SMALL)
    with pytest.raises(UserError, match="f32t4c128"):
        VideoDcAe.load(tmp_path / "any", "f8t4c16")


@pytest.mark.parametrize(
    "tiling", [{"frames": 30}, {"frames": 16}, {"pixels": 250}, {"overlap": 0.0}, {"overlap": 0.3}, {"overlap": 1.0}]
)
def test_tiles_that_do_not_fit_together_are_refused(tiling: dict[str, Any]):
    with pytest.raises(UserError, match="do not fit together"):
        replace(PRESETS["f32t4c128"], tiling=Tiling(**tiling))


def test_a_new_network_is_nearly_its_shortcuts():
    """Norm weights near zero: a branch adds little, so the latent of the first step is that without the blocks."""
    torch.manual_seed(0)
    ae = VideoDcAe(SMALL)
    for name, parameter in ae.named_parameters():
        assert parameter.abs().max() == 0 if name.endswith("bias") else 0.01 < parameter.std() < 0.03, name
    block = ae.get_submodule("encoder.stages.2.op_list.0")
    x = torch.randn(1, 32, 2, 8, 8)
    with torch.no_grad():
        assert (block(x) - x).norm() < 0.1 * x.norm()


@pytest.mark.parametrize("frames", [1, 8])
def test_compiled_whole(frames: int):
    ae = model(TWO_STAGES)
    torch._dynamo.reset()
    encode, decode = (torch.compile(f, fullgraph=True, backend="eager") for f in (ae.encode, ae.decode))
    with torch.no_grad():
        latent = ae.encode(random_video(frames=frames))
        torch.testing.assert_close(encode(random_video(frames=frames)), latent)
        torch.testing.assert_close(decode(latent), ae.decode(latent))


def test_networks_compiled_in_place_still_scale_and_cut():
    plain, compiled = model(TWO_STAGES), model(TWO_STAGES)
    torch._dynamo.reset()
    compiled.encoder.compile(fullgraph=True, backend="eager")
    with torch.no_grad():
        video = random_video(frames=56)  # two tiles of 32: one shape to compile for
        torch.testing.assert_close(compiled.encode(video), plain.encode(video))


def test_stats_of_latents_in_batches_equal_those_of_all_at_once():
    torch.manual_seed(0)
    scale, shift = torch.tensor([0.5, 2.0, 1.0]).view(3, 1, 1, 1), torch.tensor([1000.0, -3.0, 0.0]).view(3, 1, 1, 1)
    batches = [torch.randn(b, 3, t, 4, 5) * scale + shift for b, t in ((2, 1), (1, 8), (3, 2))]
    got = latent_stats(iter(batches))
    columns = torch.cat([x.double().transpose(0, 1).flatten(1) for x in batches], 1)
    assert got.values == columns.numel()
    assert got.mean == pytest.approx(columns.mean().item(), rel=1e-9)
    assert got.std == pytest.approx(columns.std(unbiased=False).item(), rel=1e-9)
    assert got.channel_mean == pytest.approx(columns.mean(1).tolist(), rel=1e-9, abs=1e-12)
    assert got.channel_std == pytest.approx(columns.std(1, unbiased=False).tolist(), rel=1e-9)


def test_the_configured_scale_makes_the_deviation_one():
    unscaled = model(replace(SMALL, latent_std=1.0))
    with torch.no_grad():
        videos = [random_video(frames=frames) for frames in (1, 4, 8)]
        std = latent_stats(unscaled.encode(video) for video in videos).std
        scaled = model(replace(SMALL, latent_std=std))
        assert latent_stats(scaled.encode(video) for video in videos).std == pytest.approx(1.0, rel=1e-5)


def test_stats_refuse_nothing_and_nan():
    with pytest.raises(UserError, match="no latent"):
        latent_stats([])
    with pytest.raises(UserError, match="latent 1 holds"):
        latent_stats([torch.zeros(1, 2, 1, 1, 1), torch.full((1, 2, 1, 1, 1), float("nan"))])
