"""ReLU linear attention against its float64 reference: outputs, gradients, odd lengths, strided inputs."""

from __future__ import annotations

from typing import Any

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("triton")

import triton.language as tl
from torch import Tensor

from kernels.relu_linear_attention import op, relu_linear_attention
from kernels.relu_linear_attention.reference import relu_linear_attention as reference

TOLERANCE = 1e-5
"""Relative L2, float32."""
OVER_EAGER = 1.25
"""How much larger an error may be than that of torch in the same dtype."""
SHAPES = [(1, 2, 130), (2, 1, 64), (1, 1, 33), (3, 2, 1)]
"""(batch, heads, positions): several chunks with a tail, whole chunks, less than a chunk, one position."""


def projection(batch: int, heads: int, n: int, device: str, dtype: Any = torch.float32) -> Tensor:
    """(B, heads * 3 * 32, N): q, k and v of every head one after another, as the model's convolution leaves them."""
    dice = torch.Generator().manual_seed(n)
    return torch.randn(batch, heads * 96, n, generator=dice).to(device, dtype)


def heads_of(projected: Tensor) -> tuple[Tensor, ...]:
    return projected.unflatten(1, (-1, 3, 32)).unbind(2)


def run(function, projected: Tensor, weight: Tensor, eps: float = 1e-15) -> tuple[Tensor, Tensor]:
    """The output and the gradient of the projection."""
    leaf = projected.detach().clone().requires_grad_()
    out = function(*heads_of(leaf), eps)
    out.backward(weight.to(out.dtype))
    assert leaf.grad is not None
    return out.detach(), leaf.grad


def error(x: Tensor, exact: Tensor) -> float:
    assert not x.isnan().any()
    return ((x.double() - exact).norm() / exact.norm()).item()


def weight_of(projected: Tensor) -> Tensor:
    dice = torch.Generator().manual_seed(1)
    return torch.randn(heads_of(projected)[0].shape, generator=dice).to(projected.device)


@pytest.fixture
def poisoned(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is allocated holds NaN until it is written."""
    empty = torch.empty
    monkeypatch.setattr(torch, "empty", lambda *args, **kwargs: empty(*args, **kwargs).fill_(float("nan")))


@pytest.mark.usefixtures("poisoned")
@pytest.mark.parametrize(("batch", "heads", "n"), SHAPES)
def test_is_the_reference(batch: int, heads: int, n: int, device: str) -> None:
    projected = projection(batch, heads, n, device)
    weight = weight_of(projected)
    exact = run(reference, projected.double(), weight)
    got = run(relu_linear_attention, projected, weight)
    assert [error(x, y) <= TOLERANCE for x, y in zip(got, exact, strict=True)] == [True, True]


@pytest.mark.parametrize("dtype", [torch.float16, pytest.param(torch.bfloat16, marks=pytest.mark.gpu)])
def test_rounds_no_more_than_torch(dtype: Any, device: str) -> None:
    projected = projection(1, 2, 130, device, dtype)
    weight = weight_of(projected).to(dtype)
    exact = run(reference, projected.double(), weight)
    eager = run(reference, projected, weight)
    got = run(relu_linear_attention, projected, weight)
    for mine, theirs, true in zip(got, eager, exact, strict=True):
        assert mine.dtype == dtype and error(mine, true) <= OVER_EAGER * error(theirs, true)


@pytest.mark.gpu
def test_bf16_of_a_long_head(device: str) -> None:
    """Many chunks, an odd length, and offsets in the millions."""
    projected = projection(1, 2, 300_001, device, torch.bfloat16)
    weight = weight_of(projected).bfloat16()
    exact = run(reference, projected.double(), weight)
    eager = run(reference, projected, weight)
    got = run(relu_linear_attention, projected, weight)
    for mine, theirs, true in zip(got, eager, exact, strict=True):
        assert error(mine, true) <= OVER_EAGER * error(theirs, true)


def test_two_halves_of_a_wide_factor_round_less_than_one(monkeypatch: pytest.MonkeyPatch, device: str) -> None:
    """The products of bf16 inputs, in fp16 here: the interpreter has no products in bf16."""
    projected = projection(1, 1, 130, device, torch.float16).mul_(0.25)
    weight = weight_of(projected).half()
    exact = run(reference, projected.double(), weight)
    init = op._Launch.__init__

    def halves(self, q: Tensor, name: str) -> None:
        init(self, q, name)
        self._arguments["DOT"] = tl.float16

    monkeypatch.setattr(op._Launch, "__init__", halves)
    eager = run(reference, projected, weight)
    got = run(relu_linear_attention, projected, weight)
    for mine, theirs, true in zip(got, eager, exact, strict=True):
        assert error(mine, true) <= 1.05 * error(theirs, true)


def test_any_strides(device: str) -> None:
    """Positions apart, heads interleaved, and a gradient spread from one number."""
    exact = torch.randn(2, 70, 2, 32, generator=torch.Generator().manual_seed(0)).double()
    leaves = [exact.to(device, torch.float32).requires_grad_(), exact.to(device).requires_grad_()]
    for leaf, function in zip(leaves, (relu_linear_attention, reference), strict=True):
        x_BHDN = leaf.permute(0, 2, 3, 1)
        function(x_BHDN, x_BHDN.flip(-1), x_BHDN.contiguous()).sum().backward()
    assert leaves[0].grad is not None and leaves[1].grad is not None
    assert error(leaves[0].grad, leaves[1].grad) <= TOLERANCE


def test_a_query_with_nothing_above_zero(device: str) -> None:
    """Its output is 0 / eps: zero; and so are its gradient."""
    projected = projection(1, 1, 33, device)
    projected[:, :32, 5] = -1
    weight = weight_of(projected)
    out, grad = run(relu_linear_attention, projected, weight)
    assert out[..., 5].abs().max() == 0 and grad[:, :32, 5].abs().max() == 0
    assert error(grad, run(reference, projected.double(), weight)[1]) <= TOLERANCE


@pytest.mark.filterwarnings("ignore:invalid value encountered in divide")
def test_eps_may_be_zero(device: str) -> None:
    """The positions past the end of the last tile divide zero by zero then; nothing of it may reach a sum."""
    projected = projection(1, 1, 33, device).abs()
    weight = weight_of(projected)
    got, exact = run(relu_linear_attention, projected, weight, 0.0), run(reference, projected.double(), weight, 0.0)
    assert error(got[0], exact[0]) <= TOLERANCE and error(got[1], exact[1]) <= TOLERANCE


def test_not_a_number_is_not_hidden(device: str) -> None:
    q, k, v = (x.clone() for x in heads_of(projection(1, 1, 33, device)))
    q[0, 0, 3, 7] = float("nan")
    assert relu_linear_attention(q, k, v)[..., 7].isnan().all()


def test_runs_are_bit_identical(device: str) -> None:
    projected = projection(1, 2, 130, device)
    weight = weight_of(projected)
    first, second = (run(relu_linear_attention, projected, weight) for _ in range(2))
    assert torch.equal(first[0], second[0]) and torch.equal(first[1], second[1])


def test_registered_as_torch_wants_it(device: str) -> None:
    inputs = [x.clone().requires_grad_() for x in heads_of(projection(1, 1, 33, device))]
    torch.library.opcheck(op._forward, (*inputs, 1e-15))
    strided = heads_of(projection(1, 2, 33, device))
    torch.library.opcheck(op._forward, (*strided, 1e-15))


@pytest.mark.parametrize("kernels", [True, False])
def test_compiles_in_one_graph(kernels: bool, monkeypatch: pytest.MonkeyPatch, device: str) -> None:
    monkeypatch.setattr(op, "use_kernel", lambda _: kernels)
    projected = projection(1, 2, 33, device)
    weight = weight_of(projected)
    compiled = torch.compile(relu_linear_attention, fullgraph=True, backend="aot_eager")
    got, plain = run(compiled, projected, weight), run(relu_linear_attention, projected, weight)
    assert error(got[0], plain[0].double()) <= 1e-6 and error(got[1], plain[1].double()) <= 1e-6


def test_a_cpu_without_interpreter_runs_the_reference(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    monkeypatch.setattr(op, "_forward", None)
    q, k, v = heads_of(projection(1, 1, 33, "cpu"))
    assert torch.equal(relu_linear_attention(q, k, v), reference(q, k, v))


@pytest.mark.parametrize(("n", "name"), [(4096, "short"), (4097, "medium"), (65_537, "long")])
def test_settings_go_by_positions(n: int, name: str) -> None:
    x = torch.empty(1, 1, 32, n, dtype=torch.bfloat16, device="meta")
    assert op.bucket(x) == name and op.bucket(x.half()) == "fp32"
