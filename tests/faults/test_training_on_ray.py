"""P18: a training run on a cluster goes on after whatever happens to its ranks, and learns what it would have learnt.

`tests.support.ray_faults` makes the cluster and the faults; this looks at what came of them. Recovery takes time-outs
of seconds, so all of it is slow.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch")

from pipelines.cli import main
from tests.support import jobs, ray_faults
from tests.support.ray_faults import AT, KINDS, SAVED, SLOW_FROM, STEPS
from training.checkpoint.folder import Checkpoints, Head

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3600)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where each kind of fault has met a run."""
    folder = tmp_path_factory.mktemp("faults")
    (folder / "toy").mkdir()
    environment = {**os.environ, "PYTHONPATH": str(jobs.ROOT), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", ray_faults.__name__, str(folder), *KINDS]
    ended = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert ended.returncode == 0, ended.stderr[-4000:]
    return folder


def told(folder: Path, kind: str) -> dict[str, Any]:
    return json.loads((folder / f"{kind}.json").read_text())


def fired(folder: Path, kind: str) -> int:
    place = folder / f"{kind}.fired"
    return len(place.read_text().splitlines()) if place.exists() else 0


def losses(folder: Path, kind: str) -> dict[int, float]:
    """By step; of a step that was taken twice, the later one."""
    lines = map(json.loads, (folder / kind / "log.jsonl").read_text().splitlines())
    return {line["step"]: line["loss"] for line in lines if line["kind"] == "step"}


def record(folder: Path, kind: str) -> dict[str, Any]:
    (place,) = (folder / kind / "runs").glob("*.json")
    return json.loads(place.read_text())


def ended_well(folder: Path, kind: str) -> dict[str, Any]:
    """The curve is that of the run that nothing has met, to the bit."""
    found = told(folder, kind)
    assert found["trained"]["step"] == STEPS and found["trained"]["began"] == 0, found
    assert losses(folder, kind) == losses(folder, "none") and len(losses(folder, kind)) == STEPS
    assert record(folder, kind)["exit"] == 0
    return found


def test_the_undisturbed_run_is_that_of_one_process(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    toy, alone = folder / "toy", folder / "alone"
    changes = [part for change in ("validation.samples=3", "validation.every=8") for part in ("--set", change)]
    arguments = ["--latents", str(toy / "latents"), "--model", str(toy / "model.toml"), "--to", str(alone)]
    assert main(["train", f"{toy / 'pyramid'}#toy", *arguments, *changes, "--steps", str(STEPS)]) == 0
    assert losses(folder, "none") == pytest.approx(losses(folder, "alone"), rel=1e-4)
    assert told(folder, "none")["began"] == [0] and record(folder, "none")["account"]["restarts"] == []


@pytest.mark.parametrize(
    ("kind", "why"),
    [
        ("killed", "rank 1: its process or its node is gone"),
        ("stopped", "rank 1 in step [67] was not heard of"),  # it may not have told of the last one
        ("collective", "rank 1: RuntimeError: a collective has failed"),
    ],
)
def test_a_rank_that_is_lost_costs_less_than_a_save_interval(folder: Path, kind: str, why: str) -> None:
    found = ended_well(folder, kind)
    assert fired(folder, kind) == 1
    assert found["began"] == [0, SAVED]
    (restart,) = record(folder, kind)["account"]["restarts"]
    assert restart.startswith(f"after step {AT}: ") and re.search(why, restart)
    assert sum("workers were lost" in note for note in found["notes"]) == 1


def test_gradients_that_are_not_finite_once_are_computed_again_and_cost_no_restart(folder: Path) -> None:
    found = ended_well(folder, "nan")
    assert fired(folder, "nan") == 1 and found["began"] == [0] and found["trained"]["skipped"] == 0
    assert any(f"step {AT + 1} was computed again: loss or gradient is not finite" in note for note in found["notes"])


def test_a_slow_rank_is_named_and_costs_no_restart(folder: Path) -> None:
    found = ended_well(folder, "slowed")
    assert fired(folder, "slowed") == STEPS - SLOW_FROM and found["began"] == [0]
    assert any(note.startswith("rank 1 has taken more than 1.5 times the fastest") for note in found["notes"])


def test_a_node_whose_matmul_lies_is_left_out_and_a_spare_is_taken(folder: Path) -> None:
    """Its rank gives NaN in place, and wherever it computes; the others do not."""
    found = ended_well(folder, "lying")
    assert fired(folder, "lying") == 3  # as it came, in place, with the other's share; and never again
    account = record(folder, "lying")["account"]
    assert "the hardware of rank" in account["restarts"][0] and len(account["restarts"]) == 1
    (left_out,) = account["left_out"]
    assert "is left out: a product of matrices is wrong (cpu)" in left_out
    assert found["began"] == [0, SAVED] and found["nodes"] == 2
    assert not (folder / "lying" / "skipped.jsonl").exists()


def test_a_node_that_lies_in_training_alone_passes_its_checks_and_is_left_out_if_it_is_blamed_again(
    folder: Path,
) -> None:
    """Neither its own checks nor sums of each two nodes find anything. The next group may find room without it."""
    found = ended_well(folder, "sly")
    account = record(folder, "sly")["account"]
    restarts, left_out = account["restarts"], account["left_out"]
    assert restarts and all("the hardware of rank" in one for one in restarts)
    assert any(note.startswith("every node is sound; if the same rank is blamed again") for note in found["notes"])
    assert len(left_out) == len(restarts) - 1
    assert all("no fault is found in it, and it was blamed twice" in one for one in left_out)
    assert found["began"] == [0, *[SAVED] * len(restarts)]


def test_a_run_takes_in_a_node_that_comes(folder: Path) -> None:
    """It goes on from a checkpoint with one rank more, and learns what it would have; that is no loss of workers."""
    found = told(folder, "grown")
    assert found["trained"]["step"] == STEPS, found
    newest = Checkpoints(folder / "grown" / "checkpoints").newest()
    assert newest is not None and Head.read(newest).ranks == 3
    assert len(found["began"]) == 2 and found["began"][1] % SAVED == 0
    assert record(folder, "grown")["account"]["restarts"] == []
    assert sorted(losses(folder, "grown")) == list(range(1, STEPS + 1))


def test_a_mistake_of_the_user_is_told_once_and_not_tried_again(folder: Path) -> None:
    found = told(folder, "wrong")
    assert fired(folder, "wrong") == 1 and found["began"] == [0]
    assert found["refused"] == "a latent is wrong; encode again"
    written = record(folder, "wrong")
    assert (written["exit"], written["stopped_by"]) == (2, "a latent is wrong; encode again")


def test_a_folder_that_a_node_does_not_see_is_refused_before_the_start(folder: Path) -> None:
    found = told(folder, "unshared")
    assert found["began"] == [] and "into which every worker writes; name a folder with --to" in found["refused"]
    assert not list((folder / "unshared").glob(".shared-*"))


def test_a_node_that_goes_leaves_the_run_to_the_other(folder: Path) -> None:
    """With as few workers as are allowed; their curve is that of two but for the order of sums."""
    found = told(folder, "lost")
    assert fired(folder, "lost") == 1 and found["trained"]["step"] == STEPS and found["nodes"] == 1
    assert len(found["began"]) == 2 and found["began"][1] >= SAVED
    assert losses(folder, "lost") == pytest.approx(losses(folder, "none"), rel=1e-4)
