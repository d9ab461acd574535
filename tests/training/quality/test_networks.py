"""The adapters: weights in the published layout, read whole or refused; networks against a second derivation."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TypeVar

import numpy as np
import pytest

pytest.importorskip("torch")

import torch
from torch.nn import functional as F

from curation.errors import UserError
from tests.support.shared import SHARED, need
from training.quality import weights
from training.quality.aesthetic import load_head
from training.quality.clip import ClipImage
from training.quality.dino import Dino, VisionTransformer, dino_pixels
from training.quality.dynamics import Raft
from training.quality.frames import in_batches
from training.quality.imaging import Musiq
from training.quality.smoothness import Script

M = TypeVar("M", bound=torch.nn.Module)


def drawn(module: M, seed: int = 0) -> M:
    """The module with every parameter drawn anew, none at its start value."""
    generator = torch.Generator().manual_seed(seed)
    for parameter in module.parameters():
        parameter.data = 0.3 * torch.randn(parameter.shape, generator=generator)
    return module.eval()


def dino_by_hand(state: dict[str, torch.Tensor], x: torch.Tensor, heads: int, positions: torch.Tensor) -> torch.Tensor:
    """The class token by plain matrix products, from the published names."""

    def norm(y: torch.Tensor, name: str) -> torch.Tensor:
        centred = y - y.mean(-1, keepdim=True)
        unit = centred / (centred.square().mean(-1, keepdim=True) + 1e-6).sqrt()
        return unit * state[f"{name}.weight"] + state[f"{name}.bias"]

    def linear(y: torch.Tensor, name: str) -> torch.Tensor:
        return y @ state[f"{name}.weight"].T + state[f"{name}.bias"]

    kernel = state["patch_embed.proj.weight"]
    patches = F.unfold(x, kernel.shape[-1], stride=kernel.shape[-1])[0].T @ kernel.flatten(1).T
    y = torch.cat([state["cls_token"][0], patches + state["patch_embed.proj.bias"]]) + positions
    for i in range(2):
        q, k, v = linear(norm(y, f"blocks.{i}.norm1"), f"blocks.{i}.attn.qkv").chunk(3, -1)
        outputs = []
        for a, b, c in zip(*(z.chunk(heads, -1) for z in (q, k, v)), strict=True):
            outputs.append(torch.softmax(a @ b.T / math.sqrt(a.shape[-1]), -1) @ c)
        y = y + linear(torch.cat(outputs, -1), f"blocks.{i}.attn.proj")
        hidden = linear(norm(y, f"blocks.{i}.norm2"), f"blocks.{i}.mlp.fc1")
        y = y + linear(hidden * 0.5 * (1 + torch.erf(hidden / math.sqrt(2))), f"blocks.{i}.mlp.fc2")
    return norm(y, "norm")[0]


def test_dino_on_a_square() -> None:
    network = drawn(VisionTransformer(width=24, depth=2, heads=3, patch=4, grid=3))
    x = torch.rand(1, 3, 12, 12)
    want = dino_by_hand(network.state_dict(), x, 3, network.pos_embed[0])
    torch.testing.assert_close(network(x)[0], want, atol=1e-4, rtol=1e-4)


def test_dino_stretches_its_positions_over_a_wide_frame() -> None:
    network = drawn(VisionTransformer(width=24, depth=2, heads=3, patch=4, grid=3))
    x = torch.rand(1, 3, 12, 22)  # 3 x 5 patches, two columns of pixels left over
    square = network.pos_embed[:, 1:].reshape(1, 3, 3, 24).permute(0, 3, 1, 2)
    wide = F.interpolate(square, scale_factor=(3.1 / 3, 5.1 / 3), mode="bicubic").permute(0, 2, 3, 1).reshape(15, 24)
    want = dino_by_hand(network.state_dict(), x[..., :20], 3, torch.cat([network.pos_embed[0, :1], wide]))
    torch.testing.assert_close(network(x)[0], want, atol=1e-4, rtol=1e-4)


def test_dino_equals_timm_under_the_published_names() -> None:
    timm = pytest.importorskip("timm")
    sizes = {"img_size": 48, "patch_size": 16, "embed_dim": 24, "depth": 2, "num_heads": 3}
    theirs = drawn(timm.models.VisionTransformer(num_classes=0, **sizes))
    ours = VisionTransformer(width=24, depth=2, heads=3, patch=16, grid=3)
    weights.fill(ours, theirs.state_dict(), None, weights.DINO)
    x = torch.rand(2, 3, 48, 48)
    torch.testing.assert_close(ours(x), theirs(x), atol=1e-4, rtol=1e-4)


def test_dino_from_a_file(tmp_path: Path) -> None:
    with torch.device("meta"):
        shapes = {name: value.shape for name, value in VisionTransformer().state_dict().items()}
    state = {name: torch.tensor(float(name == "norm.bias")).expand(shape) for name, shape in shapes.items()}
    torch.save(state, tmp_path / "dino.pth")
    assert torch.equal(Dino(tmp_path / "dino.pth")(torch.rand(1, 3, 30, 30)), torch.ones(1, 768))


def test_dino_sees_the_whole_frame_224_high() -> None:
    seen = dino_pixels(torch.full((1, 3, 30, 50), 0.5))
    assert seen.shape == (1, 3, 224, 373)
    assert seen[0, :, 9, 9].tolist() == pytest.approx([0.015 / 0.229, 0.044 / 0.224, 0.094 / 0.225], abs=1e-6)


def clip_folder(folder: Path) -> Path:
    from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

    config = CLIPVisionConfig(
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        image_size=32,
        patch_size=8,
        projection_dim=6,
    )
    drawn(CLIPVisionModelWithProjection(config)).save_pretrained(folder)
    return folder


def test_clip_from_a_folder(tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    folder = clip_folder(tmp_path)
    frames = torch.rand(3, 3, 32, 40)
    mean, std = torch.tensor([0.4815, 0.4578, 0.4082]), torch.tensor([0.2686, 0.2613, 0.2758])
    pixels = (frames[..., 4:36] - mean[:, None, None]) / std[:, None, None]
    with torch.no_grad():
        want = transformers.CLIPVisionModelWithProjection.from_pretrained(folder).eval()(pixels).image_embeds
    torch.testing.assert_close(ClipImage(folder, weights.CLIP_B32, batch=2)(frames), want, atol=1e-3, rtol=1e-3)


def test_clip_that_lacks_a_weight_is_refused(tmp_path: Path) -> None:
    pytest.importorskip("transformers")
    from safetensors.torch import load_file, save_file

    file = clip_folder(tmp_path) / "model.safetensors"
    state = load_file(file)
    save_file({k: v for k, v in state.items() if "visual_projection" not in k}, file, metadata={"format": "pt"})
    with pytest.raises(UserError, match=r"it lacks visual_projection\.weight; hf download openai/clip-vit"):
        ClipImage(tmp_path, weights.CLIP_B32)


def test_an_empty_folder_is_no_clip(tmp_path: Path) -> None:
    pytest.importorskip("transformers")
    with pytest.raises(UserError, match="is not the folder of CLIP ViT-L/14"):
        ClipImage(tmp_path, weights.CLIP_L14)


def test_laions_real_head_rates_real_embeddings_upwards() -> None:
    head = load_head(need(SHARED / "weights" / "sa_0_4_vit_l_14_linear.pth"))
    folder = need(SHARED / "weights" / "vit_l_14_embeddings")
    rows = torch.stack([torch.from_numpy(np.load(folder / f"rating{i}.npy")).float().flatten() for i in range(10)])
    ratings = head(F.normalize(rows, dim=-1)).flatten().tolist()
    assert ratings == sorted(ratings) and ratings[-1] - ratings[0] > 5


class Middle(torch.nn.Module):
    def forward(self, a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        assert a.size(2) % 16 == 0 and a.size(3) % 16 == 0
        return (a + b) / 2


def test_an_interpolator_from_torchscript(tmp_path: Path) -> None:
    torch.jit.script(Middle()).save(tmp_path / "amt.ts")
    a, b = torch.rand(2, 2, 3, 20, 36)
    torch.testing.assert_close(Script(tmp_path / "amt.ts")(a, b), (a + b) / 2)


def test_a_trace_of_another_size_says_which_it_needs(tmp_path: Path) -> None:
    class Fixed(torch.nn.Module):
        def forward(self, a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
            return (a + b).view(1, 3, 32, 32)

    torch.jit.script(Fixed()).save(tmp_path / "amt.ts")
    with pytest.raises(UserError, match="trace it for 32x48"):
        Script(tmp_path / "amt.ts")(*torch.rand(2, 1, 3, 32, 40))


def test_raft_measures_a_shift(tmp_path: Path) -> None:
    """RAFT without training gives some flow; its size is that of the padded frame, its batches do not matter."""
    raft = pytest.importorskip("torchvision.models.optical_flow").raft_large(weights=None)
    torch.save(raft.state_dict(), tmp_path / "raft.pth")
    a, b = torch.rand(2, 2, 3, 130, 128)
    flow = Raft(tmp_path / "raft.pth", batch=2)(a, b)
    assert flow.shape == (2, 2, 136, 128) and flow.isfinite().all()
    with pytest.raises(UserError, match="128 pixels"):
        Raft(tmp_path / "raft.pth")(a[..., :100], b[..., :100])


def test_musiq_of_pyiqa(tmp_path: Path) -> None:
    musiq = pytest.importorskip("pyiqa.archs.musiq_arch").MUSIQ(pretrained=False)
    torch.save(musiq.state_dict(), tmp_path / "musiq.pth")
    rated = Musiq(tmp_path / "musiq.pth", batch=2)(torch.rand(3, 3, 64, 96))
    assert rated.shape == (3,) and rated.isfinite().all()


def test_weights_of_another_network_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "head.pth"
    for state, complaint in (
        ({"weight": torch.zeros(1, 512), "bias": torch.zeros(1)}, r"weight is \(1, 512\), not \(1, 768\)"),
        ({"weight": torch.zeros(1, 768)}, r"bias is absent, not \(1,\)"),
        (
            {"weight": torch.zeros(1, 768), "bias": torch.zeros(1), "more": torch.zeros(1)},
            r"more is \(1,\), not absent",
        ),
    ):
        torch.save(state, file)
        with pytest.raises(UserError, match=f"is not LAION's linear head.*{complaint}; curl"):
            load_head(file)


def test_a_file_with_code_or_without_weights_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "head.pth"
    torch.save({"weight": Path("x")}, file)
    with pytest.raises(UserError, match="does not hold plain weights"):
        load_head(file)
    torch.save([torch.zeros(1)], file)
    with pytest.raises(UserError, match="plain mapping"):
        load_head(file)


def test_batches_join_and_hold_no_gradients() -> None:
    seen: list[int] = []

    def double(x: torch.Tensor) -> torch.Tensor:
        seen.append(len(x))
        return 2 * x

    out = in_batches(double, torch.arange(5.0, requires_grad=True), batch=2)
    assert out.tolist() == [0, 2, 4, 6, 8] and seen == [2, 2, 1] and not out.requires_grad
