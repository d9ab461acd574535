"""The aesthetic filter: LAION's heads, the encoder against open_clip's own, and bad weights files."""

from __future__ import annotations

import os
import pickle
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from curation.errors import UserError
from curation.filters import aesthetic
from curation.filters.aesthetic import (
    Aesthetic,
    aesthetic_fingerprint,
    clip_from_hub,
    load_encoder,
    load_head,
    load_weights,
    missing_weights,
    preprocess,
)
from tests.curation.filters.samples import WEIGHTS, need, written

V2 = "sac+logos+ava1-l14-linearMSE.pth"
V1 = "sa_0_4_vit_l_14_linear.pth"
RATED = (1.66, 2.36, 3.07, 3.67, 4.24, 4.70, 5.07, 5.37, 5.58, 5.75)
"""What head v2 gives for LAION's ten example embeddings, rating0.npy to rating9.npy."""


@pytest.fixture(scope="module")
def torch() -> Any:
    pytest.importorskip("open_clip", reason="the extra `clip` (torch, open_clip) is not installed")
    torch = pytest.importorskip("torch")
    torch.set_num_threads(1)
    return torch


@pytest.fixture(scope="module")
def ratings(torch: Any) -> Any:
    folder = need(WEIGHTS / "vit_l_14_embeddings")
    embeddings = np.concatenate([np.load(folder / f"rating{i}.npy").reshape(1, 768) for i in range(10)])
    return torch.nn.functional.normalize(torch.from_numpy(embeddings.astype(np.float32)), dim=-1)


@pytest.fixture(scope="module")
def clip(torch: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Any, Path]]:
    """A randomly initialised ViT-L/14 as open_clip makes it, and its image tower in a weights file."""
    import open_clip
    from safetensors.torch import save_file

    torch.manual_seed(7)
    model = open_clip.create_model("ViT-L-14", force_quick_gelu=True).eval()
    path = tmp_path_factory.mktemp("clip") / "clip.safetensors"
    save_file({k: v for k, v in model.state_dict().items() if k.startswith(("visual.", "logit_scale"))}, path)
    yield model, path
    path.unlink()


@pytest.fixture(scope="module")
def head(torch: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A head of v1's form that answers with ten times the first number of an embedding."""
    path = tmp_path_factory.mktemp("head") / "linear.pth"
    weight = torch.zeros(1, 768)
    weight[0, 0] = 10.0
    torch.save({"weight": weight, "bias": torch.zeros(1)}, path)
    return path


def test_head_v2_rates_the_example_embeddings_as_laion_does(ratings: Any) -> None:
    scores = load_head(need(WEIGHTS / V2))(ratings).squeeze(-1).tolist()
    assert scores == pytest.approx(RATED, abs=0.006)


def test_head_v1_is_the_linear_layer_of_its_file(torch: Any, ratings: Any) -> None:
    path = need(WEIGHTS / V1)
    file = torch.load(path, weights_only=True)
    scores = load_head(path)(ratings)
    assert torch.allclose(scores, ratings @ file["weight"].T + file["bias"], atol=1e-5)
    assert scores[9] > scores[0] + 1


def test_pictures_are_prepared_as_open_clip_prepares_them(torch: Any) -> None:
    import open_clip
    from PIL import Image

    theirs: Any = open_clip.create_model_and_transforms("ViT-B-32-quickgelu")[2]
    rng = np.random.default_rng(0)
    for shape in ((360, 640), (640, 360), (224, 224), (50, 90)):
        picture = Image.fromarray(rng.integers(0, 256, (*shape, 3), dtype=np.uint8))
        assert torch.allclose(preprocess()(picture), theirs(picture), atol=1e-6)


def test_the_encoder_gives_open_clips_own_embeddings(torch: Any, clip: tuple[Any, Path], head: Path) -> None:
    from PIL import Image

    model, path = clip
    frames = [
        written(("first", 40, 90)),
        written(("middle", 200, 200))[:, :360],
        written(("last", 9, 300)) // 3,
    ]
    pictures = [preprocess()(Image.fromarray(frame[:, :, ::-1].copy())) for frame in frames]
    with torch.inference_mode():
        theirs = torch.nn.functional.normalize(model.encode_image(torch.stack(pictures)), dim=-1).numpy()
    ours = Aesthetic(path, head, batch=2)
    whole, none, one = ours.measure([frames, [], frames[2:]])
    assert whole.value == pytest.approx(float(theirs[:, 0].mean()) * 10, abs=1e-4)
    assert one.value == pytest.approx(float(theirs[2, 0]) * 10, abs=1e-4)
    assert (none.value, none.why, none.embedding) == (None, "no sample frames", None)
    assert whole.embedding is not None and one.embedding is not None
    assert (whole.embedding.dtype, whole.embedding.shape) == (np.float32, (768,))
    np.testing.assert_allclose(whole.embedding, theirs[1], atol=1e-5)
    np.testing.assert_allclose(one.embedding, theirs[2], atol=1e-5)
    assert float(np.linalg.norm(whole.embedding)) == pytest.approx(1, abs=1e-5)
    bf16 = Aesthetic(path, head, dtype="bf16")
    assert bf16.fingerprint != ours.fingerprint
    assert float(bf16.embed(frames[1:2])[0] @ theirs[1]) > 0.999


def test_a_number_that_is_not_finite_is_none_and_says_so(torch: Any, clip: tuple[Any, Path], tmp_path: Path) -> None:
    torch.save({"weight": torch.full((1, 768), float("nan")), "bias": torch.zeros(1)}, tmp_path / "nan.pth")
    (measured,) = Aesthetic(clip[1], tmp_path / "nan.pth").measure([[written(("x", 9, 99))]])
    assert (measured.value, measured.embedding) == (None, None)
    assert measured.why == "CLIP gave a number that is not finite"


def test_weights_of_another_shape_are_refused_in_one_line(torch: Any, tmp_path: Path) -> None:
    from safetensors.torch import save_file

    small = tmp_path / "vit_b.safetensors"
    save_file({"visual.class_embedding": torch.zeros(768), "visual.proj": torch.zeros(768, 512)}, small)
    with pytest.raises(UserError, match=r"is not OpenAI's CLIP ViT-L/14.*; hf download") as refused:
        load_encoder(small)
    assert "\n" not in str(refused.value)
    torch.save({"weight": torch.zeros(1, 512), "bias": torch.zeros(1)}, tmp_path / "head.pth")
    with pytest.raises(UserError, match=r"weight is \(1, 512\), not \(1, 768\)"):
        load_head(tmp_path / "head.pth")
    torch.save({"weight": torch.zeros(1, 768), "bias": torch.zeros(1), "z": torch.zeros(1)}, tmp_path / "more.pth")
    with pytest.raises(UserError, match="it also holds z"):
        load_head(tmp_path / "more.pth")


class Bomb:
    """A pickle that runs a command when it is loaded."""

    def __init__(self, target: Path) -> None:
        self._target = target

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return os.system, (f"touch '{self._target}'",)


def test_a_checkpoint_that_runs_code_is_refused_and_runs_none(torch: Any, tmp_path: Path) -> None:
    fuse, bomb, plain = tmp_path / "exploded", tmp_path / "bomb.pth", tmp_path / "plain.pth"
    torch.save({"weight": Bomb(fuse)}, bomb)
    plain.write_bytes(pickle.dumps(Bomb(fuse), protocol=2))
    for path in (bomb, plain):
        with pytest.raises(UserError, match="does not hold plain weights"):
            load_head(path)
    assert not fuse.exists()


@pytest.mark.parametrize("name", ["cut.pth", "cut.safetensors"])
def test_a_file_that_is_no_checkpoint_is_refused(torch: Any, tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"<html>404</html>")
    with pytest.raises(UserError, match="does not hold plain weights"):
        load_weights(tmp_path / name, "fetch it again")
    torch.save([1, 2], tmp_path / "list.pth")
    with pytest.raises(UserError, match="plain mapping"):
        load_weights(tmp_path / "list.pth", "fetch it again")


def test_missing_weights_are_named_with_the_command_that_gets_them(tmp_path: Path) -> None:
    there = tmp_path / "there"
    there.write_bytes(b"")
    both = missing_weights(None, tmp_path / "absent.pth")
    assert [what.split(" (")[0] for what, _ in both] == ["CLIP ViT-L/14 of OpenAI", "LAION's aesthetic head"]
    assert both[0][1].startswith("hf download") and "absent.pth" in both[1][0]
    assert missing_weights(there, there) == []


def test_without_weights_the_filter_cannot_be_made(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"weights missing: .*; hf download"):
        Aesthetic(tmp_path / "clip.safetensors", tmp_path / "head.pth")


def test_the_hub_is_asked_only_when_allowed(torch: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    import huggingface_hub

    asked: list[str] = []
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", lambda *names: asked.append(names[0]) or str(tmp_path))
    monkeypatch.setattr(huggingface_hub, "try_to_load_from_cache", lambda *names: None)
    assert clip_from_hub() is None and asked == []
    assert clip_from_hub(download=True) == tmp_path and asked == [aesthetic.HUB_REPO]


def test_the_fingerprint_follows_weights_and_precision(tmp_path: Path) -> None:
    clip, head = tmp_path / "clip", tmp_path / "head"
    clip.write_bytes(b"clip")
    head.write_bytes(b"head")
    usual, half = aesthetic_fingerprint(clip, head), aesthetic_fingerprint(clip, head, "bf16")
    head.write_bytes(b"another")
    assert len({usual, half, aesthetic_fingerprint(clip, head)}) == 3
    assert usual.startswith("aesthetic-1-")


def test_without_torch_the_extra_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "open_clip", None)
    with pytest.raises(UserError, match=r"open_clip is not installed; pip install -e '.\[clip\]'"):
        load_head(tmp_path / "head.pth")
