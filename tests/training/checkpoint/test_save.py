"""A save is whole or it is not there: killed, on a full disk, and while the weights go on changing."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")

from torch.distributed.checkpoint.staging import DefaultStager

from curation.errors import UserError
from tests.support.disk import mounted
from tests.support.toy_run import Kept, Toy, bits
from training.checkpoint.folder import HEAD
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
