"""Ranks that share samples against one process that has them whole: `sharing` runs them, this looks at the results.

Losses, norms before clipping, weights, and all that a log counts, by both ways of attention under every engine; texts
and videos that do not divide, ranks without either; checkpoints that know nothing of it; bfloat16 against shares
added up by hand.
"""

from __future__ import annotations

import functools
import importlib.util
import json
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")
if importlib.util.find_spec("colossalai") is None:
    pytest.skip("ColossalAI is not installed", allow_module_level=True)

from tests.support.processes import together
from tests.training.parallel import sharing
from tests.training.parallel.sharing import ALL, CLIP, SAMPLE, STEPS, STOP, VALIDATED, Case, learnt, toy
from training.checkpoint.load import tensors

Told = dict[str, Any]
COUNTED = ("samples", "tokens", "flops")


@functools.cache
def alone(folder: Path, case: Case) -> Told:
    return learnt(toy(folder, case.alone))


def of_ranks(folder: Path, ranks: int, which: str) -> Told:
    """What so many processes told, which go on from a checkpoint of one."""
    toy(folder / "begun", SAMPLE[0].alone).go(STOP)
    together(sharing.__name__, ranks, folder, which)
    return json.loads((folder / "told.json").read_text())


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("sharing")


@pytest.fixture(scope="module")
def told(folder: Path) -> Told:
    return of_ranks(folder, 2, "sample")


def compared(folder: Path, told: Told, cases: tuple[Case, ...]) -> None:
    """Each case, and its checkpoint, with one process."""
    for case in cases:
        apart = folder / "alone" / f"{case.words} {case.references}"
        want, got = alone(apart, case.alone), told[str(case)]
        assert len(got["steps"]) == STEPS
        for mine, theirs in zip(got["steps"], want["steps"], strict=True):
            assert mine == pytest.approx(theirs, rel=1e-5), case  # the bins of the time too
            assert [mine[name] for name in COUNTED] == [theirs[name] for name in COUNTED], case
            assert any(name.startswith("loss/t=") for name in mine) and mine["norm"] > 2 * CLIP
        assert got["validated"] == pytest.approx(want["validated"], rel=1e-5), case
        weights = tensors(toy(apart, case.alone).checkpoints.at(STEPS))
        found = tensors(toy(folder / str(case), case).checkpoints.at(STEPS))
        off = torch.cat([(weight - weights[name]).abs().flatten() for name, weight in found.items()])
        # Adam makes a whole step (1e-3) of a gradient that is but rounding, which differs from processor to processor:
        # some weights may be off by as much.
        assert (off > 1e-5).float().mean() < 3e-2 and off.mean() < 5e-6, case


def test_two_ranks_learn_from_a_sample_what_one_does(folder: Path, told: Told) -> None:
    """Recomputed blocks, inputs on the host, ranks without text and ranks without video among it."""
    assert VALIDATED % 2  # so ranks that have no sample of their own would be seen
    compared(folder, told, SAMPLE)


def test_a_run_goes_on_at_any_number_of_ranks_to_a_sample(folder: Path, told: Told) -> None:
    case = SAMPLE[0]
    steps = alone(folder / "alone" / f"{case.words} {case.references}", case.alone)["steps"]
    want = [[step["loss"], step["norm"]] for step in steps]
    begun, changing = told["on the way"]
    assert begun == [pytest.approx(pair, rel=1e-5) for pair in want[STOP:]]
    assert changing == [pytest.approx(pair, rel=1e-5) for pair in want]
    one, _, progress = toy(folder / str(case), case.alone).go(STEPS)  # one process takes up what two have saved
    assert progress.step == STEPS
    saved = tensors(toy(folder / str(case), case).checkpoints.at(STEPS))
    assert all(torch.equal(saved[name], weight) for name, weight in one.engine.masters().items())


def test_what_a_network_draws_is_for_each_rank_s_own_tokens(told: Told) -> None:
    """The same in every run, and no two alike."""
    first, second = (told["seeds"][str(case)] for case in SAMPLE)
    assert first == second
    seeds = [seed for rank in first for seed in rank]
    assert len(set(seeds)) == len(seeds) == 2 * STEPS * 4


def test_attention_is_plain_again_afterwards(told: Told) -> None:
    assert told["taken back"]


@pytest.mark.slow
@pytest.mark.parametrize("ranks", [2, 4])
def test_every_engine_and_way(ranks: int, tmp_path: Path) -> None:
    """Of four ranks two or four share a sample; of one word and one token two of these have nothing."""
    told = of_ranks(tmp_path, ranks, "all")
    compared(tmp_path, told, ALL[ranks])
    assert told["taken back"]
    for case in ALL[ranks]:
        seeds = [seed for rank in told["seeds"][str(case)] for seed in rank]
        assert len(set(seeds)) == len(seeds) == case.context * STEPS * 4, case
    if ranks == 2:
        assert len(told["rounded"]) == 8 and max(told["rounded"].values()) < 5e-7
        want = sharing.adapter(tmp_path / "alone", "single", 1)
        for name, losses in told["adapter"].items():
            assert losses == [pytest.approx(pair, rel=1e-5) for pair in want], name
        assert told["dropout"][0] == told["dropout"][1] != told["adapter"]["colossal-2"]
