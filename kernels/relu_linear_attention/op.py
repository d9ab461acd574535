"""The ReLU linear attention op, with its gradient: the kernels on a GPU, the reference on a CPU."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from kernels.relu_linear_attention import reference
from kernels.runtime import config_for, dense_rows, interpreting, launch, use_kernel

HEAD_DIM = 32
"""EfficientViT has no other, and the tiles are chosen for it."""


def relu_linear_attention(q_BHDN: Tensor, k_BHDN: Tensor, v_BHDN: Tensor, eps: float = 1e-15) -> Tensor:
    """(v k^T) q / (sum(k)^T q + eps) after ReLU on q and k: (B, H, D, N), positions last, in float32 inside.

    bf16, fp16 or fp32. q, k and v may have any strides but one along N (views of one projection); where N has
    another, that tensor is copied. Between forward and backward only q, k, v and a matrix a head are kept.
    """
    if not use_kernel(q_BHDN):
        return reference.relu_linear_attention(q_BHDN, k_BHDN, v_BHDN, eps)
    assert q_BHDN.shape == k_BHDN.shape == v_BHDN.shape and q_BHDN.dtype == k_BHDN.dtype == v_BHDN.dtype
    assert q_BHDN.shape[2] == HEAD_DIM, f"head dimension {q_BHDN.shape[2]}; the kernels have {HEAD_DIM}"
    assert q_BHDN.dtype in (torch.bfloat16, torch.float16, torch.float32)
    return _forward(q_BHDN, k_BHDN, v_BHDN, eps)[0]


def bucket(q_BHDN: Tensor) -> str:
    """Whose settings serve these heads: by their positions in bf16, one for all in a wider type."""
    if q_BHDN.dtype != torch.bfloat16:
        return "fp32"
    positions = q_BHDN.shape[3]
    return "short" if positions <= 4096 else "medium" if positions <= 65536 else "long"


@torch.library.custom_op("ziggurat::relu_linear_attention", mutates_args=())
def _forward(q: Tensor, k: Tensor, v: Tensor, eps: float) -> tuple[Tensor, Tensor]:
    """The output, and the state of every head: (B * H, D + 1, D) float32."""
    from kernels.relu_linear_attention import kernel

    q, k, v = dense_rows(q), dense_rows(k), dense_rows(v)
    start = _Launch(q, "relu_linear_attention")
    out, partial = _like(q), start.new_state()
    start(kernel.state_kernel, k, v, partial, *_strides(k), *_strides(v))
    state = partial.sum(1)
    start(kernel.apply_kernel, q, state, out, *_strides(q), eps=eps)
    return out, state


@torch.library.custom_op("ziggurat::relu_linear_attention_backward", mutates_args=())
def _backward(
    grad: Tensor, q: Tensor, k: Tensor, v: Tensor, state: Tensor, eps: float
) -> tuple[Tensor, Tensor, Tensor]:
    from kernels.relu_linear_attention import kernel

    grad, q, k, v = (dense_rows(x) for x in (grad, q, k, v))
    start = _Launch(q, "relu_linear_attention_backward")
    grad_q, grad_k, grad_v, partial = _like(q), _like(q), _like(q), start.new_state()
    start(kernel.queries_backward_kernel, q, grad, state, grad_q, partial, *_strides(q), *_strides(grad), eps=eps)
    start(kernel.keys_backward_kernel, k, v, partial.sum(1), grad_k, grad_v, *_strides(k), *_strides(v))
    return grad_q, grad_k, grad_v


class _Launch:
    """Starts kernels of one direction: one program a head and chunk of its positions."""

    def __init__(self, q_BHDN: Tensor, op: str) -> None:
        import triton
        import triton.language as tl

        batch, heads, self._width, n = q_BHDN.shape
        config = config_for(op, bucket(q_BHDN))
        self._chunks = triton.cdiv(n, config.blocks["BLOCK_N"] * config.blocks["TILES"])
        self._heads, self._device = batch * heads, q_BHDN.device
        exact = tl.bfloat16 if q_BHDN.dtype == torch.bfloat16 and not interpreting() else tl.float32
        sizes = {"heads": heads, "n": n, "chunks": self._chunks, "D": self._width, "DOT": exact}
        self._arguments = {**sizes, **config.launch()}

    def __call__(self, kernel: Any, *arguments: Tensor | int, **more: float) -> None:
        launch(kernel, (self._heads * self._chunks,), *arguments, **more, **self._arguments)

    def new_state(self) -> Tensor:
        """Room for a partial state of every head and chunk."""
        shape = (self._heads, self._chunks, self._width + 1, self._width)
        return torch.empty(shape, dtype=torch.float32, device=self._device)


def _strides(x: Tensor) -> tuple[int, int, int]:
    return x.stride(0), x.stride(1), x.stride(2)


def _like(x: Tensor) -> Tensor:
    """Contiguous, whatever the strides of `x`."""
    return torch.empty(x.shape, dtype=x.dtype, device=x.device)


@_forward.register_fake
def _(q: Tensor, k: Tensor, v: Tensor, eps: float) -> tuple[Tensor, Tensor]:
    batch, heads, width, _ = q.shape
    state = torch.empty((batch * heads, width + 1, width), dtype=torch.float32, device=q.device)
    return _like(q), state


@_backward.register_fake
def _(grad: Tensor, q: Tensor, k: Tensor, v: Tensor, state: Tensor, eps: float) -> tuple[Tensor, Tensor, Tensor]:
    return _like(q), _like(q), _like(q)


def _keep(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    *tensors, ctx.eps = inputs
    ctx.save_for_backward(*tensors, output[1])


def _gradients(ctx: Any, grad: Tensor, _: Tensor | None) -> tuple[Tensor, Tensor, Tensor, None]:
    q, k, v, state = ctx.saved_tensors
    return *_backward(grad, q, k, v, state, ctx.eps), None


_forward.register_autograd(_gradients, setup_context=_keep)
