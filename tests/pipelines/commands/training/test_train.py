"""`ziggurat train` and `ziggurat weights` as a user types them, on drawn latents."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

pytest.importorskip("torch")

from curation.pyramid.takedown import tombstones
from curation.shards import folder
from pipelines.cli import main
from pipelines.config import preset
from tests.support import encoded
from tests.support.face import refused, said
from tests.support.shard import Shard, shard
from training.models.mmdit import MMDiT
from training.models.mmdit import preset as network

SMALL = ("--set", "validation.samples=3", "--set", "validation.every=3", "--set", "checkpoints.every=2")
NOTES = [
    "note: 1 of 24 samples have no latents and are left out",
    "note: 2 samples are never trained on: 256px 1x64x64 has 2 of 4",
    "note: 2 samples are left over each epoch, short of a full batch",
    "note: 1 batch is left over each epoch, short of a whole step",
]
CLI = [sys.executable, "-m", "pipelines.cli"]


@pytest.fixture(scope="module")
def toy(tmp_path_factory: pytest.TempPathFactory) -> Shard:
    return shard(tmp_path_factory.mktemp("shard"), {encoded.CLIP: 13, encoded.SHORT: 8, encoded.IMAGE: 3}, lost=[4])


def losses(folder: Path) -> dict[int, float]:
    lines = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    return {line["step"]: line["loss"] for line in lines if line["kind"] == "step"}


def test_a_run_and_the_same_command_again(toy: Shard, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """It says what it leaves out, how far it came, and goes on from there: as one run that was not ended."""
    run = [*toy.arguments, *SMALL, "--to", str(tmp_path / "run")]
    assert main([*run, "--steps", "3"]) == 0
    shown = capsys.readouterr()
    assert "note: 1 of 24 samples have no latents and are left out" in shown.err
    notes = [line for line in shown.err.splitlines() if line.startswith("note: ")]
    without = "note: TensorBoard is not installed, log.jsonl has all: pip install 'ziggurat[tensorboard]'"
    assert notes == [*NOTES, *([] if find_spec("tensorboard") else [without])]
    assert "training to step 3, validation loss" in shown.err and "step 3: validation loss" in shown.err
    assert "step 3 of 3" in shown.out and "step-0000000003" in shown.out

    found = said(capsys, *run, "--steps", "6")
    assert [line["event"] for line in found] == ["begin", "step", "step", "step", "trained"]
    assert found[0]["step"] == 3 and found[-1]["began"] == 3 and found[-1]["step"] == 6
    assert found[1]["rate"] == pytest.approx(1e-3 * 4 / 10)  # the preset's warm-up

    whole = [*toy.arguments, *SMALL, "--to", str(tmp_path / "whole")]
    said(capsys, *whole, "--steps", "6")
    assert losses(tmp_path / "run") == losses(tmp_path / "whole") and len(losses(tmp_path / "run")) == 6
    assert said(capsys, *run, "--steps", "6")[-1]["began"] == 6  # nothing is left to do


def test_the_log_has_validation_and_bins(toy: Shard, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    said(capsys, *toy.arguments, *SMALL, "--to", str(tmp_path), "--steps", "3")
    lines = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert [line["kind"] for line in lines] == ["begin", "step", "step", "step", "end"]
    assert {f"validation/t={t / 10}" for t in range(1, 10)} <= set(lines[0]) & set(lines[3]) & set(lines[4])
    assert any(name.startswith("loss/t=") for name in lines[1]) and 0 <= lines[1]["waiting"] <= 1


def test_what_is_interrupted_saves_and_goes_on(toy: Shard, tmp_path: Path) -> None:
    run = [*CLI, *toy.arguments, *SMALL, "--to", str(tmp_path), "--steps", "100000", "--json"]
    process = subprocess.Popen(run, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    for line in process.stdout:
        if json.loads(line).get("step", 0) >= 3:
            process.send_signal(signal.SIGINT)
            break
    rest, told = process.communicate(timeout=120)
    assert process.returncode == 130
    ours = [line for line in told.splitlines() if not line.startswith("note: ")]
    assert ours == ["ziggurat: interrupted; the same command goes on where it stopped"]
    steps = [found["step"] for found in map(json.loads, rest.splitlines()) if found["event"] == "step"]
    last = steps[-1] if steps else 3
    assert (tmp_path / "checkpoints" / f"step-{last:010}").is_dir()


def test_what_is_interrupted_and_cannot_save_says_so(toy: Shard, tmp_path: Path) -> None:
    """The work since the last checkpoint is lost: that is what the command ends with, not the signal."""
    run = [*CLI, *toy.arguments, *SMALL[:-2], "--to", str(tmp_path), "--steps", "100000", "--json"]
    limit = "import resource, runpy; resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000)); "
    full = [sys.executable, "-c", limit + "runpy.run_module('pipelines.cli', run_name='__main__')", *run[3:]]
    process = subprocess.Popen(full, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    for line in process.stdout:
        if json.loads(line).get("step", 0) >= 1:
            process.send_signal(signal.SIGTERM)
            break
    _, told = process.communicate(timeout=120)
    assert process.returncode == 2, told
    interrupted, lost = [line for line in told.splitlines() if line.startswith("ziggurat: ")]
    assert interrupted.startswith("ziggurat: terminated")
    assert "was not saved" in lost and "there is none before it" in lost and "make room" in lost


def test_two_processes_of_torchrun(toy: Shard, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """One of them speaks; one process goes on from their checkpoint."""
    run = [*toy.arguments, *SMALL, "--to", str(tmp_path / "two"), "--steps", "2", "--json"]
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "-m", "pipelines.cli", *run]
    ended = subprocess.run(
        command, capture_output=True, text=True, timeout=300, env={**os.environ, "OMP_NUM_THREADS": "1"}
    )
    assert ended.returncode == 0, ended.stderr[-2000:]
    found = [json.loads(line) for line in ended.stdout.splitlines()]
    assert [line["event"] for line in found] == ["begin", "step", "step", "trained"]
    said(capsys, *toy.arguments, *SMALL, "--to", str(tmp_path / "one"), "--steps", "3")
    said(capsys, *toy.arguments, *SMALL, "--to", str(tmp_path / "two"), "--steps", "3")
    two, one = losses(tmp_path / "two"), losses(tmp_path / "one")
    assert two == pytest.approx(one, rel=1e-3)


@pytest.mark.slow  # of a toy run: tests/training/parallel/test_sharing.py
def test_two_processes_share_each_sample(toy: Shard, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The same losses and counts as one has; what heads and ranks do not allow is one line."""
    base = [*toy.arguments, *SMALL, "--steps", "3"]
    shared = [*base, "--to", str(tmp_path / "two"), "--set", "parallel.attention=ring"]

    def started(context: int, *more: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "-m", "pipelines.cli"]
        whole = [*command, *shared, "--set", f"parallel.context={context}", *more]
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        return subprocess.run(whole, capture_output=True, text=True, timeout=600, env=environment)

    ended = started(2)
    assert ended.returncode == 0, ended.stderr[-2000:]
    said(capsys, *base, "--to", str(tmp_path / "one"))
    logs = [(tmp_path / name / "log.jsonl").read_text().splitlines() for name in ("one", "two")]
    one, two = ([line for line in map(json.loads, log) if line["kind"] != "begin"] for log in logs)
    assert len(one) == len(two) == 4
    for mine, theirs in zip(two, one, strict=True):
        assert mine.keys() == theirs.keys()
        told = [
            name for name in mine if name.startswith(("loss", "norm", "validation", "samples")) and "_per_s" not in name
        ]
        assert told and [mine[name] for name in told] == pytest.approx([theirs[name] for name in told], rel=1e-3)
    refused = started(3)
    assert refused.returncode != 0 and "2 ranks are no whole number of groups of 3" in refused.stderr


def test_what_does_not_fit_is_one_line(toy: Shard, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def told(*more: str) -> str:
        return refused(capsys, *toy.arguments, "--to", str(tmp_path / "other"), *more)

    assert "no preset 'huge'; give a .toml file or one of autoencoder, autoencoder_gan, " in told("--preset", "huge")
    assert "optimizer.clip = 0: input should be greater than 0" in told("--set", "optimizer.clip=0")
    assert "4 ranks are to share a sample's tokens, engine single is one process" in told("--preset", "stage2_i2v")
    assert "parallel.attention = 'star'" in told("--set", "parallel.attention=star")
    assert "an epoch has no step" in told("--set", "batches.per_step=999")
    assert "reads 64 channels a token, the latents have 8" in told("--model", _model(tmp_path, "tiny"))
    assert "reads text 384 and 384 channels wide, the text encoder gives 32 and 16" in told("--model", "tiny")
    assert "engine ddp runs in several processes" in told("--engine", "ddp")
    assert "3 of 2 blocks cannot be recomputed" in told("--set", "network.recompute_double=3")
    assert not (tmp_path / "other" / "checkpoints").exists()


def _model(folder: Path, name: str) -> str:
    path = folder / f"{name}.toml"
    path.write_text(f'name = "x"\n[denoiser]\npreset = "{name}"\n[autoencoder]\nkind = "dcae"\npreset = "tiny"\n')
    return str(path)


def test_latents_of_another_autoencoder_are_refused(
    toy: Shard, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = tmp_path / "model.toml"
    text = Path(toy.model).read_text()
    run = [
        "train",
        toy.manifest,
        "--latents",
        toy.latents,
        "--model",
        str(model),
        *SMALL,
        "--to",
        str(tmp_path / "run"),
    ]
    model.write_text(text.replace('kind = "dcae"', 'kind = "dcae"\nseed = 7'))
    assert "are of another autoencoder (" in refused(capsys, *run) and not (tmp_path / "run").exists()
    model.write_text(text.replace('kind = "dcae"', 'kind = "dcae"\npath = "nowhere.safetensors"'))
    assert main([*run, "--steps", "1"]) == 0
    assert "note: whether the latents are of the model's autoencoder was not looked at: " in capsys.readouterr().err


def test_another_run_s_folder_is_refused(toy: Shard, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    said(capsys, *toy.arguments, *SMALL, "--to", str(tmp_path), "--steps", "1")
    again = [*toy.arguments, *SMALL, "--to", str(tmp_path), "--steps", "2"]
    assert "is of seed 42, not 7; give another folder with --to" in refused(capsys, *again, "--set", "seed=7")
    other = _model(tmp_path, "tiny_dcae")
    said(capsys, *again, "--model", other)  # the same network under another name
    import fcntl

    with (tmp_path / ".lock").open("ab") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert f"another run trains into {tmp_path}" in refused(capsys, *again)


def test_latents_that_went_are_noticed_on_the_way(
    toy: Shard, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    latents = tmp_path / "latents"
    shutil.copytree(toy.latents, latents)
    run = ["train", toy.manifest, "--latents", str(latents), "--model", toy.model, *SMALL, "--to", str(tmp_path / "r")]
    said(capsys, *run, "--steps", "1")
    import lance

    lance.dataset(str(latents / "latents.lance")).delete("sample = 7")
    assert main([*run, "--steps", "2"]) == 0
    assert "note: 2 samples are left out, 1 when it was saved: batches differ" in capsys.readouterr().err


def test_weights_of_a_run(toy: Shard, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    said(capsys, *toy.arguments, *SMALL, "--to", str(tmp_path / "run"), "--steps", "3")
    file = tmp_path / "dit.safetensors"
    (found,) = said(capsys, "weights", str(tmp_path / "run"), "-o", str(file), "--averages")
    assert found == {"files": [str(file)], "step": 3, "layout": "opensora_v2", "averages": True, "left_out": []}
    from training.models.convert import load_mmdit

    load_mmdit(MMDiT(network("tiny_dcae")), file)
    (found,) = said(capsys, "weights", str(tmp_path / "run"), "-o", str(tmp_path / "2.safetensors"), "--step", "2")
    assert found["step"] == 2
    run = str(tmp_path / "run")
    assert main(["weights", run, "-o", str(tmp_path / "3.safetensors"), "--layout", "diffusers"]) == 0
    assert "note: cond_in is left out, diffusers has no place for it" in capsys.readouterr().err
    assert "exists already" in refused(capsys, "weights", run, "-o", str(file))
    assert "no checkpoint of step 1; choose from 2, 3" in refused(capsys, "weights", run, "-o", "x", "--step", "1")
    assert "holds no whole checkpoint" in refused(capsys, "weights", str(tmp_path), "-o", "x")


def test_what_was_taken_down_is_not_trained_on(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Its latents may be there still: nothing has been encoded since."""
    made = shard(tmp_path, {encoded.CLIP: 12})
    pyramid, frozen = folder.opened(made.manifest)
    gone = frozen.samples["clip_id"].to_pylist()[:9]
    tombstones.add(pyramid.files, gone)
    told = refused(capsys, *made.arguments, *SMALL, "--to", str(tmp_path / "run"), "--steps", "1")
    assert "of 12 samples" in told and "are held out, taken down or without latents" in told
    left = shard(tmp_path / "more", {encoded.CLIP: 24})
    pyramid, frozen = folder.opened(left.manifest)
    tombstones.add(pyramid.files, frozen.samples["clip_id"].to_pylist()[:9])
    assert main([*left.arguments, *SMALL, "--to", str(tmp_path / "run"), "--steps", "1"]) == 0
    assert "note: 9 of 24 samples were taken down since they were frozen and are left out" in capsys.readouterr().err


def test_a_run_keeps_a_record_that_says_how_it_ended(
    toy: Shard, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Also where it was killed: `ziggurat runs` asks for its process."""
    run = [*toy.arguments, *SMALL, "--to", str(tmp_path)]
    said(capsys, *run, "--steps", "2")
    refused(capsys, *run, "--steps", "4", "--set", "seed=7")
    process = subprocess.Popen([*CLI, *run, "--steps", "100000", "--json"], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert any(json.loads(line).get("step", 0) >= 3 for line in process.stdout)
    process.kill()
    process.communicate()
    records = {record["state"].partition(" ")[0]: record for record in said(capsys, "runs", str(tmp_path))}
    done, wrong, killed = (records[state] for state in ("done", "failed", "killed"))  # two may be of one second
    assert (done["state"], done["exit"], done["recipe"]) == ("done", 0, "tiny")
    assert done["account"] | {"began": 0, "step": 2, "steps": 2, "restarts": []} == done["account"]
    assert done["account"]["preset"]["optimizer"]["clip"] == 1.0 and "torch" in done["versions"]
    assert wrong["state"] == "failed (2)" and "is of seed 42, not 7" in wrong["stopped_by"]
    assert killed["state"] == "killed (its process is gone)" and killed["account"]["steps"] == 100_000
    assert main(["runs", str(tmp_path)]) == 0
    shown = capsys.readouterr().out
    assert "preset" in shown and "100000" in shown and "rejected" not in shown
    assert main(["runs", str(tmp_path), killed["run"]]) == 0
    assert "steps: 100000" in capsys.readouterr().out


def test_a_run_that_ends_before_its_first_checkpoint_has_a_record_too(
    toy: Shard, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    told = refused(
        capsys, *toy.arguments, *SMALL, "--set", "network.recompute_double=99", "--to", str(tmp_path / "run")
    )
    assert "99 of 2 blocks cannot be recomputed" in told and not (tmp_path / "run" / "checkpoints").exists()
    (record,) = said(capsys, "runs", str(tmp_path / "run"))
    assert record["state"] == "failed (2)" and "99 of 2 blocks" in record["stopped_by"]
    assert "is not a pyramid" in refused(capsys, "runs", str(tmp_path))


def test_the_presets_are_the_report_s_tables() -> None:
    """Spec sections 4.3 to 4.6."""
    names = ("stage1", "stage1_i2v", "stage2_i2v", "high_compression")
    found = {name: preset.load(name).preset(name) for name in names}
    steps = {name: (one.steps, one.per_step * one.context) for name, one in found.items()}
    assert steps == {
        "stage1": (85_000, 224),
        "stage1_i2v": (13_000, 192),
        "stage2_i2v": (13_000, 192),
        "high_compression": (17_000, 160),
    }
    rates = {name: one.schedule.rates for name, one in found.items()}
    assert rates == {
        "stage1": ((0, 5e-5), (40_000, 3e-5)),
        "stage1_i2v": ((0, 5e-5),),
        "stage2_i2v": ((0, 1e-5),),
        "high_compression": ((0, 3e-5),),
    }
    i2v = {"t2v": 1, "i2v_head": 5, "i2v_loop": 1, "i2v_tail": 1}
    assert found["stage1"].conditions == {"t2v": 1}
    assert found["stage1_i2v"].conditions == found["stage2_i2v"].conditions == i2v
    assert found["high_compression"].conditions == {"t2v": 1, "i2v_head": 7}
    assert [one.recompute for one in found.values()] == [(8, None), (8, None), (None, None), (None, None)]
    for one in found.values():
        adam = one.optimizer
        assert (adam.beta1, adam.beta2, adam.eps, adam.weight_decay, one.clip) == (0.9, 0.999, 1e-15, 0, 1.0)
        assert (one.seed, one.schedule.warmup, one.averages, one.precision) == (42, 0, None, "bfloat16")
        assert one.text_dropout**2 == pytest.approx(0.1) and one.with_references
    assert (found["stage2_i2v"].context, found["stage1"].context) == (4, 1)
    assert found["stage2_i2v"].attention == "all_to_all"


def test_it_starts_from_the_weights_of_another_network(
    toy: Shard, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """As stage 1 does from Flux: what has no place is dropped, in- and output start anew, and only where asked for."""
    from dataclasses import replace

    from training.models.convert import save_mmdit

    other = MMDiT(replace(network("tiny_dcae"), in_channels=16, cond_embed=False))
    save_mmdit(other, tmp_path / "flux.safetensors")
    model = tmp_path / "model.toml"
    text = Path(toy.model).read_text().replace('"tiny_dcae"', f'"tiny_dcae"\npath = "{tmp_path}/flux.safetensors"')
    model.write_text(text)
    run = [*toy.arguments, *SMALL, "--model", str(model), "--to", str(tmp_path / "run"), "--steps", "1"]
    assert "does not fit the model" in refused(capsys, *run)
    said(capsys, *run, "--set", "network.new_latent=true", "--set", "schedule.rates=[[0, 1e-12]]")
    from training.checkpoint.folder import Checkpoints
    from training.checkpoint.load import tensors

    found = tensors(Checkpoints(tmp_path / "run" / "checkpoints").at(1))
    name = "double_blocks.0.img_mlp.0.weight"
    assert (found[name] - other.state_dict()[name]).abs().max() < 1e-9
