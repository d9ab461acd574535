"""A save is whole or it is not there: killed, on a full disk, and while the weights go on changing."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")

from torch.distributed.checkpoint.staging import DefaultStager

from curation.errors import UserError
from tests.support.disk import mounted
from tests.support.toy_run import Kept, Toy, bits
from training.callbacks.averages import Averages
from training.callbacks.log import Log
from training.checkpoint import save as saving
from training.checkpoint.folder import HEAD, Checkpoints, Head
from training.checkpoint.load import tensors

KILLED = """
import os, sys
from pathlib import Path
import torch
from torch.distributed.checkpoint.filesystem import FileSystemWriter
torch.set_num_threads(1)
from tests.support.toy_run import Kept, Toy

whole = FileSystemWriter._write_data
def write(self, *rest):
    made = whole(self, *rest)
    if "0000000003" in str(self.path):
        os.kill(os.getpid(), 9)
    return made
FileSystemWriter._write_data = write
Toy(Path(sys.argv[1]), every=1).go(6, Kept())
"""


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_save_that_was_killed_is_never_loaded(tmp_path: Path) -> None:
    """Also though all of its tensors are on the disk."""
    folder = tmp_path / "run"
    ended = subprocess.run([sys.executable, "-c", KILLED, str(folder)], stderr=subprocess.PIPE, timeout=300)
    assert ended.returncode == -signal.SIGKILL, ended.stderr
    assert names(folder) == ["step-0000000001", "step-0000000002", "step-0000000003.part"]
    kept, whole = Kept(), Kept()
    Toy(folder, network_seed=5).go(5, kept)
    Toy(tmp_path / "whole").go(5, whole, saves=False)
    assert kept.losses == whole.losses[2:]
    assert names(folder)[-1] == "step-0000000005" and not [name for name in names(folder) if name.endswith(".part")]


def test_what_is_saved_is_the_step_s_though_training_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The copy is slow here; the optimizer waits for it, the forward pass does not."""
    stage = DefaultStager._stage

    def slow(self: DefaultStager, *what: object, **more: object) -> object:
        time.sleep(0.3)
        return stage(self, *what, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(DefaultStager, "_stage", slow)
    toy, kept = Toy(tmp_path / "run", every=2), Kept()
    toy.go(4, kept)
    monkeypatch.undo()
    run, averages, _ = Toy(tmp_path / "beside").go(2, saves=False)
    saved = toy.checkpoints.at(2)
    for name, weight in run.engine.masters().items():
        assert torch.equal(tensors(saved)[name], weight), name
    assert averages is not None
    for name, average in averages.values.items():
        assert torch.equal(tensors(saved, "average")[name], average), name
    assert kept.reports[2].values["save_blocked_s"] > 0.1 and "save_blocked_s" not in kept.reports[1].values


def test_validation_at_the_end_waits_for_the_copy_of_the_last_save(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It exchanges the weights for their averages, which must not get into the checkpoint."""
    stage, exchange, exchanged = DefaultStager._stage, Averages._exchange, threading.Event()

    def slow(self: DefaultStager, *what: object, **more: object) -> object:
        exchanged.clear()
        exchanged.wait(1.0)
        return stage(self, *what, **more)  # type: ignore[arg-type]

    def seen(self: Averages) -> None:
        exchange(self)
        exchanged.set()

    monkeypatch.setattr(DefaultStager, "_stage", slow)
    monkeypatch.setattr(Averages, "_exchange", seen)
    toy = Toy(tmp_path / "run", every=3, validated=3, validate_every=2)
    run, averages, _ = toy.go(3)
    saved = toy.checkpoints.at(3)
    assert averages is not None
    for part, values in (("weight", run.engine.masters()), ("average", averages.values)):
        found = tensors(saved, part)
        assert all(torch.equal(found[name], value) for name, value in values.items()), part


def test_a_save_that_failed_is_tried_again_at_the_end_and_one_in_flight_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    settle = Checkpoints.settle
    tried: list[int] = []
    fails = [0]

    def failing(self: Checkpoints, step: int, head: Head) -> Path:
        tried.append(step)
        if tried.count(step) == 1 and step == fails[0]:
            raise OSError("no room")
        time.sleep(0.2)
        return settle(self, step, head)

    monkeypatch.setattr(Checkpoints, "settle", failing)
    for fails[0], wanted in ((2, [2, 4]), (4, [2, 4, 4])):
        tried.clear()
        toy = Toy(tmp_path / str(fails[0]), every=2)
        toy.go(4)
        assert tried == wanted and names(toy.folder)[-1] == "step-0000000004"
    assert caplog.text.count("was not saved: no room") == 2


def test_a_folder_that_cannot_be_made_costs_one_save(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    part = Checkpoints.part

    def nowhere(self: Checkpoints, step: int) -> Path:
        return Path("/dev/null/x") if step == 2 else part(self, step)

    monkeypatch.setattr(Checkpoints, "part", nowhere)
    toy = Toy(tmp_path, every=2)
    toy.go(4)
    assert names(tmp_path) == ["step-0000000004"]


@pytest.mark.parametrize("damage", ["missing", "short", "long"])
def test_what_is_not_all_there_is_no_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, damage: str) -> None:
    """As where a share shows an old listing, or each machine has a folder of its own."""
    real = saving.check_whole

    def seen(folder: Path, numbers: Mapping[str, int]) -> None:
        (shard,) = folder.glob("*.safetensors")
        if damage == "missing":
            shard.unlink()
        else:
            os.truncate(shard, shard.stat().st_size + (1 if damage == "long" else -4))
        real(folder, numbers)

    monkeypatch.setattr(saving, "check_whole", seen)
    with pytest.raises(UserError, match=r"was not saved: .*(numbers of|bytes, not)"):
        Toy(tmp_path).go(1)
    assert names(tmp_path) == []


TWO = """
import sys
from pathlib import Path
import torch
import torch.distributed as dist
from curation.errors import UserError
from tests.support.toy_run import Toy
from training.checkpoint.folder import Checkpoints
from training.parallel.engines import engine
torch.set_num_threads(1)
dist.init_process_group("gloo")

def failing(self, step, head):
    raise OSError("no room")

if dist.get_rank() == 0:
    Checkpoints.settle = failing
try:
    Toy(Path(sys.argv[1]), every=2, per_step=2, make_engine=lambda: engine("ddp", torch.device("cpu"), "float32")).go(4)
except UserError as error:
    print(f"rank {dist.get_rank()}: {error}", flush=True)
dist.barrier()
"""


def test_what_fails_on_one_rank_is_told_by_all(tmp_path: Path) -> None:
    """Each knows of its own failure alone; none may enter a save that the others do not."""
    (tmp_path / "two.py").write_text(TWO)
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    ended = subprocess.run(
        [*command, str(tmp_path / "two.py"), str(tmp_path / "run")],
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(__file__).parents[3])},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert ended.returncode == 0, ended.stderr
    told = sorted(line for line in ended.stdout.splitlines() if line.startswith("rank "))
    assert "step 4 was not saved: no room; there is none before it" in told[0]
    assert "step 4 was not saved by another process" in told[1]


def test_a_full_disk_costs_one_save(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with mounted(tmp_path / "disk", 12_000) as disk:
        toy = Toy(disk.path / "run", every=2, keep_last=9)
        with pytest.raises(UserError, match=r"step 6 was not saved: .*; step-0000000002 is kept; make room"):
            toy.go(6)
        assert "checkpoint of step 4 was not saved" in caplog.text
        assert names(toy.folder) == ["step-0000000002"]
        disk.grow(60_000)
        kept = Kept()
        run, averages, _ = toy.go(6, kept)
        assert kept.reports[0].step == 2
        beside, others, _ = Toy(tmp_path / "beside").go(6, saves=False)
        assert bits(run, averages) == bits(beside, others)


def test_a_full_disk_keeps_the_log_back_and_ends_no_run(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with mounted(tmp_path / "disk", 8) as disk:
        kept, log = Kept(), Log(disk.path)
        while not caplog.records:
            log.note("filling", text="x" * 500)
        Toy(tmp_path / "run").go(3, kept, log, saves=False)
        assert len(kept.reports) == 3 and caplog.text.count("the log is not written for now: ") == 1


def test_the_newest_and_every_so_many_th_are_kept(tmp_path: Path) -> None:
    toy = Toy(tmp_path, every=1, keep_last=2, keep_every=4)
    toy.go(10)
    assert names(tmp_path) == [f"step-{step:010}" for step in (4, 8, 9, 10)]


def test_a_checkpoint_holds_no_pickle(tmp_path: Path) -> None:
    toy = Toy(tmp_path)
    toy.go(1)
    newest = toy.checkpoints.newest()
    assert newest is not None
    for path in newest.iterdir():
        assert path.name == HEAD or path.suffix == ".safetensors"
        assert b"\x80\x02" not in path.read_bytes()[:4] and path.read_bytes()[:2] != b"PK"


def test_two_saves_of_one_step_are_one(tmp_path: Path) -> None:
    toy = Toy(tmp_path, every=3)
    toy.go(3)
    before = os.stat(toy.checkpoints.at(3) / HEAD).st_mtime_ns
    toy.go(3)
    assert os.stat(toy.checkpoints.at(3) / HEAD).st_mtime_ns == before
