"""Two networks as one engine: each by its own norm and rate, resumed to the bit, on two ranks as on one."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from curation.errors import UserError
from tests.support.toy_autoencoder import CLIP, CONFIG, ToyAutoencoder, adversary
from tests.support.toy_run import Kept, bits, head_of
from tests.training.parallel.pair_ranks import STEPS, STOP, VALIDATED, toy
from training.autoencoder.settings import Settings
from training.callbacks.checkpointing import Checkpointing
from training.callbacks.norms import Norms
from training.callbacks.reconstruction import Reconstruction
from training.checkpoint.export import export_autoencoder
from training.checkpoint.load import resume, tensors
from training.models.dcae import VideoDcAe
from training.models.dcae.config import PRESETS
from training.parallel.base import AdamW, Precision
from training.parallel.pair import Both, Pair
from training.parallel.single import Single
from training.trainer import Progress, train

CPU = torch.device("cpu")


def pair(precision: Precision = "float32", pace: float = 2.0) -> Pair:
    """Of two weights of 1."""
    found = Pair(Single(CPU, precision), Single(CPU, precision), pace=pace)
    first, second = torch.nn.Linear(1, 1, bias=False), torch.nn.Linear(1, 1, bias=False)
    torch.nn.init.ones_(first.weight)
    torch.nn.init.ones_(second.weight)
    found.wrap(Both(first, second), AdamW())
    return found


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_each_network_has_its_own_norm_rate_and_count(precision: Precision) -> None:
    one = pair(precision)
    x = torch.ones(1, 1, dtype=one.dtype)
    for with_second in (False, True):
        with one.micro_batch(last=True):
            loss = 3 * one.model.first(x).sum()
            one.backward(loss + 4 * one.model.second(x).sum() if with_second else loss)
        assert one.clip(1e9).item() == pytest.approx(5 if with_second else 3)
        assert one.norms.tolist() == ([3, 4] if with_second else [3, 0])
        one.update(1e-2)
        one.clear()
    masters = one.masters()
    assert list(masters) == ["weight", "discriminator.weight", "discriminator.updates"]
    assert masters["weight"].item() == pytest.approx(0.98)  # two updates of 1e-2, one of 2e-2
    assert masters["discriminator.weight"].item() == pytest.approx(0.98)
    assert masters["discriminator.updates"].item() == 1
    assert set(one.moments()) == {"weight", "discriminator.weight"}
    assert one.shapes() == {"weight": (1, 1), "discriminator.weight": (1, 1), "discriminator.updates": (1,)}


def test_each_is_cut_by_its_own_norm() -> None:
    one = pair()
    with one.micro_batch(last=True):
        one.backward(3 * one.model.first(torch.ones(1, 1)).sum() + 0.5 * one.model.second(torch.ones(1, 1)).sum())
    one.clip(1.0)
    first, second = (next(iter(network.parameters())).grad for network in one.model)
    assert first is not None and first.item() == pytest.approx(1)
    assert second is not None and second.item() == 0.5


def test_what_is_put_reaches_both() -> None:
    one, seen = pair("bfloat16"), []

    def change(name: str, weight: Any) -> None:
        seen.append(name)
        weight.fill_(3.0)

    one.put(change)
    assert seen == ["weight", "discriminator.weight"]
    assert [network.weight.item() for network in one.model] == [3, 3]


@pytest.mark.parametrize("norm", ["batch", "group"])
def test_a_run_resumed_twice_is_the_run_that_was_never_stopped(tmp_path: Path, norm: str) -> None:
    """Once before the discriminator begins, once after: weights, moments, averages and Adam's count, to the bit."""
    settings = Settings(adversary=adversary(2, norm=norm))
    whole, parts = Kept(), [Kept(), Kept(), Kept()]
    made = ToyAutoencoder(tmp_path / "whole", settings)
    run, averages, _ = made.go(6, whole, saves=False)
    want = bits(run, averages)
    made = replace(made, folder=tmp_path / "parts")
    for kept, seed, stop_after in zip(parts, (0, 7, 8), (1, 3, None), strict=True):
        run, averages, progress = replace(made, network_seed=seed).go(6, kept, stop_after=stop_after)
    assert progress.step == 6 and [len(kept.reports) for kept in parts] == [1, 3, 2]
    assert [loss for kept in parts for loss in kept.losses] == whole.losses
    assert bits(run, averages) == want
    assert run.engine.masters()["discriminator.updates"].item() == 4


def test_averages_that_a_checkpoint_lacks_begin_with_its_weights(tmp_path: Path) -> None:
    made = ToyAutoencoder(tmp_path, Settings(adversary=adversary()))
    run, _, identity = made.parts()
    saving = Checkpointing(run.engine, made.checkpoints, head_of(run.engine, identity), every=1)
    train(replace(run, steps=1), Progress(), [saving])
    again, averages, identity = replace(made, network_seed=3).parts()
    resume(made.checkpoints, identity, again.engine, averages)
    masters = run.engine.masters()
    assert all(torch.equal(value, masters[name]) for name, value in averages.values.items())


def test_another_discriminator_is_told(tmp_path: Path) -> None:
    ToyAutoencoder(tmp_path, Settings(adversary=adversary())).go(1)
    with pytest.raises(UserError, match=r"of another network: discriminator\.\S+ is \S+ there and missing"):
        ToyAutoencoder(tmp_path, Settings(adversary=None)).go(2)


def test_the_norms_are_logged_apart(tmp_path: Path) -> None:
    made, kept = ToyAutoencoder(tmp_path, Settings(adversary=adversary(1))), Kept()
    parts = made.parts()
    made.parts = lambda: parts  # type: ignore[method-assign]
    engine = parts[0].engine
    assert isinstance(engine, Pair)
    made.go(2, Norms(engine), kept, saves=False)
    for report, begun in zip(kept.reports, (False, True), strict=True):
        first, second = report.values["norm/first"], report.values["norm/second"]
        assert report.norm == pytest.approx((first**2 + second**2) ** 0.5) and (second > 0) == begun


def test_two_ranks_learn_what_one_process_learns(tmp_path: Path) -> None:
    """Both networks: losses, norms and weights within float32's rounding; resumed, to the bit what they were; three
    validation clips on two ranks leave one with less. So they do under FSDP2 and ColossalAI."""
    kept = Kept()
    run, averages, _ = toy(tmp_path / "one").go(STEPS, kept, saves=False)
    validated = Reconstruction(run.engine, run.method, range(VALIDATED), 1, averages).measured()  # type: ignore[arg-type]
    two = tmp_path / "two"
    two.mkdir()
    command = [sys.executable, "-m", "tests.training.parallel.pair_ranks"]
    started = [
        subprocess.Popen([*command, str(rank), "2", str(two)], stderr=subprocess.PIPE, text=True) for rank in range(2)
    ]
    ends = [process.communicate(timeout=300) for process in started]
    assert [process.returncode for process in started] == [0, 0], ends
    told = json.loads((two / "told.json").read_text())
    assert told["losses"] == [pytest.approx(pair, rel=1e-4) for pair in kept.losses]
    for losses in told["shared"].values():
        assert losses == [pytest.approx(pair, rel=1e-4) for pair in kept.losses]
    for ours, theirs in zip(kept.reports, told["values"], strict=True):
        assert theirs == pytest.approx(ours.values, rel=1e-3, abs=1e-5)
    assert told["same"] and [len(part) for part in told["parts"]] == [STOP, STEPS - STOP]
    assert told["parts"][0] + told["parts"][1] == told["losses"]
    assert told["validated"] == pytest.approx(validated, rel=1e-4)
    weights = torch.load(two / "weights.pt", weights_only=True)
    for name, weight in run.engine.masters().items():
        assert torch.allclose(weight, weights[name], atol=2e-5), name


def test_the_autoencoder_is_taken_out_of_a_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Averages by default; what is written loads as any Video DC-AE's file."""
    monkeypatch.setitem(PRESETS, "tiny_dcae", CONFIG)
    made = ToyAutoencoder(tmp_path / "run", Settings(adversary=adversary()), {CLIP: 2})
    run, averages, _ = made.go(2)
    checkpoint = made.checkpoints.newest()
    assert checkpoint is not None
    for kind, want in ((True, averages.values), (False, run.engine.masters())):
        target = tmp_path / f"{kind}.safetensors"
        export_autoencoder(checkpoint, target, averages=kind)
        loaded = VideoDcAe.load(target, CONFIG).state_dict()
        assert all(torch.equal(value, want[f"autoencoder.{name}"]) for name, value in loaded.items())
    found = tensors(checkpoint, under="discriminator.")
    assert found["discriminator.updates"].item() == 2
