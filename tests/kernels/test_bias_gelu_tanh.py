"""Bias and GELU: outputs and gradients, odd widths, strided inputs, extreme values, registration, choice of path."""

from __future__ import annotations

import pytest

pytest.importorskip("torch")

import torch
from torch import Tensor

from kernels.bias_gelu_tanh import bias_gelu_tanh, reference
from kernels.bias_gelu_tanh import op as ops
from tests.kernels import fused

PAIR = (bias_gelu_tanh, reference.bias_gelu_tanh)


def tensors(shape: tuple[int, int, int], device: str, dtype: torch.dtype = torch.float32) -> list[Tensor]:
    dice = torch.Generator().manual_seed(sum(shape))
    x, bias = 2 * torch.randn(shape, generator=dice), torch.randn(shape[-1], generator=dice)
    return [x.to(device, dtype), bias.to(device, dtype)]


def upstream(shape: tuple[int, int, int], device: str) -> list[Tensor]:
    return [torch.randn(shape, generator=torch.Generator().manual_seed(1)).to(device)]


@pytest.mark.parametrize("shape", [(2, 5, 48), (1, 130, 64), (2, 33, 130), (1, 3, 1031), (3, 1, 1)], ids=str)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16], ids=str)
def test_outputs_and_gradients(
    shape: tuple[int, int, int], dtype: torch.dtype, device: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    fused.poison(monkeypatch)
    fused.check(PAIR, tensors(shape, device, dtype), upstream(shape, device))


def test_strided_rows_are_read_in_place(device: str, monkeypatch: pytest.MonkeyPatch) -> None:
    fused.poison(monkeypatch)
    x, bias = tensors((2, 9, 48), device)
    joint = torch.full((2, 14, 60), float("nan"), device=device)
    joint[:, 5:, :48] = x
    grads = [u.transpose(0, 1).contiguous().transpose(0, 1) for u in upstream((2, 9, 48), device)]
    fused.check(PAIR, [joint[:, 5:, :48], bias], grads)


def test_what_is_strided_in_its_last_dimension_is_copied(device: str) -> None:
    x, bias = tensors((2, 9, 48), device)
    ones = torch.ones(1, device=device).expand(2, 9, 48)
    fused.check(PAIR, [x.mT.contiguous().mT, torch.stack((bias, bias), -1)[:, 0]], [ones])


def test_offsets_pass_two_to_the_31(device: str) -> None:
    stride = 2**30 + 16
    far = torch.empty(2 * stride + 64, dtype=torch.float16, device=device)  # pages never touched take no memory
    x, bias = tensors((1, 3, 64), device, torch.float16)
    rows = far.as_strided((1, 3, 64), (3 * stride, stride, 1))
    rows.copy_(x)
    fused.check(PAIR, [rows, bias], upstream((1, 3, 64), device))


@pytest.mark.filterwarnings("ignore:overflow encountered")  # the interpreter's; 1 / inf is the 0 that is meant
def test_far_from_zero_nothing_overflows(device: str) -> None:
    x = torch.tensor([-1e4, -60.0, -8.0, 8.0, 60.0, 1e4], device=device).reshape(1, 1, 6)
    out, dx, _ = fused.run(bias_gelu_tanh, [x, torch.zeros(6, device=device)], [torch.ones_like(x)])
    assert out.flatten().tolist() == pytest.approx([0, 0, 0, 8, 60, 1e4], abs=1e-12)
    assert dx.flatten().tolist() == pytest.approx([0, 0, 0, 1, 1, 1], abs=1e-12)


def test_no_tokens(device: str) -> None:
    x, bias = (y.requires_grad_() for y in tensors((2, 0, 16), device))
    bias_gelu_tanh(x, bias).sum().backward()
    assert bias.grad is not None and bias.grad.tolist() == [0] * 16


def test_registration(device: str) -> None:
    x, bias = tensors((2, 3, 16), device)
    torch.library.opcheck(ops.bias_gelu_tanh_backward, (x + 1, x, bias))
    torch.library.opcheck(bias_gelu_tanh, (x.requires_grad_(), bias.requires_grad_()))


def test_compiles_as_one_graph(device: str) -> None:
    inputs, grads = tensors((2, 3, 16), device), upstream((2, 3, 16), device)
    compiled = torch.compile(lambda x, bias: bias_gelu_tanh(x, bias), fullgraph=True, backend="aot_eager")
    for ours, plain in zip(fused.run(compiled, inputs, grads), fused.run(bias_gelu_tanh, inputs, grads), strict=True):
        assert torch.equal(ours, plain)


def test_a_cpu_runs_the_reference_and_its_written_out_gradient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    x, bias = (y.double().requires_grad_() for y in tensors((2, 3, 10), "cpu"))
    assert torch.equal(bias_gelu_tanh(x, bias), reference.bias_gelu_tanh(x, bias))
    torch.autograd.gradcheck(bias_gelu_tanh, (x, bias))


def test_a_bias_of_another_width_is_refused(device: str) -> None:
    x, bias = tensors((2, 3, 16), device)
    with pytest.raises(ValueError, match="expected a bias"):
        bias_gelu_tanh(x, bias[:1])


@pytest.mark.gpu
@pytest.mark.parametrize("shape", [(1, 2304, 12288), (2, 1001, 256)], ids=str)
def test_in_bfloat16_and_twice_the_same(shape: tuple[int, int, int], device: str) -> None:
    inputs, grads = tensors(shape, device, torch.bfloat16), upstream(shape, device)
    fused.check(PAIR, inputs, grads)
    first, second = (fused.run(bias_gelu_tanh, inputs, grads) for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))
