"""Every engine of several processes, on two ranks, against one process: `several` runs them, this looks at the results.

Losses, norms before clipping, and weights; what is stopped and resumed, to the bit; every engine's checkpoint in every
other, on two ranks and on one; bfloat16 against one process that does the same shares.
"""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")
if importlib.util.find_spec("colossalai") is None:
    pytest.skip("ColossalAI is not installed", allow_module_level=True)

from tests.support.toy_run import Kept
from tests.training.parallel import several
from tests.training.parallel.rounding import as_in, summed
from tests.training.parallel.several import CLIP, ENGINES, PER_STEP, ROUNDED_STEPS, STEPS, STOP, USED, VALIDATED, toy
from training.callbacks.validation import Validation
from training.checkpoint.load import tensors
from training.trainer import Run

RANKS = 2
SHARDED = [name for name in ENGINES if name != "ddp"]
each = pytest.mark.parametrize("name", ENGINES)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where two processes have run every engine."""
    folder = tmp_path_factory.mktemp("several")
    command = [sys.executable, "-m", several.__name__]
    started = [
        subprocess.Popen([*command, str(rank), str(RANKS), str(folder)], stderr=subprocess.PIPE)
        for rank in range(RANKS)
    ]
    try:
        ends = [process.communicate(timeout=600)[1].decode() for process in started]
    finally:
        for process in started:
            process.kill()
    assert [process.returncode for process in started] == [0] * RANKS, "\n".join(ends)
    return folder


@pytest.fixture(scope="module")
def told(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "told.json").read_text())


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> tuple[Run, Kept, dict[str, float]]:
    """The run of one process: itself, its reports, its validation."""
    kept = Kept()
    run, averages, _ = toy(tmp_path_factory.mktemp("alone")).go(STEPS, kept, saves=False)
    validation = Validation(run.engine, run.method, range(VALIDATED), every=1, averages=averages)  # type: ignore[arg-type]
    return run, kept, validation.losses()


@each
def test_losses_norms_and_weights_are_those_of_one_process(
    name: str, folder: Path, told: dict[str, Any], alone: tuple[Run, Kept, dict[str, float]]
) -> None:
    run, kept, validated = alone
    assert told[name]["losses"] == [pytest.approx(pair, rel=1e-5) for pair in kept.losses]
    assert min(norm for _, norm in kept.losses) > 5 * CLIP  # so it was that before clipping
    assert told[name]["validated"] == pytest.approx(validated, rel=1e-5)
    saved = tensors(toy(folder / name).checkpoints.at(STEPS))
    for weight, value in run.engine.masters().items():
        assert torch.allclose(saved[weight], value, rtol=0, atol=1e-5), weight


@each
def test_stopped_twice_it_is_the_run_that_was_never_stopped(name: str, told: dict[str, Any]) -> None:
    parts = told[name]["parts"]
    assert [len(part) for part in parts] == [STOP, 1, STEPS - STOP - 1]
    assert [pair for part in parts for pair in part] == told[name]["losses"]
    assert told[name]["same"] and told[name]["validation changes nothing"]


@each
def test_a_rank_may_have_one_micro_batch_or_more(name: str, told: dict[str, Any], tmp_path: Path) -> None:
    for index, per_step in enumerate(PER_STEP):
        kept = Kept()
        toy(tmp_path, per_step=per_step).go(2, kept, saves=False)
        assert told[name]["otherwise"][index] == [pytest.approx(pair, rel=1e-5) for pair in kept.losses]


@pytest.mark.parametrize("name", SHARDED)
def test_ranks_need_not_use_the_same_weights(name: str, told: dict[str, Any]) -> None:
    """And a gradient that is not finite on one rank is refused on all, with every weight as it was."""
    partly = told[name]["partly"]
    norms = partly["norms"]
    assert len(norms) == 2 * len(USED)
    assert norms[1::2] == pytest.approx(norms[::2], rel=1e-6)
    assert partly["off"] < 1e-6
    assert partly["refused"]


@pytest.mark.parametrize("ranks", ["one", "two"])
def test_every_engine_holds_to_the_bit_what_any_has_saved(ranks: str, told: dict[str, Any]) -> None:
    assert told[f"loaded by {ranks}"] == []


def test_what_stands_in_for_packages_is_gone_afterwards(told: dict[str, Any]) -> None:
    """Another package that asks for bitsandbytes must not find an empty one."""
    assert told["stand-ins"] == []


@each
def test_bfloat16_is_that_of_one_process_which_does_the_same_shares(name: str, folder: Path, tmp_path: Path) -> None:
    saved = tensors(toy(folder / f"{name}-bf16").checkpoints.at(ROUNDED_STEPS))
    for weight, value in in_shares(tmp_path, name).items():
        assert torch.allclose(saved[weight], value, rtol=0, atol=1e-7), weight


def in_shares(folder: Path, name: str) -> dict[str, Any]:
    """The masters of one process that computes each rank's micro-batches and adds up as that engine does."""
    run, _, _ = toy(folder, precision="bfloat16", decay=None).parts()
    engine: Any = run.engine
    as_in(name, engine.model)
    for step in range(ROUNDED_STEPS):
        gradients = [_gradients(run, step, rank) for rank in range(RANKS)]
        for weight, master in engine._masters.weights.items():
            master.grad = summed(name, [[batch[weight] for batch in rank] for rank in gradients])
        engine.clip(CLIP)
        engine.update(run.schedule.rate(step))
        engine.clear()
    return dict(engine.masters())


def _gradients(run: Run, step: int, rank: int) -> list[dict[str, Any]]:
    """Of each micro-batch of a rank, in bfloat16."""
    engine, found = run.engine, []
    share = run.batches.share(step, rank, RANKS)
    for batch in share:
        inputs = run.method.prepare(step, batch)
        (run.method.loss(engine.model, inputs, engine.dtype).total / len(share)).backward()
        found.append({name: weight.grad for name, weight in engine.model.named_parameters()})
        for weight in engine.model.parameters():
            weight.grad = None
    return found
