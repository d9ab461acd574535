"""What the engines of several processes are made of, each alone."""

from __future__ import annotations

import importlib
from itertools import pairwise
from typing import Any, get_args, get_type_hints

import pytest

torch = pytest.importorskip("torch")
from torch import nn

from curation.errors import UserError
from training.parallel import colossal_compat
from training.parallel.engines import ENGINES, default
from training.parallel.fsdp2 import blocks
from training.parallel.in_order import InOrder
from training.parallel.parts import chunk

CPU = torch.device("cpu")


def test_gradients_are_given_in_one_order_whatever_is_used() -> None:
    """Of three weights, the last comes late and the first never: it is zero, and none is given before its turn."""
    weights = [nn.Parameter(torch.ones(2)) for _ in range(3)]
    given: list[tuple[int, float]] = []

    def give(weight: nn.Parameter) -> None:
        assert weight.grad is not None
        index = next(index for index, one in enumerate(weights) if one is weight)
        given.append((index, weight.grad.sum().item()))

    order = InOrder(weights, give)
    order.listen(lambda: True)
    for again in range(2):
        weights[1].sum().backward()
        assert given == []
        weights[2].sum().backward()
        assert given == [(2, 2.0), (1, 2.0)], again
        order.complete()
        assert given[2:] == [(0, 0.0)]
        given.clear()
        for weight in weights:
            weight.grad = None


def test_gradients_may_be_left_to_gather() -> None:
    weight, given, active = nn.Parameter(torch.ones(2)), [], False
    order = InOrder([weight], lambda weight: given.append(weight.grad.sum().item()))  # type: ignore[union-attr]
    hooks = order.listen(lambda: active)
    weight.sum().backward()
    assert given == []
    active = True
    weight.sum().backward()
    order.complete()
    assert given == [4.0] and len(hooks) == 1


@pytest.mark.parametrize("whole", [0, 1, 5, 8])
@pytest.mark.parametrize("ranks", [1, 2, 3])
def test_weights_are_cut_as_chunk_cuts_them(whole: int, ranks: int) -> None:
    cuts = [chunk(whole, rank, ranks) for rank in range(ranks)]
    sizes = [len(part) for part in torch.arange(whole).chunk(ranks)] if whole else []
    assert [end - start for start, end in cuts] == sizes + [0] * (ranks - len(sizes))
    assert cuts[0][0] == 0 and cuts[-1][1] == whole
    assert all(before[1] == after[0] for before, after in pairwise(cuts))


def test_layers_are_gathered_one_by_one() -> None:
    inner = nn.ModuleList([nn.Linear(1, 1), nn.ReLU()])
    net = nn.Sequential(nn.Linear(1, 1), nn.ModuleList([nn.Sequential(inner), nn.ModuleList([nn.Linear(1, 1)])]))
    layers = net[1]
    assert blocks(net) == [layers[0], layers[1][0]]  # type: ignore[index]


def test_a_run_that_names_no_engine() -> None:
    assert (default(1), default(2)) == ("single", "colossal-2")


def test_colossalai_that_is_not_there_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> Any:
        raise ModuleNotFoundError("No module named 'colossalai'")

    monkeypatch.setattr(importlib, "import_module", missing)
    with pytest.raises(UserError, match=r"No module named 'colossalai'; pip install --no-deps colossalai==0\.5\.0"):
        colossal_compat.load(CPU)


def test_the_command_offers_every_engine() -> None:
    from pipelines.commands.training import app as training

    choices, _ = get_args(get_type_hints(training.train)["engine"])
    assert get_args(choices) == tuple(ENGINES)
