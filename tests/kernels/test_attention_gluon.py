"""When Gluon's kernels of attention run, and what they are launched with. Their results: `test_attention`."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from torch import Tensor

from kernels import runtime
from kernels.attention import core
from kernels.attention.gluon import launch
from kernels.runtime import Config
from tests.kernels.test_aot import python

OP = "attention_forward"


@pytest.fixture(autouse=True)
def on_hopper(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """As on an H100 or H200."""
    monkeypatch.setattr(launch, "interpreting", lambda: False)
    monkeypatch.setattr(launch, "arch", lambda device: "sm_90")
    yield
    launch.prefer(None)


def queries(dim: int = 128, dtype: Any = torch.bfloat16, device: str = "cpu") -> Tensor:
    return torch.zeros(1, 4, 2, dim, dtype=dtype, device=device)


def choose(monkeypatch: pytest.MonkeyPatch, chosen: bool, op: str = OP) -> Config:
    entry = runtime.table("sm_90")[f"{op}_gluon"]
    monkeypatch.setitem(entry, "d128", replace(entry["d128"], chosen=chosen))
    return entry["d128"]


def test_none_runs_that_is_not_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    for op in launch.MODULES:
        choose(monkeypatch, False, op)
    assert [launch.settings(op, queries()) for op in launch.MODULES] == [None] * 3


def test_runs_where_the_settings_choose_it(monkeypatch: pytest.MonkeyPatch) -> None:
    config = choose(monkeypatch, True)
    assert launch.settings(OP, queries()) == launch.settings(OP, queries(dtype=torch.float16)) == config
    launch.prefer(frozenset())
    assert launch.settings(OP, queries()) is None


def test_may_be_preferred_for_some_ops() -> None:
    launch.prefer(frozenset({OP}))
    assert launch.settings(OP, queries()) is not None
    assert launch.settings("attention_backward_q", queries()) is None


@pytest.mark.parametrize("which", ["head dimension", "dtype", "architecture", "interpreter"])
def test_stays_out_of_what_it_cannot_do(which: str, monkeypatch: pytest.MonkeyPatch) -> None:
    launch.prefer(launch.EVERY)
    q = queries(64 if which == "head dimension" else 128, torch.float32 if which == "dtype" else torch.bfloat16)
    if which == "architecture":
        monkeypatch.setattr(launch, "arch", lambda device: "sm_100")
    if which == "interpreter":
        monkeypatch.setattr(launch, "interpreting", lambda: True)
    assert launch.settings(OP, q) is None


def test_packed_sequences_and_pointers_stay_with_triton(device: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those that no descriptor takes; the others go to Gluon, float32 destinations of the ring as well."""
    asked = list[str]()

    def launched(op: str, config: Config, tiled: dict[str, Tensor], over: str, **rest: object) -> None:
        asked.append(op)
        tiled["out"].zero_()

    choose(monkeypatch, True)
    monkeypatch.setattr(launch, "launch", launched)
    x = queries(dtype=torch.float16, device=device)
    core.forward(x, x, x, 1.0)
    core.forward(x, x, x, 1.0, out=torch.empty(x.shape, device=device))
    assert asked == [OP] * 2
    odd = torch.zeros(1 + x.numel(), dtype=torch.float16, device=device)[1:].view(x.shape)
    core.forward(odd, odd, odd, 1.0)
    cu = torch.tensor([0, 4], dtype=torch.int32, device=device)
    core.forward(x, x, x, 1.0, packed=core.Packed(cu, cu, 4, 4))
    assert asked == [OP] * 2


MACHINE_CODE = """
import torch
from kernels.aot import compile_kernel
from kernels.attention.aot import gluon_case

print(compile_kernel(gluon_case("attention_forward", torch.bfloat16, False)).asm["sass"])
"""


def test_exponentials_run_in_the_shadow_of_a_product() -> None:
    """In each consumer's loop: two products are issued, the first is waited for, then 64 exponentials a thread and
    two of the running maximum, and only then is the second one waited for."""
    done = python("-c", MACHINE_CODE)
    names = {"HGMMA": "product", "MUFU.EX2": "power", "DEPBAR.LE gsb0, 0x1": "wait1", "DEPBAR.LE gsb0, 0x0": "wait0"}
    told = "".join(f"{names[event]} " for event in re.findall("|".join(names), done.stdout))
    assert len(re.findall("(product ){16}wait1 (power ){66}wait0 ", told)) == 2, done.stderr


@pytest.mark.parametrize(("over", "rows"), [("q", (64, 128, 128, 64)), ("k", (128, 64, 64, 128))])
def test_each_consumer_has_half_of_what_the_grid_goes_over(over: str, rows: tuple[int, ...]) -> None:
    tiles = launch.tile_rows(Config({"BLOCK_M": 128, "BLOCK_N": 128}), over)
    assert tuple(tiles[name] for name in launch.READ) == rows
