"""`ziggurat lora`, the whole way: an adapter trained by a preset, merged, exported, and extracted again."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

pytest.importorskip("torch")
pytest.importorskip("peft")

import torch

from curation.errors import UserError
from pipelines import cli
from pipelines.commands.training import lora
from pipelines.config import preset
from pipelines.train import train
from tests.support import encoded, golden
from tests.support.adapters import config_of, output, trained
from tests.support.mmdit import lively
from training.assemble import Job
from training.callbacks.base import Report
from training.lora import files
from training.lora.inject import adapter_of, attached, plain
from training.lora.spec import LoraSpec
from training.models import build
from training.models.convert import load_mmdit, save_mmdit
from training.models.layouts import DIFFUSERS
from training.models.mmdit import MMDiT
from training.models.mmdit import preset as network
from training.models.weights import Files
from training.trainer import Progress

SETTINGS = ["lora.rank=4", "lora.alpha=2", "lora.targets=attn, mod", "lora.dropout=0.1", "steps=2"]


def model_file(folder: Path, name: str, path: Path | None = None) -> str:
    """Of a transformer's preset with these weights, or drawn ones."""
    weights = f'path = "{path}"\n' if path else ""
    file = folder / f"{name}.toml"
    file.write_text(
        f'name = "{name}"\n[denoiser]\npreset = "{name}"\n{weights}[autoencoder]\nkind = "dcae"\npreset = "tiny"\n'
    )
    return str(file)


class Silent:
    def note(self, text: str) -> None: ...
    def begin(self, progress: Progress, steps: int, validation: float | None, measure: str) -> None: ...
    def step(self, progress: Progress, report: Report) -> None: ...


def run(folder: Path, *settings: str) -> None:
    """A training of two steps of `tiny_dcae` by the preset that ships, with changes."""
    frozen = encoded.frozen({encoded.CLIP: 12})
    model = build.ModelSpec(
        name="toy",
        denoiser=build.DenoiserSpec(preset="tiny_dcae"),
        autoencoder=build.AutoencoderSpec(kind="dcae", preset="tiny"),
        text=build.TextSpec(kind="embedded"),
        image=None,
        device="cpu",
        dtype="float32",
        threads=1,
        kernels=False,
    )
    chosen = preset.load("tiny", [*settings, "log.tensorboard=false"]).preset("tiny")
    train(
        Job(frozen=frozen, source=encoded.Memory(frozen.samples), model=model, preset=chosen, folder=folder), Silent()
    )


def drawn(name: str) -> MMDiT:
    torch.manual_seed(0)
    return MMDiT(network(name))


def test_from_training_to_merged_weights(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The adapter out of a run's folder, on the weights that the run was begun with, and so without a note."""
    run(tmp_path / "run", *SETTINGS)
    model, target = model_file(tmp_path, "tiny_dcae"), tmp_path / "merged.safetensors"
    assert cli.main(["lora", "export", str(tmp_path / "run"), "-m", model, "--to", str(tmp_path / "peft")]) == 0
    assert cli.main(["lora", "merge", str(tmp_path / "run"), "-m", model, "--to", str(target), "--json"]) == 0
    told, said = capsys.readouterr()
    assert said == "" and "adapter_config.json: 30 layers of rank 4 for peft" in told
    assert {**json.loads(told.splitlines()[-1]), "rounding": 0} == {
        "files": [str(target)],
        "layers": 30,
        "rank": 4,
        "scale": 0.5,
        "rounding": 0,
    }
    adapter = files.load(tmp_path / "peft")
    assert any(b_OR.any() for _, b_OR in adapter.layers.values())
    want, merged = plain(attached(drawn("tiny_dcae"), adapter)).state_dict(), Files(target)
    assert set(merged.names()) == set(want)
    assert all(torch.allclose(merged.read(name), tensor, atol=1e-6) for name, tensor in want.items())
    run(tmp_path / "run", *SETTINGS, "steps=3")  # and it goes on


def test_other_weights_are_noted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = network("tiny")
    save_mmdit(lively(config).bfloat16(), tmp_path / "base.safetensors")
    adapter = adapter_of(trained(drawn("tiny")))
    files.save(adapter, tmp_path / "adapter")
    model = model_file(tmp_path, "tiny", tmp_path / "base.safetensors")
    arguments = ["lora", "merge", str(tmp_path / "adapter"), "-m", model, "--to", str(tmp_path / "m.safetensors")]
    assert cli.main(arguments) == 0
    told, said = capsys.readouterr()
    assert "note: the adapter was made for other weights than those of model tiny" in said
    assert "layers of rank 4, scaled by 4" in told and "lost to the rounding of the weights' type" in told
    assert cli.main(arguments) == 2
    assert "m.safetensors exists already" in capsys.readouterr().err


def test_extracted_and_exported_to_diffusers(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Two checkpoints, one of them in diffusers' layout: with a model they come to its own."""
    config = config_of(True, cond=False)
    base, tuned, folder = tmp_path / "base.safetensors", tmp_path / "tuned.safetensors", tmp_path / "adapter"
    save_mmdit(lively(config), base)
    save_mmdit(plain(trained(lively(config), LoraSpec(rank=2, alpha=8, targets=("mlp",)))), tuned, DIFFUSERS)
    asked = ["lora", "extract", str(base), str(tuned), "--rank", "2", "--to", str(folder)]
    assert cli.main(asked) == 2
    assert "give --model, so that they are brought to the model's own" in capsys.readouterr().err
    assert cli.main([*asked, "-m", model_file(tmp_path, "tiny_flux"), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["error"] < 1e-4 and told["left"] == [] and len(told["layers"]) == 12
    adapted = attached(lively(config), files.load(folder))
    want = MMDiT(config)
    load_mmdit(want, tuned)
    golden.close(output(adapted), output(want), 1e-3, 1e-3)
    to = tmp_path / "flux"
    done = lora.export(str(folder), model_file(tmp_path, "tiny_flux"), "diffusers", str(to), averages=False)
    assert done.layers == 8 + 2 * (4 + 1) and [Path(name).name for name in done.files] == [
        "pytorch_lora_weights.safetensors"
    ]
    files.save(adapter_of(trained(drawn("tiny"))), tmp_path / "other")
    with pytest.raises(UserError, match=r"input for a condition \(cond_in\)"):
        lora.export(
            str(tmp_path / "other"), model_file(tmp_path, "tiny"), "diffusers", str(tmp_path / "no"), averages=False
        )


def test_what_differs_and_is_left_is_shown(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    base, tuned = tmp_path / "base.safetensors", tmp_path / "tuned.safetensors"
    save_mmdit(lively(config_of(False)), base)
    model = plain(trained(lively(config_of(False)), LoraSpec(rank=8, targets=("attn",))))
    with torch.no_grad():
        model.txt_in.bias.add_(1)
    save_mmdit(model, tuned)
    assert cli.main(["lora", "extract", str(base), str(tuned), "--rank", "4", "--to", str(tmp_path / "a")]) == 0
    told = capsys.readouterr().out
    assert "% of the difference is not in it; the worst layers:\n  " in told
    assert "these differ too and are left as they are: txt_in.bias" in told


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (["lora.alpha=4"], "alpha has no effect without a rank: write for example rank = 16"),
        (["lora.rank=4", "lora.targets=ff"], "there is no lora target 'ff'; choose among attn:"),
        (["lora.rank=-1"], "lora.rank = -1"),
        (["lora.rank=4", "lora.dropout=1"], "lora.dropout"),
        (["lora.rang=4"], "no such key; allowed are rank, alpha, dropout, targets"),
    ],
)
def test_a_preset_that_makes_no_adapter_is_refused(change: list[str], says: str) -> None:
    with pytest.raises(UserError, match=says):
        preset.load("tiny", change).preset("tiny")


def test_the_preset_that_ships_is_one() -> None:
    found = preset.load("lora", ["lora.targets=all"]).preset("lora")
    assert found.lora == LoraSpec(rank=32, targets=("all",)) and preset.load("tiny").preset("tiny").lora is None
