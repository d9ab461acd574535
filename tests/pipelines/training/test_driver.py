"""Training on Ray without a fault: refusals before the start, one run of one worker, its record. What faults do is in
`tests.faults.test_training_on_ray`.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

pytest.importorskip("torch")

from ray.exceptions import RayActorError

from curation.errors import UserError
from pipelines.config.preset import load
from pipelines.training import group, shared, worker
from pipelines.training.monitor import Note, Worker
from pipelines.training.timeouts import Timeouts
from pipelines.training.worker import usable
from tests.support import encoded, jobs
from tests.support.face import refused
from tests.support.shard import Shard, shard
from training.parallel import colossal_compat
from training.trainer import Progress

SMALL = ("--set", "validation.samples=3", "--set", "validation.every=2", "--steps", "2")


@pytest.fixture(scope="module")
def toy(tmp_path_factory: pytest.TempPathFactory) -> Shard:
    return shard(tmp_path_factory.mktemp("shard"), {encoded.CLIP: 13, encoded.SHORT: 8})


def test_what_ray_cannot_run_is_refused_before_it_starts(
    toy: Shard, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def told(*more: str) -> str:
        return refused(capsys, *toy.arguments, "--to", str(tmp_path / "run"), *more)

    for option in (("--restarts", "1"), ("--min-workers", "1"), ("--address", "auto")):
        assert f"{option[0]} has no effect without --workers" in told(*option)
    assert "and --stream who encodes them; leave one of them out" in refused(
        capsys, *toy.arguments, "--to", str(tmp_path / "run"), "--stream", "1"
    )
    assert "--min-workers 3 is more than --workers 2" in told("--workers", "2", "--min-workers", "3")
    assert "engine single is one process" in told("--workers", "2", "--engine", "single")
    assert "2 micro-batches a step cannot be shared among 3 ranks" in told("--workers", "3")
    with monkeypatch.context() as patch:
        patch.setattr(colossal_compat, "find_spec", lambda name: None)
        assert "engine colossal lacks a package" in told("--workers", "2")
    monkeypatch.setenv("RANK", "0")
    assert "torchrun has started the processes already; leave --workers out" in told("--workers", "2")
    without_latents = ["train", toy.manifest, "--model", toy.model, "--to", str(tmp_path / "run")]
    assert "already; leave --stream out" in refused(capsys, *without_latents, "--stream", "1")
    assert not (tmp_path / "run" / "checkpoints").exists()


def test_one_worker_answers_and_learns_as_one_process_does(toy: Shard, tmp_path: Path) -> None:
    """The same lines on standard output, the same losses; the record says what ran where."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "RAY_worker_niceness": "0", "PYTHONPATH": str(jobs.ROOT)}
    found: dict[str, list[dict[str, Any]]] = {}
    for name, more in (("alone", ()), ("ray", ("--workers", "1"))):
        to = tmp_path / name
        command = [sys.executable, "-m", "pipelines.cli", *toy.arguments, *SMALL, "--to", str(to), "--json", *more]
        ended = subprocess.run(command, capture_output=True, text=True, timeout=600, env=environment)
        assert ended.returncode == 0, ended.stderr[-3000:]
        notes = [line for line in ended.stderr.splitlines() if not line.startswith("note: ")]
        assert notes == []
        found[name] = [json.loads(line) for line in ended.stdout.splitlines()]
    alone, ray = found["alone"], found["ray"]
    assert [line["event"] for line in ray] == ["begin", "step", "step", "trained"]
    assert [line.get("loss") for line in ray] == [line.get("loss") for line in alone]
    assert {**ray[-1], "folder": "", "checkpoint": ""} == {**alone[-1], "folder": "", "checkpoint": ""}
    assert not (tmp_path / "ray" / group.STORAGE).exists()
    (record,) = [json.loads(place.read_text()) for place in (tmp_path / "ray" / "runs").glob("*.json")]
    assert record["exit"] == 0 and len(record["nodes"]) == 1 and "torch" in record["versions"]
    account = record["account"]
    assert (account["began"], account["step"], account["steps"], account["restarts"]) == (0, 2, 2, [])
    assert account["preset"]["validation"]["samples"] == 3


def test_of_the_ranks_that_there_are_as_many_compute_as_can_share_a_step() -> None:
    assert [usable(there, 8, 1) for there in (1, 2, 3, 7, 8, 9)] == [1, 2, 2, 4, 8, 8]
    assert [usable(there, 6, 2) for there in (2, 3, 6, 8, 12)] == [2, 2, 6, 6, 12]
    with pytest.raises(UserError, match="4 ranks share a sample, and there are 3"):
        usable(3, 8, 4)


@pytest.mark.parametrize("place", ["README.md", "docs/training.md"])
def test_the_workers_of_the_command_that_is_documented_can_share_its_preset_s_step(place: str) -> None:
    lines = [line for line in (jobs.ROOT / place).read_text().splitlines() if "ziggurat train" in line]
    crews = [found for line in lines if (found := re.search(r"--workers (\d+) --min-workers (\d+)", line))]
    per_step = load("stage1").batches.per_step
    assert crews
    for workers in (int(number) for crew in crews for number in crew.groups()):
        assert usable(workers, per_step, 1) == workers


@pytest.mark.parametrize(("there", "rank", "notes"), [(7, 0, 1), (7, 3, 0), (8, 0, 0)])
def test_workers_that_are_left_over_are_told_once_and_the_first_callback_marks_what_others_do(
    monkeypatch: pytest.MonkeyPatch, there: int, rank: int, notes: int
) -> None:
    """Of seven workers four compute, where a step is of eight micro-batches."""
    told, given = list[str](), dict[str, Any]()
    job: Any = SimpleNamespace(preset=SimpleNamespace(per_step=8, context=1), streams=rank == 3)

    def shared_out(per_step: int, context: int) -> int:
        monkeypatch.setenv("WORLD_SIZE", str(usable(there, per_step, context)))
        return rank

    def train(job: Any, watch: worker.Telling, stop: Any, **more: Any) -> None:
        told.extend(event.text for event in watch._events if isinstance(event, Note))
        given.update(more, telling=watch)

    monkeypatch.setenv("WORLD_SIZE", str(there))
    monkeypatch.setattr("ray.get", lambda value: value)
    monkeypatch.setattr(worker, "shared_out", shared_out)
    monkeypatch.setattr(worker, "train", train)
    monkeypatch.setattr(Worker, "this", lambda rank, ranks: Worker(rank, ranks, "", "", 0, 0.0))
    monitor = SimpleNamespace(pulse=SimpleNamespace(remote=lambda pulse: False))
    worker.work({"order": worker.Order(job, "."), "monitor": monitor})
    line = "3 of 7 workers are left over: 8 micro-batches a step cannot be shared among 7"
    assert told == [line] * notes
    pulse = given["telling"].pulse
    assert given["ahead"] == [pulse.aside] and given["beside"] == [pulse]
    pulse.begin(Progress())
    pulse.before_inputs()
    assert pulse.mark.aside == job.streams, "samples that are encoded meanwhile may be waited for"


def test_the_likeliest_cause_of_several_is_told() -> None:
    """Whose process is gone; then who failed alone; then those whose connections broke for it."""
    broken, own = RuntimeError("[gloo] Connection closed by peer\nmore"), ValueError("no such latent\nmore")
    gone = RayActorError()
    assert group.likeliest({0: broken, 1: own}) == 1 and group.told(own) == "ValueError: no such latent"
    assert group.likeliest({0: broken, 1: own, 2: gone}) == 2 and group.told(gone) == "its process or its node is gone"
    assert group.likeliest({0: broken}) == 0


def test_ray_train_reads_our_time_outs_and_the_environment_is_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S", "7")
    monkeypatch.delenv("RAY_TRAIN_HEALTH_CHECK_INTERVAL_S", raising=False)
    before = dict(os.environ)
    with Timeouts(poll=0.5, health=9, start=8).in_force():
        from ray.train.v2._internal import constants

        handed_on = constants.get_env_vars_to_propagate()
        assert handed_on[constants.HEALTH_CHECK_INTERVAL_S_ENV_VAR] == "0.5"
        assert handed_on[constants.WORKER_HEALTH_CHECK_TIMEOUT_S_ENV_VAR] == "9"
        assert handed_on[constants.WORKER_GROUP_START_TIMEOUT_S_ENV_VAR] == "8"
    assert dict(os.environ) == before
    from ray.train.constants import TORCH_PROCESS_GROUP_SHUTDOWN_TIMEOUT_S

    assert Timeouts(shutdown=4).job == {TORCH_PROCESS_GROUP_SHUTDOWN_TIMEOUT_S: "4"}


def test_a_folder_that_is_not_there_is_missed(tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    paths = [tmp_path / "there", tmp_path / "gone", tmp_path / "none" / "deeper"]
    assert shared.missed(paths) == paths[1:]
