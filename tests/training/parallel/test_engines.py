"""Engines against one process: two ranks of DDP give its losses and weights; masters keep what bfloat16 loses."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from curation.errors import UserError
from tests.support.toy_run import Kept, Toy, network
from tests.training.parallel.ranks import PER_STEP, STEPS, STOP, VALIDATED
from training.callbacks.validation import Validation
from training.checkpoint.folder import Checkpoints
from training.parallel.base import AdamW
from training.parallel.ddp import Ddp
from training.parallel.engines import engine
from training.parallel.single import Single

CPU = torch.device("cpu")


def ranks(folder: Path, name: str, count: int) -> dict[str, Any]:
    """What so many processes have told; their checkpoints are in `folder`."""
    command = [sys.executable, "-m", "tests.training.parallel.ranks"]
    started = [
        subprocess.Popen([*command, str(rank), str(count), str(folder), name], stderr=subprocess.PIPE)
        for rank in range(count)
    ]
    ends = [process.communicate(timeout=300) for process in started]
    assert [process.returncode for process in started] == [0] * count, ends
    return json.loads((folder / "told.json").read_text())


@pytest.mark.slow  # of two ranks: `test_several`
@pytest.mark.parametrize(("name", "count"), [("ddp", 2), ("fsdp2", 3)])
def test_ranks_learn_what_one_process_learns(tmp_path: Path, name: str, count: int) -> None:
    """Losses, norms and weights within float32's rounding; stopped by one rank and begun again, to the bit what they
    were; and one process goes on from their checkpoint. Five validation samples leave one rank with less, and three
    ranks do not divide the rows of a weight."""
    kept, beside = Kept(), Kept()
    toy = Toy(tmp_path / "one", per_step=PER_STEP)
    run, _, _ = toy.go(STEPS, kept, saves=False)
    validated = Validation(run.engine, run.method, range(VALIDATED), every=1).losses()  # type: ignore[arg-type]

    two = tmp_path / "two"
    two.mkdir()
    told = ranks(two, name, count)
    assert told["losses"] == [pytest.approx(pair, rel=1e-4) for pair in kept.losses]
    assert told["same"] and [len(part) for part in told["parts"]] == [STOP, STEPS - STOP]
    assert told["parts"][0] + told["parts"][1] == told["losses"]
    assert told["low"] == [pytest.approx(pair, rel=0.05) for pair in kept.losses[:2]]
    assert told["validated"] == pytest.approx(validated, rel=1e-4)

    shutil.rmtree(Checkpoints(two).at(STEPS))
    other, _, _ = replace(toy, folder=two).go(STEPS, beside, saves=False)
    assert beside.losses == [pytest.approx(pair, rel=1e-4) for pair in kept.losses[STOP:]]
    weights = other.engine.masters()
    apart = torch.cat([(weights[one] - weight).abs().flatten() for one, weight in run.engine.masters().items()])
    # Adam makes a whole step of a gradient that is nothing but rounding: a few weights may be apart by as much.
    assert (apart > 1e-5).float().mean() < 1e-3


def test_masters_keep_what_bfloat16_would_lose() -> None:
    """An update far below bfloat16's step adds up over many of them."""
    one = Single(CPU, "bfloat16")
    net = torch.nn.Linear(1, 1, bias=False)
    torch.nn.init.ones_(net.weight)
    one.wrap(net, AdamW())
    for _ in range(100):
        with one.micro_batch(last=True):
            one.backward(one.model(torch.ones(1, 1, dtype=torch.bfloat16)).sum())
        one.update(1e-4)
        one.clear()
    assert one.masters()["weight"].item() == pytest.approx(0.99, abs=1e-4)
    assert one.model.weight.dtype == torch.bfloat16 and one.model.weight.item() == pytest.approx(0.99, abs=4e-3)


def test_gradients_of_micro_batches_add_up_in_float32() -> None:
    one = Single(CPU, "bfloat16")
    net = torch.nn.Linear(1, 1, bias=False)
    one.wrap(net, AdamW())
    for value in (256.0, 1.0):  # 257 is no bfloat16
        with one.micro_batch(last=value == 1.0):
            one.backward(one.model(torch.full((1, 1), value, dtype=torch.bfloat16)).sum())
    assert one.clip(1e9).item() == 257


def test_bfloat16_trains(tmp_path: Path) -> None:
    kept, exact = Kept(), Kept()
    Toy(tmp_path, make_engine=lambda: Single(CPU, "bfloat16")).go(3, kept, saves=False)
    Toy(tmp_path).go(3, exact, saves=False)
    assert [loss for loss, _ in kept.losses] == [pytest.approx(loss, rel=0.02) for loss, _ in exact.losses]


def test_the_report_s_optimizer() -> None:
    one = Single(CPU)
    one.wrap(network(), AdamW())
    group = one._masters._optimizer.param_groups[0]
    assert (group["betas"], group["eps"], group["weight_decay"]) == ((0.9, 0.999), 1e-15, 0.0)


def test_what_cannot_be_started_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RANK", raising=False)
    with pytest.raises(UserError, match="engine ddp runs in several processes; start it with torchrun"):
        Ddp(CPU)
    with pytest.raises(UserError, match="there is no engine 'zero'; choose one of single, ddp, fsdp2"):
        engine("zero", CPU, "float32")
