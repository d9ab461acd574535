"""What waits on the host comes back as it lay in memory: another order of the same numbers adds up otherwise."""

from __future__ import annotations

from typing import Any

import pytest

torch = pytest.importorskip("torch")

from training.offload import Offload


class _Seen(torch.autograd.Function):
    """Notes the strides of what its backward pass gets."""

    strides: tuple[int, ...] = ()

    @staticmethod
    def forward(ctx: Any, x: Any) -> Any:
        ctx.save_for_backward(x)
        return x.sum()

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        (x,) = ctx.saved_tensors
        _Seen.strides = x.stride()
        return grads[0].expand_as(x)


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 0, 1), (1, 2, 0)])
def test_a_tensor_keeps_its_strides(order: tuple[int, ...]) -> None:
    offload = Offload()
    x = torch.randn(2, 3, 4, requires_grad=True).permute(order)
    with offload.inputs(x):
        y = _Seen.apply(x)
    y.backward()
    assert offload.moved == x.nbytes and _Seen.strides == x.stride()
