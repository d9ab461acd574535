"""What may not be loaded is refused in one line: of another run or network, a pickle, a file that is not as saved."""

from __future__ import annotations

import errno
import json
import pickle
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from curation.errors import UserError
from tests.support import encoded
from tests.support.toy_run import Kept, Toy
from training.checkpoint import load
from training.checkpoint.export import export
from training.checkpoint.folder import HEAD, Checkpoints, Identity
from training.checkpoint.load import tensors
from training.models.convert import load_mmdit
from training.models.mmdit import MMDiT, preset
from training.parallel.single import Single


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Toy:
    toy = Toy(tmp_path_factory.mktemp("run"))
    toy.go(2)
    return toy


def copied(toy: Toy, folder: Path) -> tuple[Toy, Path]:
    """A copy of a run's checkpoint, to be spoilt."""
    other = Checkpoints(folder).at(2)
    other.mkdir(parents=True)
    for path in toy.checkpoints.at(2).iterdir():
        (other / path.name).write_bytes(path.read_bytes())
    return replace(toy, folder=folder), other


def test_another_run_is_told(saved: Toy) -> None:
    for change, words in {
        "seed": (replace(saved, seed=7), r"of manifest [0-9a-f]{12}, not|of seed 42, not 7"),
        "per_step": (replace(saved, per_step=3), "of batches.per_step 2, not 3"),
        "manifest": (replace(saved, buckets={encoded.CLIP: 9}), "of manifest [0-9a-f]{12}, not [0-9a-f]{12}"),
    }.values():
        with pytest.raises(UserError, match=words):
            change.go(3)


def test_another_network_is_told(saved: Toy, monkeypatch: pytest.MonkeyPatch) -> None:
    wide = MMDiT(replace(preset("tiny_dcae"), depth=1))
    monkeypatch.setattr("tests.support.toy_run.network", lambda *_: wide)
    with pytest.raises(UserError, match=r"of another network: double_blocks\.1\.\S+ is \S+ there and missing here"):
        saved.go(3)


def _pickled(folder: Path) -> None:
    (folder / ".metadata").write_bytes(pickle.dumps({}))


def _pickled_shard(folder: Path) -> None:
    (shard,) = folder.glob("*.safetensors")
    shard.write_bytes(pickle.dumps(b"x" * shard.stat().st_size)[: shard.stat().st_size])


def _cut(folder: Path) -> None:
    (shard,) = folder.glob("*.safetensors")
    shard.write_bytes(shard.read_bytes()[:-100])


def _lost(folder: Path) -> None:
    (shard,) = folder.glob("*.safetensors")
    shard.unlink()


def _headless(folder: Path) -> None:
    (folder / HEAD).write_text("{}")


def _newer(folder: Path) -> None:
    head = json.loads((folder / HEAD).read_text())
    (folder / HEAD).write_text(json.dumps(head | {"format": 99}))


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (_pickled, r"holds \.metadata, which is no part of a checkpoint"),
        (_pickled_shard, "cannot be read"),
        (_cut, r"has \d+ bytes, not \d+; remove it, and an earlier one is taken"),
        (_lost, "has 0 bytes, not"),
        (_headless, "is no checkpoint"),
        (_newer, "of a newer Ziggurat"),
    ],
)
def test_what_is_not_as_saved_is_refused(saved: Toy, tmp_path: Path, spoil: Callable[[Path], None], words: str) -> None:
    toy, folder = copied(saved, tmp_path)
    spoil(folder)
    with pytest.raises(UserError, match=words) as told:
        toy.go(3)
    assert "\n" not in str(told.value)


@pytest.mark.parametrize(
    ("number", "times", "words"),
    [
        (errno.ESTALE, 2, ""),
        (errno.EIO, 99, "cannot be read: .*; give the same command again"),
        (errno.EACCES, 1, "cannot be read: .*; remove it"),
    ],
)
def test_a_fault_of_the_disk_that_passes_is_waited_for(
    saved: Toy, monkeypatch: pytest.MonkeyPatch, number: int, times: int, words: str
) -> None:
    """Inside of DCP, which wraps what a rank meets; and it is no reason to remove a checkpoint."""
    real, met, paused = load.HuggingFaceStorageReader.read_data, [], []

    def read_data(self: Any, plan: Any, planner: Any) -> Any:
        met.append(number)
        if len(met) <= times:
            raise OSError(number, "a fault of the share")
        return real(self, plan, planner)

    monkeypatch.setattr(load.HuggingFaceStorageReader, "read_data", read_data)
    monkeypatch.setattr(load.time, "sleep", paused.append)
    expected = nullcontext() if not words else pytest.raises(UserError, match=words)
    with expected:
        assert tensors(saved.checkpoints.at(2))
    assert paused == list(load.PAUSES_S[: 0 if number == errno.EACCES else times])


def test_averages_that_were_not_saved_begin_with_the_weights(saved: Toy, tmp_path: Path) -> None:
    plain = replace(saved, folder=tmp_path, decay=None)
    plain.go(2)
    _, averages, progress = replace(plain, decay=0.5).go(2, saves=False)
    assert progress.step == 2 and averages is not None
    weights = tensors(Checkpoints(tmp_path).at(2))
    assert all(torch.equal(averages.values[name], weight) for name, weight in weights.items())
    with pytest.raises(UserError, match="has no average of the weights; choose one of weight, exp_avg, exp_avg_sq"):
        tensors(Checkpoints(tmp_path).at(2), "average")


@pytest.mark.parametrize("layout", ["opensora_v2", "flux", "diffusers"])
def test_an_export_is_the_weights_in_a_public_layout(saved: Toy, tmp_path: Path, layout: str) -> None:
    folder = saved.checkpoints.at(2)
    (file,), left_out = export(folder, tmp_path / "dit.safetensors", layout, dtype="float32")
    assert left_out == (["cond_in"] if layout == "diffusers" else [])
    from training.models.weights import Allowed

    model = MMDiT(preset("tiny_dcae"))
    model.cond_in.requires_grad_(False)  # type: ignore[union-attr]
    load_mmdit(model, file, allowed=Allowed(fresh=("cond_in.",)) if layout == "diffusers" else None)
    want = tensors(folder)
    for name, weight in model.named_parameters():
        if layout != "diffusers" or not name.startswith("cond_in."):
            assert torch.equal(weight, want[name]), name


def test_averages_and_bfloat16_are_exported(saved: Toy, tmp_path: Path) -> None:
    folder = saved.checkpoints.at(2)
    (file,), _ = export(folder, tmp_path / "average.safetensors", averages=True)
    model = MMDiT(preset("tiny_dcae"))
    load_mmdit(model, file)
    name, weight = next(iter(model.named_parameters()))
    assert torch.equal(weight, tensors(folder, "average")[name].bfloat16().float())
    with pytest.raises(UserError, match="no layout 'comfy'; choose one of flux, opensora_v2, diffusers"):
        export(folder, tmp_path / "other.safetensors", "comfy")


def test_more_steps_than_were_saved_go_on(saved: Toy, tmp_path: Path) -> None:
    toy, _ = copied(saved, tmp_path)
    kept = Kept()
    toy.go(2, kept)
    assert not kept.reports


class Second(Single):
    """Rank 1 of two, of which rank 0 has found the checkpoint of step 2."""

    def __init__(self) -> None:
        super().__init__(torch.device("cpu"))
        self.rank, self.ranks, self._first = 1, 2, [torch.tensor([3.0], dtype=torch.float64)]

    def agree(self, values: Any) -> Any:
        return values + self._first.pop() if self._first else values


def test_all_ranks_go_on_from_what_the_first_has_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another machine's listing may still have one that is gone, or not have the newest yet."""
    checkpoints = Checkpoints(tmp_path)
    for step in (2, 4):
        checkpoints.at(step).mkdir()
    assert load._agreed(checkpoints, Second()) == checkpoints.at(2)
    checkpoints.at(2).rmdir()
    monkeypatch.setattr(load, "SEEN_S", 0.0)
    with pytest.raises(UserError, match=r"does not see .*step-0000000002, which the first one has found"):
        load._agreed(checkpoints, Second())


def test_latents_of_other_encoders_are_another_run_s() -> None:
    """One that does not say, as older ones do not, is taken."""
    ours = Identity(manifest="m", seed=1, per_step=1, held_out=0, latents="latents-1-aaaa", shapes={})
    for known in ("", "latents-1-aaaa"):
        ours.check(replace(ours, latents=known), "there")
    with pytest.raises(UserError, match="there is of latents latents-1-bb, not latents-1-aa; give another folder"):
        ours.check(replace(ours, latents="latents-1-bbbb"), "there")
