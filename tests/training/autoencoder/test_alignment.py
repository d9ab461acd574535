"""The distillation loss by its definition, position by position; DINOv2 from a folder, and what is no such folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from curation.errors import UserError
from tests.support.toy_autoencoder import TinyTeacher
from training.autoencoder.alignment import alignment_loss
from training.autoencoder.teacher import MEAN, STD, Dinov2, features
from training.quality.frames import standardise


def by_definition(z: Any, f: Any, m1: float, m2: float) -> float:
    def cos(a: Any, b: Any) -> float:
        return float(a @ b / (a.norm() * b.norm()))

    own, among = [], []
    for frame in range(len(z)):
        zs, fs = (x[frame].flatten(1).T for x in (z, f))
        for i in range(len(zs)):
            own.append(max(0.0, 1 - m1 - cos(zs[i], fs[i])))
            among += [max(0.0, abs(cos(zs[i], zs[j]) - cos(fs[i], fs[j])) - m2) for j in range(len(zs))]
    return sum(own) / len(own) + sum(among) / len(among)


@pytest.mark.parametrize(("m1", "m2"), [(0.5, 0.25), (0.0, 0.0)])
def test_alignment_by_definition(m1: float, m2: float) -> None:
    torch.manual_seed(0)
    z, f = torch.randn(2, 5, 3, 2), torch.randn(2, 5, 3, 2)
    assert alignment_loss(z, f, m1, m2).item() == pytest.approx(by_definition(z, f, m1, m2), rel=1e-5)


def test_what_lies_as_the_teacher_s_features_do_costs_nothing() -> None:
    torch.manual_seed(0)
    f = torch.randn(2, 5, 3, 2, requires_grad=True)
    z = (2 * f.detach()).requires_grad_()
    assert alignment_loss(z, f, 0.0, 1e-5).item() == pytest.approx(0, abs=1e-6)
    alignment_loss(z, f).backward()
    assert f.grad is None


def test_frames_are_resized_to_whole_patches() -> None:
    teacher = TinyTeacher(patch=3)
    assert features(teacher, torch.rand(2, 3, 16, 24), (4, 6)).shape == (2, 6, 4, 6)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny DINOv2 with drawn weights."""
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(0)
    sizes = {"hidden_size": 8, "num_hidden_layers": 2, "num_attention_heads": 2, "image_size": 28, "patch_size": 14}
    place = tmp_path_factory.mktemp("dinov2")
    transformers.Dinov2Model(transformers.Dinov2Config(**sizes)).save_pretrained(place)
    return place


def test_dinov2_gives_a_feature_a_patch(folder: Path) -> None:
    teacher = Dinov2(folder)
    assert (teacher.width, teacher.patch) == (8, 14)
    frames = torch.rand(2, 3, 28, 42, requires_grad=True)
    found = teacher(frames)
    assert found.shape == (2, 8, 2, 3) and not found.requires_grad
    states = teacher._network(standardise(frames.detach(), MEAN, STD)).last_hidden_state
    assert torch.equal(found[1, :, 1, 2], states[1, 1 + 1 * 3 + 2])  # behind the class token, row by row


def test_what_is_no_dinov2_is_told(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="DINOv2 ViT-L/14 is needed and no path was given; hf download facebook/dinov2"):
        Dinov2(None)
    with pytest.raises(UserError, match="is not DINOv2"):
        Dinov2(tmp_path)
    from safetensors.torch import load_file, save_file

    (tmp_path / "config.json").write_bytes((folder / "config.json").read_bytes())
    kept = load_file(folder / "model.safetensors")
    kept.pop("layernorm.weight")
    save_file(kept, tmp_path / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(UserError, match=r"is not DINOv2: it lacks layernorm\.weight"):
        Dinov2(tmp_path)
