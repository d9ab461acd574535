"""Merging partial attention results: against attention over all keys at once, and at the edges of the exponential."""

from __future__ import annotations

from typing import Any

import pytest

torch = pytest.importorskip("torch")

from torch import Tensor

from kernels.merge_partial import merge_partial, op
from kernels.merge_partial.reference import merge

Part = tuple[Tensor, Tensor]


@pytest.fixture(params=["kernel", "reference"], autouse=True)
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    if request.param == "reference":
        monkeypatch.setattr(op, "use_kernel", lambda x: False)
    return request.param


def attend(q: Tensor, k: Tensor, v: Tensor) -> Part:
    s_BHLM = torch.einsum("blhd,bmhd->bhlm", q, k)
    return torch.einsum("bhlm,bmhd->blhd", s_BHLM.softmax(-1), v), s_BHLM.logsumexp(-1)


def parts(device: str, L: int, D: int, heads: int = 2) -> tuple[Part, Part, Part]:
    """Two parts of the keys, and all of them, in float64."""
    torch.manual_seed(0)
    q, k, v = (torch.randn(2, n, heads, D, dtype=torch.float64).to(device) for n in (L, 30, 30))
    return attend(q, k[:, :11], v[:, :11]), attend(q, k[:, 11:], v[:, 11:]), attend(q, k, v)


def single(part: Part) -> Part:
    return part[0].float(), part[1].float()


@pytest.mark.parametrize(("L", "D"), [(1, 32), (33, 64), (50, 20), (32, 128)])
def test_two_parts_make_the_whole(device: str, L: int, D: int) -> None:
    a, b, whole = parts(device, L, D)
    out, lse = single(a)
    merge_partial(out, lse, *single(b))
    assert torch.allclose(out.double(), whole[0], rtol=1e-5, atol=1e-6)
    assert torch.allclose(lse.double(), whole[1], rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_other_part_may_be_narrow_and_strided(device: str, dtype: Any) -> None:
    a, b, _ = parts(device, 40, 32)
    out, lse = single(a)
    narrow = b[0].to(dtype).transpose(1, 2).contiguous().transpose(1, 2)
    merge_partial(out, lse, narrow, b[1].float())
    expected, _ = merge(*a, narrow, b[1])
    assert torch.allclose(out.double(), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("gap", [-1000.0, -100.0, -20.0, 0.0, 20.0, 100.0, 1000.0])
def test_any_gap(device: str, gap: float) -> None:
    """exp(gap) overflows from 89 on."""
    a, b, _ = parts(device, 5, 32)
    out, lse = single(a)
    lse_b = lse + gap
    expected, expected_lse = merge(a[0], lse.double(), b[0], lse_b.double())
    merge_partial(out, lse, b[0].float(), lse_b)
    assert torch.allclose(out.double(), expected, rtol=1e-5, atol=1e-6)
    assert torch.allclose(lse.double(), expected_lse, rtol=1e-6)
    if abs(gap) >= 100:
        assert torch.allclose(out.double(), (b if gap > 0 else a)[0], atol=1e-6)


def test_parts_without_keys(device: str) -> None:
    a, _, _ = parts(device, 7, 32)
    none = torch.zeros_like(a[0]).float(), torch.full_like(a[1], -torch.inf).float()
    for first, second in ((single(a), none), (none, single(a))):
        out, lse = (x.clone() for x in first)
        merge_partial(out, lse, *second)
        assert torch.equal(out, a[0].float()) and torch.equal(lse, a[1].float())
    out, lse = (x.clone() for x in none)
    merge_partial(out, lse, *none)
    assert (out == 0).all() and (lse == -torch.inf).all()


def test_accumulator_may_be_a_view_and_nothing_else_is_written(device: str) -> None:
    a, b, whole = parts(device, 33, 32)
    room = torch.full((2, 35, 3, 40), torch.nan, device=device)
    out, lse = room[:, 1:34, :2, 4:36], a[1].float()
    out.copy_(a[0])
    merge_partial(out, lse, *single(b))
    assert torch.allclose(out.double(), whole[0], rtol=1e-5, atol=1e-6)
    assert room.isfinite().sum() == out.numel()


def test_operator_is_well_formed(device: str) -> None:
    a, b, _ = parts(device, 5, 32)
    torch.library.opcheck(op._merge_partial, (*single(a), *single(b)))


def test_compiles_whole(device: str) -> None:
    a, b, whole = parts(device, 5, 32)

    def step(out: Tensor, lse: Tensor, out_b: Tensor, lse_b: Tensor) -> Tensor:
        merge_partial(out, lse, out_b, lse_b)
        return 2 * out

    out, lse = single(a)
    doubled = torch.compile(step, fullgraph=True, backend="aot_eager")(out, lse, *single(b))
    assert torch.allclose(doubled.double(), 2 * whole[0], rtol=1e-5, atol=1e-6)
    assert torch.allclose(out.double(), whole[0], rtol=1e-5, atol=1e-6)
