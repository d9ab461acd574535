"""Too little memory ends a run with what was held and the key to change, whichever allocator has said so."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

pytest.importorskip("torch")

import psutil
import torch

from pipelines.cli import main
from pipelines.config import autoencoder_preset
from tests.support import encoded
from tests.support.face import refused
from tests.support.shard import Shard, shard
from training.parallel.single import Single
from training.room import _remedy


@pytest.fixture(scope="module")
def toy(tmp_path_factory: pytest.TempPathFactory) -> Shard:
    return shard(tmp_path_factory.mktemp("shard"), {encoded.CLIP: 13, encoded.SHORT: 8})


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of ..."),
        RuntimeError("[enforce fail at alloc_cpu.cpp:114] data. DefaultCPUAllocator: can't allocate memory"),
    ],
)
def test_what_does_not_fit_is_told_by_the_batch(
    toy: Shard, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def failing(self: Single, loss: torch.Tensor) -> None:
        raise error

    run = [*toy.arguments, "--to", str(tmp_path), "--set", "validation.samples=0", "--steps", "1"]
    monkeypatch.setattr(Single, "backward", failing)
    told = refused(capsys, *run)
    there = psutil.virtual_memory().total / 2**30
    assert (
        f"too little memory on cpu ({there:.0f} GiB)" in told
        and "to train on 2 samples of 256px 8x64x96: about 0.0 GiB of" in told
    )
    assert "of weights and optimizer and 0.0 GiB of activations; " in told
    assert "--engine colossal-2 or fsdp2" in told


def test_an_autoencoder_is_first_told_to_recompute() -> None:
    chosen = autoencoder_preset.load("tiny_autoencoder").preset("tiny_autoencoder")
    assert "--set network.recompute=true" in _remedy(chosen)
    again = replace(chosen, recompute=True, context=2)
    assert "--set parallel.channels=4; or freeze with a bucket table" in _remedy(again)


def test_other_errors_stay_what_they_are(toy: Shard, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def failing(self: Single, loss: torch.Tensor) -> None:
        raise RuntimeError("shapes differ")

    monkeypatch.setattr(Single, "backward", failing)
    with pytest.raises(RuntimeError, match="shapes differ"):
        main([*toy.arguments, "--to", str(tmp_path), "--set", "validation.samples=0", "--steps", "1"])
