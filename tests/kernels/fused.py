"""How the fused ops are measured: outputs and gradients against float64, beside plain torch in the same dtype."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from torch import Tensor

FLOAT32_ERROR = 1e-5
OVER_EAGER = 1.25

Function = Callable[..., Any]


def poison(patch: pytest.MonkeyPatch) -> None:
    """Fill what kernels are to write with NaN, so that whatever they leave out shows."""
    empty = torch.empty
    patch.setattr(torch, "empty", lambda *size, **options: empty(*size, **options).fill_(float("nan")))


def error(got: Tensor, exact: Tensor) -> float:
    """Relative L2 distance."""
    return float((got.detach().double() - exact.detach()).norm() / exact.detach().norm())


def run(function: Function, inputs: Sequence[Tensor], upstream: Sequence[Tensor]) -> list[Tensor]:
    """Outputs, then the gradients of all inputs. Views stay views: the inputs' strides are kept."""
    leaves = [x.detach().requires_grad_() for x in inputs]
    outputs = function(*leaves)
    outputs = [outputs] if isinstance(outputs, Tensor) else list(outputs)
    gradients = torch.autograd.grad(outputs, leaves, [u.to(y) for u, y in zip(upstream, outputs, strict=True)])
    return [*outputs, *gradients]


def check(pair: tuple[Function, Function], inputs: Sequence[Tensor], upstream: Sequence[Tensor]) -> None:
    """An op, of which `pair` is completed by plain torch, must be as near to float64 as the tolerances ask."""
    op, plain = pair
    upstream = [u.to(inputs[0].dtype) for u in upstream]  # its rounding is nobody's error
    exact = run(plain, [x.double() for x in inputs], upstream)
    got, eager = run(op, inputs, upstream), run(plain, inputs, upstream)
    for index, (ours, theirs, right) in enumerate(zip(got, eager, exact, strict=True)):
        assert ours.dtype == theirs.dtype and ours.shape == theirs.shape
        bound = FLOAT32_ERROR if ours.dtype == torch.float32 else OVER_EAGER * error(theirs, right)
        assert error(ours, right) <= bound, f"result {index}: {error(ours, right):.2e} over {bound:.2e}"
