"""`ziggurat train` of an autoencoder as a user types it: frames out of a pyramid, checkpoints, weights to load."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from datetime import timedelta
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch")

import torch

from curation.media.plan import Limits
from curation.pyramid.store import Pyramid
from curation.pyramid.takedown import tombstones
from curation.pyramid.takedown.forget import forget
from curation.shards import folder
from pipelines import encode as encode_path
from pipelines.cli import main
from pipelines.commands.shards.freeze import Request, freeze
from pipelines.config import autoencoder_preset, modelfile, preset
from pipelines.encoding.account import EncodeAccount
from pipelines.encoding.latents import Latents
from pipelines.execution.cluster import Resources
from tests.support import encoded, images, jobs, media, without_ray
from tests.support.face import refused, said
from tests.support.shard import shard
from tests.support.watch import Silent
from training.autoencoder import assemble
from training.autoencoder.settings import Settings
from training.checkpoint.folder import Checkpoints
from training.checkpoint.load import tensors
from training.checkpoint.state import AVERAGE, MOMENTS, WEIGHT
from training.data import bucket_table
from training.data.latents import LatentStore
from training.models.dcae import VideoDcAe
from training.parallel.channels import Channels

RECIPE = jobs.WITHOUT_TEXT + "[images]\nfrom_folders = true\n"
TABLE = "side_multiple = 32\n[buckets.64px]\n1 = { batch = 2 }\n4 = { batch = 1 }\n"
SMALL = ("--preset", "tiny_autoencoder", "--set", "validation.samples=2", "--set", "validation.every=2")
JUDGED = [
    part
    for key in ("weight=0.05", "start=1", "channels=4", "layers=2", "norm=group")
    for part in ("--set", f"adversary.{key}")
]
"""Against a discriminator that begins at the second step."""


@pytest.fixture(scope="module")
def curated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A pyramid of four clips and four images with a manifest "all" of them, and "odd" whose sides do not fit."""
    place = tmp_path_factory.mktemp("curated")
    videos = place / "videos"
    videos.mkdir()
    media.scenes(videos / "a.mp4", (2.5, 3, 2.5), sources=("testsrc2", "mandelbrot", "gradients"), crf=28)
    media.make(videos / "b.mp4", seconds=2.5, source="gradients")
    for number in range(4):
        images.save(videos / f"{number}.png", images.picture(200 + number, 150))
    without_ray.curate(videos, place / "pyramid", jobs.recipe(place, RECIPE))
    for name, table in (("all", TABLE), ("odd", TABLE.replace("32", "16"))):
        (place / f"{name}.toml").write_text(table)
        freeze(Request(str(place / "pyramid"), name, preset=str(place / f"{name}.toml"), without_captions=True))
    return place / "pyramid"


@pytest.fixture
def pyramid(curated: Path, tmp_path: Path) -> Path:
    """A copy, to be changed."""
    shutil.copytree(curated, tmp_path / "pyramid")
    return tmp_path / "pyramid"


def log(run: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]


def losses(run: Path) -> dict[int, float]:
    return {line["step"]: line["loss"] for line in log(run) if line["kind"] == "step"}


def checkpoint(run: Path) -> Path:
    found = Checkpoints(run / "checkpoints").newest()
    assert found is not None
    return found


@pytest.fixture(scope="module")
def run(curated: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three steps without a break, against a discriminator."""
    to = tmp_path_factory.mktemp("whole") / "run"
    assert main(["train", f"{curated}#all", *SMALL, *JUDGED, "--to", str(to), "--steps", "3"]) == 0
    return to


def test_a_run_and_the_same_command_again(
    curated: Path, run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """It says what it begins with and how far it came, and goes on to the bit: both networks, moments and averages."""
    part = ["train", f"{curated}#all", *SMALL, *JUDGED, "--to", str(tmp_path)]
    assert main([*part, "--steps", "2"]) == 0
    shown = capsys.readouterr()
    assert "note: the autoencoder begins with random weights (seed 0)" in shown.err
    assert "training to step 2, validation PSNR" in shown.err and "step 2: validation PSNR" in shown.err
    assert "waiting" in shown.err and " dB -> " in shown.out
    found = said(capsys, *part, "--steps", "3", "--set", "frames.readers=3")  # a matter of speed alone
    assert [line["event"] for line in found] == ["begin", "step", "trained"]
    assert found[-1]["began"] == 2 and found[-1]["measure"] == "validation/psnr"
    assert losses(tmp_path) == losses(run) and len(losses(run)) == 3
    for kind in (WEIGHT, AVERAGE, *MOMENTS):
        under = "autoencoder." if kind == AVERAGE else ""
        one, two = (_read(checkpoint(place), kind, under) for place in (tmp_path, run))
        assert one.keys() == two.keys() and all(torch.equal(one[name], two[name]) for name in one), kind
    assert _read(checkpoint(run), WEIGHT, "discriminator.updates")["discriminator.updates"].item() == 2


def _read(path: Path, kind: str, under: str) -> dict[str, Any]:
    if kind in MOMENTS:  # of the count of the discriminator's updates there are none
        return {
            **tensors(path, kind, "autoencoder."),
            **tensors(path, kind, "discriminator.network."),
        }
    return tensors(path, kind, under)


def test_the_log_has_what_validation_measures(run: Path) -> None:
    lines = log(run)
    assert [line["kind"] for line in lines] == ["begin", "step", "step", "step", "end"]
    for line in (lines[0], lines[2], lines[4]):
        assert {"validation/psnr", "validation/ssim"} <= set(line) and "validation/lpips" not in line
    assert [("part/judge" in line, "norm/second" in line) for line in lines[1:4]] == [
        (False, True),
        *[(True, True)] * 2,
    ]
    assert all(0 <= line["waiting"] <= 1 and line["part/l1"] > 0 for line in lines[1:4])


def test_its_weights_are_what_encode_and_sample_load(
    curated: Path, run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The averages, and the discriminator is left out; encode with them, and sample with them."""
    file = tmp_path / "ae.safetensors"
    assert main(["weights", str(run), "-o", str(file)]) == 0
    told = capsys.readouterr()
    assert f"{file}: step 3, layout opensora_v2, averaged" in told.out
    assert "note: discriminator is left out: only training has a use for it, and it stays in the checkpoint" in told.err
    made = VideoDcAe.load(file, "tiny")
    want = tensors(checkpoint(run), AVERAGE, "autoencoder.")
    assert all(torch.equal(value, want[f"autoencoder.{name}"]) for name, value in made.state_dict().items())
    (found,) = said(capsys, "weights", str(run), "-o", str(tmp_path / "raw.safetensors"), "--no-averages")
    assert found["averages"] is False and found["left_out"] == ["discriminator"]
    assert "an autoencoder has no layout 'flux'" in refused(capsys, "weights", str(run), "-o", "x", "--layout", "flux")

    model = tmp_path / "model.toml"
    text = (modelfile.SHIPPED / "tiny.toml").read_text()
    model.write_text(text.replace('kind = "dcae"', f'kind = "dcae"\npath = "{file}"'))
    pyramid, frozen = folder.opened(f"{curated}#all")
    with without_ray.here():
        job = encode_path.Job(
            frozen,
            pyramid,
            Latents.at(str(tmp_path / "latents")),
            "tiny",
            modelfile.load(str(model)).spec,
            Limits(),
            Resources(1.0, 0.0, 1),
            EncodeAccount(),
            Silent(),
        )
        encode_path.encode(job)
    assert job.account.done == frozen.manifest.samples
    source = LatentStore.open(str(tmp_path / "latents"), frozen.manifest)
    from pipelines.frames.clips import PyramidClips

    clips = PyramidClips(pyramid, frozen, Limits())
    (frames,), (latent,) = clips.read([0]), source.read([0])
    clips.close()
    video = torch.from_numpy(frames).permute(3, 0, 1, 2)[None].float() / 127.5 - 1
    with torch.no_grad():
        assert torch.allclose(made.encode(video)[0], latent.latent_CTHW.float(), atol=2e-2)

    asked = ["a film", "--model", str(model), "--size", "64x64", "--frames", "4", "--steps", "1", "--guidance", "1"]
    assert main(["sample", *asked, "--to", str(tmp_path / "samples")]) == 0
    assert list((tmp_path / "samples").glob("*.mp4"))
    assert "the autoencoder's weights are random" not in capsys.readouterr().err


def test_it_begins_with_the_model_file_s_weights(
    curated: Path, run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file, model = tmp_path / "ae.safetensors", tmp_path / "model.toml"
    assert main(["weights", str(run), "-o", str(file), "--no-averages"]) == 0
    text = (modelfile.SHIPPED / "tiny.toml").read_text()
    model.write_text(text.replace('kind = "dcae"', f'kind = "dcae"\npath = "{file}"'))
    capsys.readouterr()
    tuned = ["train", f"{curated}#all", *SMALL, "--model", str(model), "--to", str(tmp_path / "run"), "--steps", "1"]
    assert main([*tuned, "--set", "schedule.rates=[[0, 1e-12]]"]) == 0
    assert "random weights" not in capsys.readouterr().err
    want = tensors(checkpoint(run), WEIGHT, "autoencoder.")
    found = tensors(checkpoint(tmp_path / "run"), WEIGHT)
    assert found.keys() == want.keys() and all(torch.allclose(found[name], want[name], atol=1e-6) for name in want)


def test_what_does_not_fit_is_one_line(
    curated: Path, run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def told(*more: str, manifest: str = f"{curated}#all") -> str:
        return refused(capsys, "train", manifest, *SMALL, "--to", str(tmp_path / "run"), *more)

    assert "preset tiny_autoencoder trains on frames, not on latents; leave --latents out" in told("--latents", "x")
    assert "preset tiny_autoencoder trains on frames, not on latents; leave --stream out" in told("--stream", "1")
    assert "preset tiny trains on latents, and none were given; --latents URI" in told("--preset", "tiny")
    assert f"{tmp_path}/gone" in told(manifest=f"{tmp_path}/gone#all")
    odd = told(manifest=f"{curated}#odd")
    assert "does not fit the model's autoencoder; sides are multiples of 32" in odd
    hunyuan = tmp_path / "hunyuan.toml"
    hunyuan.write_text('name = "h"\n[denoiser]\npreset = "tiny"\n[autoencoder]\nkind = "hunyuan"\n')
    assert "trains a Video DC-AE, model h has HunyuanVideo's autoencoder" in told("--model", str(hunyuan))
    lacking = told("--set", "losses.lpips=0.5")
    assert "VGG16 of torchvision is needed and no path was given; curl" in lacking and "losses.lpips=0" in lacking
    assert "DINOv2 ViT-L/14 is needed and no path was given" in told("--set", "distillation.weight=0.1")
    assert "in bfloat16 are wrong on a CPU" in told("--set", "network.precision=bfloat16")
    assert "one position of a batch" in told("--set", "adversary.weight=0.05", "--set", "adversary.layers=7")
    assert "channels has no effect without a weight" in told("--set", "adversary.channels=4")
    assert "conditions = {'t2v': 1}: no such key" in told("--set", "conditions.t2v=1")
    assert "frames.leave_out has sample 99" in told("--set", "frames.leave_out=[99]")
    assert "an epoch has no step" in told("--set", "batches.per_step=999")
    assert not (tmp_path / "run" / "checkpoints").exists()
    other = tmp_path / "other.toml"
    other.write_text('method = "gan"\nsteps = 1\n')
    assert "method = 'gan'; write flow_matching or autoencoder" in told("--preset", str(other))
    again = refused(capsys, "train", f"{curated}#all", *SMALL, "--to", str(run))
    assert "is of another network: discriminator." in again and "missing here" in again


def test_a_checkpoint_of_a_transformer_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Even one of the same manifest, seed and batches."""
    toy = shard(tmp_path, {encoded.CLIP: 12})
    same = ("--set", "validation.samples=2", "--set", "batches.per_step=2", "--to", str(tmp_path / "run"))
    said(capsys, *toy.arguments, *same, "--steps", "1")
    told = refused(capsys, "train", toy.manifest, "--preset", "tiny_autoencoder", *same)
    assert "is of another network: " in told


def test_what_was_taken_down_or_is_left_out_is_told(
    pyramid: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    opened, frozen = folder.opened(f"{pyramid}#all")
    rows = frozen.samples.to_pylist()
    gone = next(number for number, row in enumerate(rows) if row["kind"] == "video")
    forget(opened, [rows[gone]["clip_id"]])
    other = next(number for number, row in enumerate(rows) if row["kind"] == "video" and number != gone)
    command = ["train", f"{pyramid}#all", *SMALL, "--to", str(tmp_path / "run")]
    assert main([*command, "--steps", "1", "--set", f"frames.leave_out=[{other}]"]) == 0
    told = capsys.readouterr().err
    assert f"note: 1 of {len(rows)} samples were taken down since they were frozen and are left out" in told
    assert f"note: 1 of {len(rows)} samples are left out by frames.leave_out" in told
    assert main([*command, "--steps", "2"]) == 0
    assert "note: 1 samples are left out, 2 when it was saved: batches differ" in capsys.readouterr().err


def test_a_clip_without_frames_is_named(pyramid: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Bytes that went with a takedown that nobody told, as where the pyramid was mended by hand."""
    opened, frozen = folder.opened(f"{pyramid}#all")
    ids = frozen.samples["clip_id"].to_pylist()
    shutil.rmtree(pyramid / "media.lance" / "_refs")  # what the manifest has pinned
    opened.dataset("media").delete(f"clip_id = '{ids[0]}'")
    opened.dataset("media").cleanup_old_versions(timedelta(0))
    assert tombstones.read(Pyramid.open(pyramid).files) == frozenset()
    held = ("--set", "validation.samples=0", "--steps", "50", "--set", "checkpoints.every=100")
    told = refused(capsys, "train", f"{pyramid}#all", *SMALL, *held, "--to", str(tmp_path / "run"))
    assert f"sample 0, clip {ids[0]}, has no frames" in told and "add 0 to frames.leave_out" in told


def test_the_presets_are_the_report_s_tables() -> None:
    """Spec sections 1.5 and 1.7."""
    names = ("autoencoder", "autoencoder_gan")
    first, second = (autoencoder_preset.load(name).preset(name) for name in names)
    assert (first.steps, second.steps) == (250_000, 200_000)
    for one in (first, second):
        adam = one.optimizer
        assert (adam.beta1, adam.beta2, adam.eps, adam.weight_decay, one.clip) == (0.9, 0.999, 1e-15, 0, 1.0)
        assert (one.per_step, one.schedule.rates, one.schedule.warmup) == (8, ((0, 5e-5),), 0)
        assert (one.settings.lpips, one.settings.stills, one.averages, one.precision) == (0.5, 0.2, 0.99, "bfloat16")
        assert one.settings.distillation is None
    assert first.settings.adversary is None and second.settings.adversary is not None
    ours = second.settings.adversary
    assert (ours.weight, ours.start, second.pace * 5e-5) == (0.05, 0, 1e-4)
    assert ours.discriminator == Settings().adversary.discriminator  # type: ignore[union-attr]
    aligned = autoencoder_preset.load("autoencoder", ["distillation.weight=0.1"]).preset("x").settings.distillation
    assert aligned is not None
    assert (aligned.stage, aligned.weight, aligned.cosine_margin, aligned.distance_margin) == (3, 0.1, 0.5, 0.25)
    assert {name: preset.method_of(name) for name in (*names, "tiny")} == {
        **dict.fromkeys(names, "autoencoder"),
        "tiny": "flow_matching",
    }
    table = bucket_table.load("autoencoder")
    assert [(name, dict(lengths)) for name, _, lengths in table.walk] == [("256px_ar1:1", {32: bucket_table.Slot(1)})]


ENGINES = ("ddp", "fsdp2", *(["colossal-2"] if find_spec("colossalai") else []))
TOGETHER = ("--set", "parallel.channels=2", "--set", "network.recompute=true")
"""Both on each clip, which hold of it what they must."""


@pytest.mark.slow
@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("changes", [(), TOGETHER], ids=["apart", "together"])
def test_two_processes_learn_what_one_does(
    curated: Path, run: Path, tmp_path: Path, engine: str, changes: tuple[str, ...]
) -> None:
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "-m", "pipelines.cli"]
    rest = ["train", f"{curated}#all", *SMALL, *JUDGED, *changes, "--to", str(tmp_path), "--steps", "3"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(jobs.ROOT)}
    ended = subprocess.run(
        [*command, *rest, "--engine", engine], capture_output=True, text=True, timeout=800, env=environment
    )
    assert ended.returncode == 0, ended.stderr[-2000:]
    assert losses(tmp_path) == pytest.approx(losses(run), rel=1e-3)
    assert log(tmp_path)[-1]["validation/psnr"] == pytest.approx(log(run)[-1]["validation/psnr"], rel=1e-3)


def test_a_process_alone_shares_no_channels(curated: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    asked = ["train", f"{curated}#all", *SMALL, "--set", "parallel.channels=2", "--to", str(tmp_path / "run")]
    assert "share a clip's channels, engine single is one process; start several" in refused(capsys, *asked)
    assert "2 ranks share a sample, and --workers 1 is no multiple" in refused(capsys, *asked, "--workers", "1")


def test_a_preset_s_blocks_are_shared_and_computed_again(
    curated: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is made of the network before an engine has it; who shares is one process here."""
    seen: list[int] = []
    real = assemble.recompute
    monkeypatch.setattr(assemble, "channels_of", lambda engine, ranks: Channels(0, 1, "ring", None))
    monkeypatch.setattr(assemble, "split", lambda made, channels: seen.append(channels.ranks))
    monkeypatch.setattr(assemble, "recompute", lambda made: seen.append(real(made)))
    run = ["train", f"{curated}#all", *SMALL, "--to", str(tmp_path), "--steps", "1"]
    assert main([*run, "--set", "network.recompute=true"]) == 0
    assert seen == [1, 12], "six stages of encoder and decoder, a block each"
