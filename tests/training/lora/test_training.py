"""A run that trains an adapter: it learns, its dropout is the micro-batch's, and it goes on only over its base."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("peft")

from curation.errors import UserError
from tests.support import encoded
from tests.support.adapters import LoraToy
from tests.support.toy_run import Kept, Toy, bits, network
from tests.training.lora import ranks
from training.callbacks.validation import Validation
from training.checkpoint.export import export
from training.condition import Kind
from training.cost.formulas import Transformer
from training.lora import trained
from training.lora.inject import adapter_of, attached
from training.lora.spec import LoraSpec
from training.models.mmdit.config import tiny
from training.parallel.single import Single
from training.trainer import Progress, train


def test_it_learns_and_leaves_the_base_alone(tmp_path: Path) -> None:
    spec = LoraSpec(rank=8, targets=("all",))
    toy = LoraToy(tmp_path, {encoded.CLIP: 4}, rate=1e-2, decay=None, weights={Kind.T2V: 1}, spec=spec)
    run, _, _ = toy.parts()
    before = Validation(run.engine, run.method, range(4), every=1).losses()  # type: ignore[arg-type]
    run, _, _ = toy.go(25, saves=False)
    after = Validation(run.engine, run.method, range(4), every=1).losses()  # type: ignore[arg-type]
    assert after["validation/loss"] < 0.95 * before["validation/loss"]
    want = network().state_dict()
    for name, weight in run.engine.model.state_dict().items():
        if ".lora_" not in name:
            assert torch.equal(weight, want[name.replace(".base_layer.", ".")])


def test_dropout_is_drawn_for_the_micro_batch_so_a_run_resumed_twice_is_the_whole_run(tmp_path: Path) -> None:
    whole, parts = Kept(), [Kept(), Kept(), Kept()]
    run, averages, _ = LoraToy(tmp_path / "whole").go(7, whole, saves=False)
    want = bits(run, averages)
    for kept, seed, stop_after in zip(parts, (0, 7, 8), (3, 2, None), strict=True):
        torch.rand(seed + 1)  # the process's own generator has no say
        run, averages, _ = LoraToy(tmp_path / "parts", network_seed=seed).go(7, kept, stop_after=stop_after)
    assert [loss for kept in parts for loss in kept.losses] == whole.losses
    assert bits(run, averages) == want
    without = Kept()
    LoraToy(tmp_path / "other", spec=LoraSpec(rank=4, alpha=8)).go(7, without, saves=False)
    assert without.losses[0][1] != whole.losses[0][1]  # there is dropout


def losses(toy: LoraToy, rank: int, ranks: int) -> list[float]:
    """Of a step's micro-batches with dropout that counts, as a rank of several computes its own; zero elsewhere."""
    run, _, _ = toy.parts()
    draw, kept = torch.Generator().manual_seed(3), Kept()

    def fill(name: str, weight: Any) -> None:
        weight.normal_(std=0.1, generator=draw)

    run.engine.put(fill)
    run.engine.rank, run.engine.ranks = rank, ranks
    train(replace(run, steps=1), Progress(), [kept])
    return kept.reports[0].told["losses"]


def test_dropout_is_the_same_whichever_rank_has_the_micro_batch(tmp_path: Path) -> None:
    toy = LoraToy(tmp_path, per_step=4)
    whole = losses(toy, 0, 1)
    assert [max(pair) for pair in zip(losses(toy, 0, 2), losses(toy, 1, 2), strict=True)] == whole
    without = losses(replace(toy, spec=LoraSpec(rank=4, alpha=8)), 0, 1)
    assert all(one != other for one, other in zip(whole, without, strict=True))


@pytest.mark.slow
def test_two_ranks_with_a_part_of_it_each_train_as_one_process(tmp_path: Path) -> None:
    """FSDP2, the base in bfloat16 and the factors in float32; the run goes on from its checkpoint on the way."""
    kept = Kept()
    ranks.toy("single", tmp_path / "one").go(ranks.STEPS, kept, saves=False)
    command = [sys.executable, "-m", "tests.training.lora.ranks", "fsdp2"]
    started = [subprocess.Popen([*command, str(rank), str(tmp_path)]) for rank in range(ranks.RANKS)]
    assert [process.wait(timeout=300) for process in started] == [0] * ranks.RANKS
    found = json.loads((tmp_path / "losses.json").read_text())
    assert found == [pytest.approx(pair, rel=1e-3) for pair in kept.losses]


def test_validation_has_no_dropout_and_gives_the_mode_back(tmp_path: Path) -> None:
    run, _, _ = LoraToy(tmp_path).parts()
    with torch.no_grad():
        for master in run.engine.masters().values():
            master.normal_(std=0.1)
    validation = Validation(run.engine, run.method, range(3), every=1)  # type: ignore[arg-type]
    assert validation.losses() == validation.losses() and run.engine.model.training


def test_another_base_or_alpha_is_refused(tmp_path: Path) -> None:
    toy = LoraToy(tmp_path)
    toy.go(2)
    with pytest.raises(UserError, match=r"step-0000000002 is of base weights [0-9a-f]{12}, not [0-9a-f]{12}; give"):
        replace(toy, base_seed=1).go(3)
    with pytest.raises(UserError, match=r"is of lora.alpha 8.0, not 4.0"):
        replace(toy, spec=LoraSpec(rank=4, dropout=0.3)).go(3)
    with pytest.raises(UserError, match=r"of another network: .*lora_A.default.weight is 4x64 there and 2x64 here"):
        replace(toy, spec=LoraSpec(rank=2, alpha=8)).go(3)
    with pytest.raises(UserError, match=r"of another network: .*missing"):
        replace(toy, spec=LoraSpec(rank=4, alpha=8, targets=("attn",))).go(3)


def test_a_checkpoint_gives_its_adapter(tmp_path: Path) -> None:
    """In bfloat16: the masters are what is saved. By the run's folder, its newest checkpoint."""
    toy = LoraToy(tmp_path / "checkpoints", make_engine=lambda: Single(torch.device("cpu"), "bfloat16"), every=2)
    run, averages, _ = toy.go(3)
    masters = run.engine.masters()
    found = trained.read(tmp_path)
    assert (found.rank, found.alpha) == (4, 8.0) and found.base
    for layer, (a_RI, b_OR) in found.layers.items():
        assert torch.equal(a_RI, masters[f"{layer}.lora_A.default.weight"])
        assert torch.equal(b_OR, masters[f"{layer}.lora_B.default.weight"]) and b_OR.any()
    assert adapter_of(attached(network(), found)).base == found.base
    averaged = trained.read(toy.checkpoints.at(3), averages=True)
    assert averages is not None
    for layer, (a_RI, _) in averaged.layers.items():
        assert torch.equal(a_RI, averages.values[f"{layer}.lora_A.default.weight"])
    assert trained.read(toy.checkpoints.at(2)).layers.keys() == found.layers.keys()
    with pytest.raises(UserError, match="holds an adapter and not the weights under it; take `ziggurat lora merge`"):
        export(toy.checkpoints.at(3), tmp_path / "model.safetensors")


def test_what_holds_no_adapter_is_refused(tmp_path: Path) -> None:
    Toy(tmp_path / "full" / "checkpoints").go(1)
    (tmp_path / "young" / "checkpoints").mkdir(parents=True)
    for path, averages, says in (
        (tmp_path / "full", False, "of a run that trained all weights"),
        (tmp_path / "young", False, "holds no whole checkpoint"),
        (tmp_path, False, "holds no adapter"),
        (tmp_path, True, "is no checkpoint, it has no averages"),
    ):
        with pytest.raises(UserError, match=says):
            trained.read(path, averages)


def test_flops_leave_out_the_gradients_of_what_is_frozen() -> None:
    sizes = Transformer.of(tiny())
    whole, adapter = sizes.train_per_token(100), sizes.train_per_token(100, frozen=True)
    assert whole == 3 * sizes.forward_per_token(100) and whole - adapter == 2 * sizes.weights_per_token
