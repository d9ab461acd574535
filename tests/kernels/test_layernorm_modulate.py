"""Both modulated norms: outputs and gradients, odd widths, strided inputs, registration, and the choice of path."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

pytest.importorskip("torch")

import torch
from torch import Tensor

from kernels.layernorm_modulate import gate_residual_layernorm_modulate, layernorm_modulate, reference
from kernels.layernorm_modulate import op as ops
from tests.kernels import fused

SHAPES = [(2, 5, 48), (1, 130, 64), (2, 33, 130), (1, 3, 3072), (3, 1, 6)]
NORM = (layernorm_modulate, reference.layernorm_modulate)
GATED = (gate_residual_layernorm_modulate, reference.gate_residual_layernorm_modulate)
BOTH = pytest.mark.parametrize("pair", [NORM, GATED], ids=["norm", "gated"])


def tensors(pair: Any, shape: tuple[int, int, int], device: str, dtype: torch.dtype = torch.float32) -> list[Tensor]:
    """Inputs of an op; the modulation is strided, as the chunks of one projection are."""
    batch, _, width = shape
    rows, vectors = (1, 2) if pair is NORM else (2, 3)
    dice = torch.Generator().manual_seed(sum(shape))
    made = [torch.randn(shape, generator=dice) + 0.3 for _ in range(rows)]
    modulation = torch.randn(batch, vectors * width, generator=dice).to(device, dtype)
    return [*(x.to(device, dtype) for x in made), *modulation.chunk(vectors, -1)]


def upstream(pair: Any, shape: tuple[int, int, int], device: str) -> list[Tensor]:
    dice = torch.Generator().manual_seed(1)
    return [torch.randn(shape, generator=dice).to(device) for _ in range(1 if pair is NORM else 2)]


@BOTH
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16], ids=str)
def test_outputs_and_gradients(
    pair: Any, shape: tuple[int, int, int], dtype: torch.dtype, device: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    fused.poison(monkeypatch)
    fused.check(pair, tensors(pair, shape, device, dtype), upstream(pair, shape, device))


@BOTH
def test_strided_rows_are_read_in_place(pair: Any, device: str, monkeypatch: pytest.MonkeyPatch) -> None:
    fused.poison(monkeypatch)
    inputs = tensors(pair, (2, 9, 48), device)
    for index in range(len(inputs) // 2):
        joint = torch.full((2, 14, 60), float("nan"), device=device)
        joint[:, 5:, :48] = inputs[index]
        inputs[index] = joint[:, 5:, :48]
    grads = [u.transpose(0, 1).contiguous().transpose(0, 1) for u in upstream(pair, (2, 9, 48), device)]
    fused.check(pair, inputs, grads)


@BOTH
def test_what_is_strided_in_its_last_dimension_is_copied(pair: Any, device: str) -> None:
    inputs = [x.mT.contiguous().mT for x in tensors(pair, (2, 9, 48), device)]
    ones = [torch.ones(1, device=device).expand(2, 9, 48) for _ in upstream(pair, (2, 9, 48), device)]
    fused.check(pair, inputs, ones)


@BOTH
def test_a_gradient_reaches_only_what_is_asked_for(pair: Any, device: str) -> None:
    inputs = tensors(pair, (1, 4, 16), device)
    inputs[0].requires_grad_()
    outputs = pair[0](*inputs)
    last = outputs if pair is NORM else outputs[1]
    last.square().sum().backward()
    assert inputs[0].grad is not None and all(x.grad is None for x in inputs[1:])


@BOTH
def test_offsets_pass_two_to_the_31(pair: Any, device: str) -> None:
    stride = 2**30 + 16
    far = torch.empty(2 * stride + 64, dtype=torch.float16, device=device)  # pages never touched take no memory
    inputs = tensors(pair, (1, 3, 64), device, torch.float16)
    rows = far.as_strided((1, 3, 64), (3 * stride, stride, 1))
    rows.copy_(inputs[0])
    fused.check(pair, [rows, *inputs[1:]], upstream(pair, (1, 3, 64), device))


@BOTH
def test_no_tokens(pair: Any, device: str) -> None:
    inputs = [x.requires_grad_() for x in tensors(pair, (2, 0, 16), device)]
    outputs = pair[0](*inputs)
    outputs = [outputs] if pair is NORM else outputs
    grads = torch.autograd.grad(outputs, inputs, [torch.ones_like(y) for y in outputs])
    assert [y.shape for y in outputs] == [inputs[0].shape] * len(outputs)
    assert all(bool((grad == 0).all()) for grad in grads)


@BOTH
def test_registration(pair: Any, device: str) -> None:
    inputs = [x.requires_grad_() for x in tensors(pair, (2, 3, 16), device)]
    torch.library.opcheck(pair[0], (*inputs, 1e-6))


def test_registration_of_the_backward_ops(device: str) -> None:
    x, scale, _ = tensors(NORM, (2, 3, 16), device)
    torch.library.opcheck(ops.layernorm_modulate_backward, (x + 1, x, scale, 1e-6))
    x, y, gate, scale, _ = tensors(GATED, (2, 3, 16), device)
    arguments = (x + 1, y + 1, x, y, gate, scale, 1e-6)
    torch.library.opcheck(ops.gate_residual_layernorm_modulate_backward, arguments)


@BOTH
def test_compiles_as_one_graph(pair: Any, device: str) -> None:
    inputs, grads = tensors(pair, (2, 3, 16), device), upstream(pair, (2, 3, 16), device)
    compiled: Callable[..., Any] = torch.compile(lambda *x: pair[0](*x), fullgraph=True, backend="aot_eager")
    for ours, plain in zip(fused.run(compiled, inputs, grads), fused.run(pair[0], inputs, grads), strict=True):
        assert torch.equal(ours, plain)


@BOTH
def test_a_cpu_runs_the_reference_and_its_written_out_gradient(pair: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    inputs = [x.double().requires_grad_() for x in tensors(pair, (2, 3, 10), "cpu")]
    ours, plain = pair[0](*inputs), pair[1](*inputs)
    assert all(torch.equal(a, b) for a, b in zip(ours, plain, strict=True))
    torch.autograd.gradcheck(lambda *x: pair[0](*x, 1e-2), inputs)


@BOTH
def test_eps_reaches_the_kernels(pair: Any, device: str) -> None:
    inputs, grads = tensors(pair, (1, 3, 16), device), upstream(pair, (1, 3, 16), device)
    op, plain = pair
    fused.check((lambda *x: op(*x, 0.5), lambda *x: plain(*x, 0.5)), inputs, grads)


@BOTH
def test_shapes_that_do_not_fit_are_refused(pair: Any, device: str) -> None:
    inputs = tensors(pair, (2, 3, 16), device)
    with pytest.raises(ValueError, match="expected rows"):
        pair[0](*inputs[:-1], inputs[-1][:1])
    with pytest.raises(ValueError, match="eps must be positive"):
        pair[0](*inputs, 0.0)


@pytest.mark.gpu
@BOTH
@pytest.mark.parametrize("shape", [(1, 2304, 3072), (2, 1001, 3072), (4, 517, 64)], ids=str)
def test_in_bfloat16_and_twice_the_same(pair: Any, shape: tuple[int, int, int], device: str) -> None:
    inputs, grads = tensors(pair, shape, device, torch.bfloat16), upstream(pair, shape, device)
    fused.check(pair, inputs, grads)
    first, second = (fused.run(pair[0], inputs, grads) for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))
