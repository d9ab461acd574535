"""QK norm and rotation: outputs and gradients of both pairings, odd shapes, heads inside a fused projection."""

from __future__ import annotations

from typing import Any

import pytest

pytest.importorskip("torch")

import torch
from torch import Tensor

from kernels.qk_norm_rope import op as ops
from kernels.qk_norm_rope import reference
from tests.kernels import fused

qk_norm_rope: Any = ops.qk_norm_rope
PLAIN: Any = reference.qk_norm_rope
Shape = tuple[int, int, int, int]
SHAPES = [(1, 9, 2, 128), (2, 33, 2, 64), (1, 130, 1, 32), (2, 3, 3, 6), (1, 1, 5, 16)]
INTERLEAVED = pytest.mark.parametrize("interleaved", [True, False], ids=["interleaved", "halves"])


def tensors(shape: Shape, device: str, dtype: torch.dtype = torch.float32) -> list[Tensor]:
    """Queries and keys inside a fused projection that is NaN elsewhere, and their scales."""
    batch, tokens, heads, channels = shape
    dice = torch.Generator().manual_seed(sum(shape))
    fused_qkv = torch.full((batch, tokens + 2, 3 * heads * channels + 16), float("nan"))
    width = heads * channels
    fused_qkv[:, 2:, : 2 * width] = torch.randn(batch, tokens, 2 * width, generator=dice)
    q, k = fused_qkv.to(device, dtype)[:, 2:, : 2 * width].unflatten(-1, (2, heads, channels)).unbind(2)
    return [q, k, *(1 + torch.randn(2, channels, generator=dice) / 4).to(device, dtype)]


def tables(shape: Shape, device: str) -> tuple[Tensor, Tensor]:
    angles = torch.outer(torch.arange(shape[1]), 10 ** -torch.linspace(0, 2, shape[3] // 2)).to(device)
    return angles.cos(), angles.sin()


def upstream(shape: Shape, device: str) -> list[Tensor]:
    dice = torch.Generator().manual_seed(1)
    return [torch.randn(shape, generator=dice).to(device) for _ in range(2)]


def both(shape: Shape, device: str, interleaved: bool, eps: float = 1e-6) -> tuple[fused.Function, fused.Function]:
    """The op and the reference as functions of what has gradients."""
    last = (*tables(shape, device), interleaved, eps)
    return (lambda *x: qk_norm_rope(*x, *last)), (lambda *x: PLAIN(*x, *last))


@INTERLEAVED
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16], ids=str)
def test_outputs_and_gradients(
    shape: Shape, dtype: torch.dtype, interleaved: bool, device: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    fused.poison(monkeypatch)
    fused.check(both(shape, device, interleaved), tensors(shape, device, dtype), upstream(shape, device))


@INTERLEAVED
def test_channels_turn_in_the_pairs_that_are_said(interleaved: bool, device: str) -> None:
    """One head (3, 4, 0, 0): its pairs turn by 90 and by 0 degrees, its norm is 2.5."""
    x = torch.tensor([3.0, 4.0, 0.0, 0.0], device=device).reshape(1, 1, 1, 4)
    cos, sin = torch.tensor([[0.0, 1.0]], device=device), torch.tensor([[1.0, 0.0]], device=device)
    scale = torch.tensor([1.0, 2.0, 3.0, 4.0], device=device)
    q, k = qk_norm_rope(x, 2 * x, scale, 2 * scale, cos, sin, interleaved, 1e-12)
    want = [-3.2, 1.2, 0.0, 0.0] if interleaved else [0.0, 3.2, 1.2, 0.0]
    assert q.flatten().tolist() == pytest.approx(want)
    assert k.flatten().tolist() == pytest.approx([2 * value for value in want])


@INTERLEAVED
def test_gradients_of_any_strides(interleaved: bool, device: str, monkeypatch: pytest.MonkeyPatch) -> None:
    shape = (2, 9, 3, 16)
    fused.poison(monkeypatch)
    (op, plain), inputs = both(shape, device, interleaved), tensors(shape, device)
    heads_first = [u.transpose(1, 2).contiguous().transpose(1, 2) for u in upstream(shape, device)]
    fused.check((op, plain), inputs, heads_first)
    fused.check((op, plain), inputs, [torch.ones(1, device=device).expand(shape)] * 2)


@INTERLEAVED
def test_what_is_strided_in_its_last_dimension_is_copied(interleaved: bool, device: str) -> None:
    shape = (2, 9, 3, 16)
    inputs = [x.mT.contiguous().mT if x.dim() > 1 else x for x in tensors(shape, device)]
    fused.check(both(shape, device, interleaved), inputs, upstream(shape, device))


@INTERLEAVED
def test_offsets_pass_two_to_the_31(interleaved: bool, device: str) -> None:
    shape, stride = (1, 3, 2, 32), 2**30 + 16
    far = torch.empty(2 * stride + 128, dtype=torch.float16, device=device)  # pages never touched take no memory
    q, k, *scales = tensors(shape, device, torch.float16)
    views = [far.as_strided(shape, (3 * stride, stride, 32, 1), start) for start in (0, 64)]
    for view, x in zip(views, (q, k), strict=True):
        view.copy_(x)
    fused.check(both(shape, device, interleaved), [*views, *scales], upstream(shape, device))


def test_no_tokens(device: str) -> None:
    shape = (2, 0, 3, 16)
    inputs = [x.requires_grad_() for x in tensors(shape, device)]
    q, k = qk_norm_rope(*inputs, *tables(shape, device), True)
    (q.sum() + k.sum()).backward()
    assert inputs[2].grad is not None and inputs[2].grad.tolist() == [0] * 16


@INTERLEAVED
def test_registration(interleaved: bool, device: str) -> None:
    shape = (2, 3, 2, 16)
    inputs = [x.requires_grad_() for x in tensors(shape, device)]
    torch.library.opcheck(qk_norm_rope, (*inputs, *tables(shape, device), interleaved, 1e-6))


def test_registration_of_the_backward_op(device: str) -> None:
    shape = (2, 3, 2, 16)
    arguments = (*upstream(shape, device), *tensors(shape, device), *tables(shape, device), True, 1e-6)
    torch.library.opcheck(ops.qk_norm_rope_backward, arguments)


@INTERLEAVED
def test_compiles_as_one_graph(interleaved: bool, device: str) -> None:
    shape = (2, 3, 2, 16)
    inputs, grads = tensors(shape, device), upstream(shape, device)
    op, _ = both(shape, device, interleaved)
    compiled = torch.compile(op, fullgraph=True, backend="aot_eager")
    for ours, plain in zip(fused.run(compiled, inputs, grads), fused.run(op, inputs, grads), strict=True):
        assert torch.equal(ours, plain)


@INTERLEAVED
def test_a_cpu_runs_the_reference_and_its_written_out_gradient(
    interleaved: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    shape = (2, 3, 2, 6)
    op, plain = both(shape, "cpu", interleaved, 1e-2)
    inputs = [x.double().requires_grad_() for x in tensors(shape, "cpu")]
    assert all(torch.equal(a, b) for a, b in zip(op(*inputs), plain(*inputs), strict=True))
    torch.autograd.gradcheck(op, inputs)


@INTERLEAVED
def test_eps_reaches_the_kernels(interleaved: bool, device: str) -> None:
    shape = (1, 3, 2, 16)
    fused.check(both(shape, device, interleaved, 0.5), tensors(shape, device), upstream(shape, device))


def test_shapes_that_do_not_fit_are_refused(device: str) -> None:
    shape = (2, 3, 2, 16)
    q, k, *scales = tensors(shape, device)
    cos, sin = tables(shape, device)
    for arguments in ((q, k[:, :, :1], *scales, cos, sin), (q, k, *scales, cos[:2], sin[:2])):
        with pytest.raises(ValueError, match="expected q, k"):
            qk_norm_rope(*arguments, True)
    with pytest.raises(ValueError, match="eps must be positive"):
        qk_norm_rope(q, k, *scales, cos, sin, True, 0.0)


@pytest.mark.gpu
@INTERLEAVED
@pytest.mark.parametrize("shape", [(1, 2304, 24, 128), (2, 1001, 16, 64), (1, 517, 24, 32)], ids=str)
def test_in_bfloat16_and_twice_the_same(shape: Shape, interleaved: bool, device: str) -> None:
    (op, plain), inputs = both(shape, device, interleaved), tensors(shape, device, torch.bfloat16)
    grads = upstream(shape, device)
    fused.check((op, plain), inputs, grads)
    first, second = (fused.run(op, inputs, grads) for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))
