"""A space of an open_clip model: both towers, of local safetensors. Against open_clip itself where it is installed."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from curation.embed.base import Made
from curation.embed.openclip import OpenClip, open_clip_by
from curation.errors import UserError

MODEL, WIDTH = "ViT-B-32-quickgelu", 512


@pytest.mark.parametrize(
    ("name", "says"),
    [("weights.pt", "is no safetensors file; convert it: a pickle runs what it holds"), ("a.safetensors", "not there")],
)
def test_what_is_no_safetensors_file_is_refused(name: str, says: str, tmp_path: Path) -> None:
    if name.endswith(".pt"):
        (tmp_path / name).write_bytes(b"\x80\x02")
    with pytest.raises(UserError) as refused:
        open_clip_by(MODEL, tmp_path / name, "fp32")
    assert says in f"{refused.value.cause}; {refused.value.remedy}"


def test_other_weights_another_model_or_precision_are_another_maker(tmp_path: Path) -> None:
    a, b = tmp_path / "a.safetensors", tmp_path / "b.safetensors"
    a.write_bytes(b"a")
    b.write_bytes(b"b")
    makers = {open_clip_by(model, weights, "fp32") for model, weights in ((MODEL, a), (MODEL, b), ("x", a))}
    assert len(makers | {open_clip_by(MODEL, a, "bf16")}) == 4


def test_without_the_package_it_is_told_how_to_get_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.safetensors").write_bytes(b"a")
    monkeypatch.setitem(sys.modules, "open_clip", None)
    with pytest.raises(UserError, match="open_clip is not installed"):
        OpenClip(MODEL, tmp_path / "a.safetensors", WIDTH)


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Path]:
    """A model with random weights as open_clip makes it, and those weights in a file."""
    pytest.importorskip("open_clip", reason="the extra `clip` (torch, open_clip) is not installed")
    import open_clip
    import torch
    from safetensors.torch import save_file

    torch.manual_seed(0)
    made = open_clip.create_model(MODEL).eval()
    path = tmp_path_factory.mktemp("clip") / "weights.safetensors"
    save_file({name: one.contiguous() for name, one in made.state_dict().items()}, path)
    return made, path


def assert_close(made: Made, wanted: np.ndarray) -> None:
    assert isinstance(made, np.ndarray)
    np.testing.assert_allclose(made, wanted, atol=1e-5)


def test_pictures_and_words_are_embedded_as_open_clip_does(real: tuple[Any, Path]) -> None:
    import open_clip
    import torch
    from PIL import Image

    theirs, path = real
    ours = OpenClip(MODEL, path, WIDTH)
    frames = list(np.random.default_rng(0).integers(0, 256, (3, 90, 160, 3), np.uint8))
    transform: Any = open_clip.create_model_and_transforms(MODEL)[2]
    shown = torch.stack([transform(Image.fromarray(np.ascontiguousarray(one[:, :, ::-1]))) for one in frames])
    with torch.inference_mode():
        pictures = torch.nn.functional.normalize(theirs.encode_image(shown), dim=-1)
        words = torch.nn.functional.normalize(theirs.encode_text(open_clip.get_tokenizer(MODEL)(["a red fox"])), dim=-1)
    mean = torch.nn.functional.normalize(pictures.mean(0), dim=-1).numpy()
    clip, still = ours.pictures([frames, frames[1:2]])
    assert_close(clip, mean)
    assert_close(still, pictures[1].numpy())
    assert_close(ours.texts(["a red fox"])[0], words[0].numpy())
    (middle,) = OpenClip(MODEL, path, WIDTH, middle=True, by="x").pictures([frames])
    assert_close(middle, pictures[1].numpy())


def test_weights_of_another_model_and_a_model_that_is_none_are_told(real: tuple[Any, Path]) -> None:
    with pytest.raises(UserError, match="does not load as ViT-B-16"):
        OpenClip("ViT-B-16", real[1], WIDTH)
    with pytest.raises(UserError, match="knows no model 'ViT-Nothing'"):
        OpenClip("ViT-Nothing", real[1], WIDTH)


def test_a_width_that_is_not_the_models_is_told(real: tuple[Any, Path]) -> None:
    with pytest.raises(ValueError, match=r"gave a vector of shape \(512,\), and its space has 511 numbers"):
        OpenClip(MODEL, real[1], 511).texts(["a red fox"])
