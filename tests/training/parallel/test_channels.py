"""Ranks that share an autoencoder's channels against one process that has it whole: `channels_ranks` runs them."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch")
if importlib.util.find_spec("colossalai") is None:
    pytest.skip("ColossalAI is not installed", allow_module_level=True)

import torch

from curation.errors import UserError
from tests.support.processes import together
from tests.support.toy_autoencoder import CONFIG
from tests.training.parallel import channels_ranks
from tests.training.parallel.channels_ranks import CASES, STEPS, learnt, toy
from training.checkpoint.load import tensors
from training.models.dcae import VideoDcAe
from training.models.dcae.split import split
from training.parallel.channels import Channels, channels_of
from training.parallel.single import Single


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    folder = tmp_path_factory.mktemp("alone")
    return folder, learnt(toy(folder, 1))


def told_by(folder: Path, ranks: int) -> dict[str, Any]:
    together(channels_ranks.__name__, ranks, folder)
    return json.loads((folder / "told.json").read_text())


def compared(folder: Path, told: dict[str, Any], alone: tuple[Path, dict[str, Any]]) -> None:
    place, want = alone
    weights = tensors(toy(place, 1).checkpoints.at(STEPS))
    for name in CASES:
        got = told[name]
        assert len(got["steps"]) == STEPS
        for mine, theirs in zip(got["steps"], want["steps"], strict=True):
            assert mine == pytest.approx(theirs, rel=1e-3), name
            assert (mine["samples"], mine["flops"]) == (theirs["samples"], theirs["flops"])
        assert got["validated"] == pytest.approx(want["validated"], rel=1e-3), name
        found = tensors(toy(folder / name, 1).checkpoints.at(STEPS))
        off = torch.cat([(weight - weights[key]).abs().flatten() for key, weight in found.items()])
        # Adam makes a whole step (1e-3) of a gradient that is but rounding: a few weights may be off by as much.
        assert (off > 1e-4).float().mean() < 1e-2 and off.mean() < 1e-5, name


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    folder = tmp_path_factory.mktemp("pair")
    return folder, told_by(folder, 2)


def test_two_ranks_compute_what_one_does_and_keep_less(pair: tuple[Path, dict[str, Any]]) -> None:
    found = pair[1]["forward"]
    assert found["blocks"] == 10  # of both halves: two residual blocks, two narrow ones by channels, one by heads too
    assert found["names"], "a checkpoint knows nothing of it"
    for name in ("output", "gradient of the input", "gradients of the weights"):
        assert found[name] < 1e-4, name
    assert found["kept shared"] < 0.75 * found["kept whole"]


def test_two_ranks_learn_what_one_does(pair: tuple[Path, dict[str, Any]], alone: tuple[Path, dict[str, Any]]) -> None:
    compared(*pair, alone)


@pytest.mark.slow
def test_two_groups_of_two_learn_what_one_process_does(tmp_path: Path, alone: tuple[Path, dict[str, Any]]) -> None:
    compared(tmp_path, told_by(tmp_path, 4), alone)


def test_what_cannot_be_shared_is_refused() -> None:
    one = Single(torch.device("cpu"))
    assert channels_of(one, 1) is None
    with pytest.raises(UserError, match="share a clip's channels, engine single is one process"):
        channels_of(one, 2)
    one.group, one.ranks = object(), 3
    with pytest.raises(UserError, match="3 ranks are no whole number of groups of 2"):
        channels_of(one, 2)
    with pytest.raises(UserError, match="no block of the autoencoder has channels for 1000 ranks"):
        split(VideoDcAe(CONFIG), Channels(0, 1000, "ring", None))


@pytest.mark.parametrize("ranks", [1, 2, 3, 4, 7])
def test_every_channel_is_one_rank_s(ranks: int) -> None:
    for count in range(ranks, 30):
        owned = [Channels(rank, ranks, "ring", None).own(count) for rank in range(ranks)]
        assert [one for own in owned for one in own] == list(range(count))
        assert max(map(len, owned)) - min(map(len, owned)) <= 1
