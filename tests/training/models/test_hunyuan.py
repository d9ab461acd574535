"""The HunyuanVideo autoencoder against the public implementation's values, and its loading."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch")
pytest.importorskip("diffusers")

import torch
from safetensors.torch import save_file
from torch.nn.functional import scaled_dot_product_attention

from curation.errors import UserError
from tests.support import golden
from training.models.hunyuan import WEIGHTS, HunyuanConfig, HunyuanVae, Posterior, Tiles
from training.models.hunyuan_mask import frame_causal_attention

TINY = HunyuanConfig(4, (16, 16, 32, 32), 1, 8, space_tiles=None)
FILES = ("hunyuan_vae_tiny", "hunyuan_vae_tiling")
CLIPS = [(FILES[0], "t1"), (FILES[0], "t5"), (FILES[0], "t9"), (FILES[1], "t5")]


@pytest.fixture(autouse=True)
def _same_weights() -> None:
    torch.manual_seed(0)


def config_of(settings: dict[str, Any], **run: Any) -> HunyuanConfig:
    sizes = settings["config"]
    channels = tuple(sizes["block_out_channels"])
    network = HunyuanConfig(sizes["latent_channels"], channels, sizes["layers_per_block"], sizes["norm_num_groups"])
    return replace(network, **({"space_tiles": None} | run))


def tiny(file: str, **run: Any) -> tuple[HunyuanVae, dict[str, Any], dict[str, Any]]:
    found, settings = golden.tensors(file)
    vae = HunyuanVae(config_of(settings, **run)).eval()
    vae.network.load_state_dict(golden.below(found, "weight."))
    return vae, found, settings


@pytest.mark.parametrize(("file", "clip"), CLIPS)
@torch.no_grad()
def test_equals_the_public_network(file: str, clip: str) -> None:
    vae, found, settings = tiny(file, posterior="mean")
    assert vae.config.scaling_factor == settings["scale_factor"]
    want = golden.below(found, f"{clip}.")
    posterior = vae.posterior(want["in"])
    golden.close(vae.moments(want["in"]), want["moments"])
    golden.close(vae.encode(want["in"]), want["mean_latent"])
    golden.close(posterior.at(want["noise"]) * settings["scale_factor"], want["sampled_latent"])
    golden.close(posterior.kl(), want["kl"])
    golden.close(vae.decode(want["mean_latent"]), want["out"])


# The second file's first convolution adds 1280 large terms to a small gradient: in float32 the order of the additions
# alone moves it past the tolerance, in diffusers' own network too. So that file is compared in float64.
@pytest.mark.parametrize(("file", "dtype"), [(FILES[0], torch.float32), (FILES[1], torch.float64)])
def test_gradients_equal_the_public_ones(file: str, dtype: torch.dtype) -> None:
    vae, found, _ = tiny(file, posterior="mean")
    vae.to(dtype)
    video = found["t5.in"].to(dtype, copy=True).requires_grad_()
    loss = (vae.decode(vae.encode(video)) - found["t5.in"]).square().mean()
    loss.backward()
    golden.close(loss.detach().float(), found["grad.loss"])
    assert video.grad is not None
    golden.close(video.grad.float(), found["grad.in"], 1e-5, 1e-3)
    parameters, wanted = dict(vae.network.named_parameters()), golden.below(found, "grad.weight.")
    assert len(wanted) > 50
    for name, want in wanted.items():
        golden.close(parameters[name].grad.float(), want, 1e-5, 1e-3)


@pytest.mark.parametrize("mode", ["untiled", "spatial", "temporal", "both"])
@torch.no_grad()
def test_tiles_as_the_public_code(mode: str) -> None:
    overlap = 0.5
    run = {
        "space_tiles": Tiles(32, overlap) if mode in ("spatial", "both") else None,
        "time_tiles": Tiles(16, overlap) if mode in ("temporal", "both") else None,
    }
    vae, found, settings = tiny(FILES[1], posterior="mean", **run)
    sizes = settings["config"]
    assert (sizes["sample_size"], sizes["sample_tsize"], sizes["tile_overlap_factor"]) == (32, 16, overlap)
    golden.close(vae.encode(found["tile.in"]), found[f"tile.{mode}.latent"])
    golden.close(vae.decode(found["tile.latent_in"]), found[f"tile.{mode}.out"])


@torch.no_grad()
def test_a_clip_longer_than_the_librarys_frame_tiles_is_encoded_whole() -> None:
    vae = HunyuanVae(replace(TINY, posterior="mean")).eval()
    video = torch.randn(1, 3, 33, 16, 16, generator=torch.Generator().manual_seed(0))
    network = vae.network
    whole = network.quant_conv(network.encoder(video))
    golden.close(vae.moments(video), whole)
    latent = whole[:, :4] * 0.476986
    again = network.decoder(network.post_quant_conv(latent / 0.476986))
    golden.close(vae.decode(latent), again)


@pytest.mark.parametrize("file", FILES)
def test_attention_by_frames_equals_the_dense_mask(file: str) -> None:
    mask = golden.tensors(file)[0]["mask_3frames_2positions"].bool()
    draw = torch.Generator().manual_seed(1)
    dense, framed = ([torch.randn(2, 1, 6, 8, generator=draw).requires_grad_() for _ in "qkv"] for _ in "ab")
    for a, b in zip(dense, framed, strict=True):
        b.data.copy_(a.data)
    want, got = (
        scaled_dot_product_attention(*dense, attn_mask=mask),
        frame_causal_attention(*framed, frames=3),
    )
    torch.testing.assert_close(got, want)
    want.square().sum().backward()
    got.square().sum().backward()
    for a, b in zip(dense, framed, strict=True):
        torch.testing.assert_close(b.grad, a.grad)


def test_attention_keeps_no_score_matrix_for_the_backward_pass() -> None:
    frames, size = 8, 16
    saved: list[int] = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: saved.append(t.numel()) or t, lambda t: t):
        q, k, v = (torch.randn(1, 1, frames * size, 8, requires_grad=True) for _ in "qkv")
        frame_causal_attention(q, k, v, frames)
    assert saved
    assert max(saved) <= frames * size * 8


def test_the_full_network_has_the_public_names_and_shapes() -> None:
    want = golden.table("manifest_hunyuan_vae")
    with torch.device("meta"):
        vae = HunyuanVae()
    assert {name: list(p.shape) for name, p in vae.network.named_parameters()} == want["parameters"]
    assert not dict(vae.network.named_buffers())
    assert sum(p.numel() for p in vae.parameters()) == want["parameters_total"]
    assert (vae.spec.channels, vae.spec.time, vae.spec.space, vae.spec.causal, vae.spec.patch) == (16, 4, 8, True, 2)
    assert vae.config.scaling_factor == 0.476986


@torch.no_grad()
def test_a_latent_is_drawn_with_the_generator() -> None:
    vae = HunyuanVae(TINY).eval()
    video = torch.randn(2, 3, 5, 16, 16, generator=torch.Generator().manual_seed(0))
    posterior = vae.posterior(video)
    noise = torch.randn(posterior.mean.shape, generator=torch.Generator().manual_seed(7))
    first, same, other = (vae.encode(video, torch.Generator().manual_seed(seed)) for seed in (7, 7, 8))
    torch.testing.assert_close(first, (posterior.mean + (posterior.logvar / 2).exp() * noise) * 0.476986)
    assert torch.equal(first, same)
    assert not torch.equal(first, other)
    assert first.shape == (2, 4, *vae.spec.size(5, 16, 16))


def test_log_variance_is_clamped_and_the_kl_is_per_sample() -> None:
    moments = torch.tensor([[3.0, 50.0], [3.0, -90.0]]).reshape(2, 2, 1, 1, 1)
    posterior = Posterior.of(moments)
    assert posterior.logvar.flatten().tolist() == [20.0, -30.0]
    want = 0.5 * (9 + torch.tensor([20.0, -30.0]).exp() - 1 - torch.tensor([20.0, -30.0]))
    torch.testing.assert_close(posterior.kl(), want)


@torch.no_grad()
def test_encoding_compiles_whole() -> None:
    vae = HunyuanVae(replace(TINY, posterior="mean")).eval().requires_grad_(False)
    video = torch.randn(1, 3, 5, 16, 16)
    compiled = torch.compile(vae.encode, fullgraph=True, backend="eager")
    torch.testing.assert_close(compiled(video), vae.encode(video))


@pytest.mark.parametrize(("shape", "says"), [((5, 20, 16), "multiples of 8"), ((4, 16, 16), "4k \\+ 1")])
def test_a_video_off_the_grid_is_refused(shape: tuple[int, int, int], says: str) -> None:
    with pytest.raises(UserError, match=says):
        HunyuanVae(TINY).encode(torch.zeros(1, 3, *shape))


@torch.no_grad()
def test_loads_from_a_file_a_folder_and_its_parent(tmp_path: Path) -> None:
    made = HunyuanVae(TINY).eval()
    file, folder = tmp_path / "vae.safetensors", tmp_path / "pipeline" / "vae"
    save_file(made.network.state_dict(), file)
    made.network.save_pretrained(folder)
    video = torch.randn(1, 3, 1, 16, 16)
    for source in (file, folder, folder.parent):
        loaded = HunyuanVae.load(source, TINY)
        torch.testing.assert_close(loaded.moments(video), made.moments(video))
        assert not any(p.requires_grad for p in loaded.parameters())
    low = HunyuanVae.load(str(file), TINY, dtype=torch.bfloat16)
    assert {p.dtype for p in low.parameters()} == {torch.bfloat16}
    latent = low.encode(video)
    assert latent.dtype == torch.float32
    assert low.decode(latent).dtype == torch.bfloat16


def broken_file(folder: Path) -> tuple[Path, str]:
    (folder / "x.safetensors").write_bytes(b"not tensors at all")
    return folder / "x.safetensors", "no readable safetensors"


def absent(folder: Path) -> tuple[Path, str]:
    return folder / "nothing", "for the HunyuanVideo autoencoder, does not exist"


def missing_tensor(folder: Path) -> tuple[Path, str]:
    weights = HunyuanVae(TINY).network.state_dict()
    del weights["quant_conv.bias"]
    save_file(weights, folder / "x.safetensors")
    return folder / "x.safetensors", "lacks: quant_conv.bias"


def other_shape(folder: Path) -> tuple[Path, str]:
    save_file(HunyuanVae(replace(TINY, latent_channels=6)).network.state_dict(), folder / "x.safetensors")
    return folder / "x.safetensors", "other shapes: "


def more_tensors(folder: Path) -> tuple[Path, str]:
    save_file(HunyuanVae(TINY).network.state_dict() | {"extra": torch.zeros(1)}, folder / "x.safetensors")
    return folder / "x.safetensors", "unknown tensors: extra"


def other_folder(folder: Path) -> tuple[Path, str]:
    HunyuanVae(replace(TINY, scaling_factor=0.5)).network.save_pretrained(folder)
    return folder, "scaling_factor 0.5, not 0.476986"


def empty_folder(folder: Path) -> tuple[Path, str]:
    return folder, f"has no {WEIGHTS}"


@pytest.mark.parametrize(
    "make", [broken_file, absent, missing_tensor, other_shape, more_tensors, other_folder, empty_folder]
)
def test_a_wrong_checkpoint_is_a_users_error(make: Any, tmp_path: Path) -> None:
    source, says = make(tmp_path)
    with pytest.raises(UserError, match=says):
        HunyuanVae.load(source, TINY)
