"""What the machine lets pass is right, and each thing that no kernel may do is an error."""

from __future__ import annotations

from typing import Any

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("triton")

from triton.experimental import gluon
from triton.experimental.gluon import language as gl
from triton.experimental.gluon.language.nvidia.hopper import mbarrier, tma, warpgroup_mma, warpgroup_mma_wait

from tests.support.gluon_machine import run
from tests.support.gluon_memory import Descriptor, Wrong

SIDE, TILES = 4, 5


@gluon.jit
def total(a, out, n, SIDE: gl.constexpr, FAULT: gl.constexpr):
    """The sum of n squares of a, one tile after another through one place."""
    place = gl.allocate_shared_memory(a.dtype, [1, 1, 1, SIDE, SIDE], a.layout)
    bars = gl.allocate_shared_memory(gl.int64, [2, 1], mbarrier.MBarrierLayout())
    mbarrier.init(bars.index(0), count=1)
    mbarrier.init(bars.index(1), count=1)
    parts = [(_multiply, (place, bars, out, n, SIDE, FAULT)), (_fetch, (a, place, bars, n, SIDE, FAULT))]
    gl.warp_specialize(parts, [1], [24])


@gluon.jit
def _fetch(a, place, bars, n, SIDE: gl.constexpr, FAULT: gl.constexpr):
    for i in range(n):
        if FAULT != "not waited for room":
            mbarrier.wait(bars.index(1), (i & 1) ^ 1)
        mbarrier.expect(bars.index(0), a.block_type.nbytes // (2 if FAULT == "too few bytes" else 1))
        tma.async_copy_global_to_shared(a, [0, 0, i * SIDE, 0], bars.index(0), place.index(0))


@gluon.jit
def _multiply(place, bars, out, n, SIDE: gl.constexpr, FAULT: gl.constexpr):
    acc = gl.zeros([SIDE, SIDE], gl.float32, gl.AutoLayout())
    for i in range(n):
        if FAULT != "not waited for bytes":
            mbarrier.wait(bars.index(0), i & 1)
        tile = place.index(0).reshape([SIDE, SIDE])
        acc = warpgroup_mma(tile, tile.permute((1, 0)), acc, is_async=True)
        if FAULT == "freed too early":
            mbarrier.arrive(bars.index(1), count=1)
        acc = warpgroup_mma_wait(1 if FAULT == "used too early" else 0, deps=[acc])
        if FAULT != "freed too early" and FAULT != "never freed":
            mbarrier.arrive(bars.index(1), count=2 if FAULT == "freed twice" else 1)
    if FAULT == "not waited for":
        warpgroup_mma(tile, tile, acc, is_async=True)
    rows = gl.arange(0, SIDE, gl.AutoLayout())
    gl.store(out + rows[:, None] * SIDE + rows[None, :], acc, mask=(rows < SIDE)[:, None])


def made(fault: str, seed: int) -> tuple[Any, Any]:
    torch.manual_seed(seed)
    a = torch.randn(1, TILES * SIDE, 1, SIDE)
    out = torch.full((SIDE, SIDE), torch.nan)
    run(total, (1,), {"a": Descriptor(a, SIDE), "out": out, "n": TILES, "SIDE": SIDE, "FAULT": fault}, seed)
    tiles = a.view(TILES, SIDE, SIDE)
    return out, (tiles @ tiles.mT).sum(0)


@pytest.mark.parametrize("seed", range(5))
def test_a_kernel_without_fault(seed: int) -> None:
    torch.testing.assert_close(*made("", seed))


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        ("not waited for room", "overwritten"),
        ("not waited for bytes", "overwritten"),
        ("too few bytes", "more arrivals or bytes"),
        ("freed too early", "overwritten"),
        ("freed twice", "more arrivals or bytes"),
        ("never freed", "partitions [0, 1] wait for ever"),
        ("used too early", "used before its wait"),
        ("not waited for", "never waited for"),
    ],
)
def test_a_fault_is_found_in_some_order_of_events(fault: str, said: str) -> None:
    """It may show in other ways as well."""
    found = list[str]()
    for seed in range(20):
        try:
            made(fault, seed)
        except Wrong as error:
            found.append(str(error))
    assert any(said in text for text in found), found


def test_the_same_seed_gives_the_same_order() -> None:
    """Of a fault that not every order shows."""

    def outcome(seed: int) -> str:
        try:
            made("freed too early", seed)
        except Wrong as error:
            return str(error)
        return ""

    outcomes = [outcome(seed) for seed in range(10)]
    assert outcomes == [outcome(seed) for seed in range(10)] and len(set(outcomes)) > 1
