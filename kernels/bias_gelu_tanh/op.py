"""`bias_gelu_tanh` as a custom op with its gradient: what stands between the two linear layers of an MLP.

Bytes moved an element in bf16: forward 4 (x; out), backward 6 (gradient, x; gradient of x). Kept for the backward
pass: the inputs.

Any strides of B and L do; a tensor whose last stride is not 1 is copied first. The result is contiguous and has the
dtype of x.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from kernels.bias_gelu_tanh import reference
from kernels.runtime import config_for, dense_rows, launch, use_kernel


@torch.library.custom_op("ziggurat::bias_gelu_tanh", mutates_args=())
def bias_gelu_tanh(x_BLD: Tensor, bias_D: Tensor) -> Tensor:
    """GELU(x + bias), tanh form, in float32 inside: (B, L, D). ValueError where the bias is not (D,)."""
    batch, tokens, width = x_BLD.shape
    if bias_D.shape != (width,):
        raise ValueError(f"expected a bias ({width},), got {tuple(bias_D.shape)}")
    if not use_kernel(x_BLD):
        return reference.bias_gelu_tanh(x_BLD, bias_D).contiguous()
    from kernels.bias_gelu_tanh import kernel

    x = dense_rows(x_BLD)
    out = torch.empty(x.shape, dtype=x.dtype, device=x.device)
    settings = {"D": width, **config_for("bias_gelu_tanh", "any").launch()}
    rows, columns = _tiles(x, settings)
    arguments = (x, dense_rows(bias_D), out, batch * tokens, tokens, *x.stride()[:2])
    launch(kernel.bias_gelu_tanh_forward, (rows * columns,), *arguments, **settings)
    return out


@torch.library.custom_op("ziggurat::bias_gelu_tanh_backward", mutates_args=())
def bias_gelu_tanh_backward(dout_BLD: Tensor, x_BLD: Tensor, bias_D: Tensor) -> tuple[Tensor, Tensor]:
    """Gradients of x and of the bias."""
    if not use_kernel(x_BLD):
        dx, dbias = reference.bias_gelu_tanh_backward(dout_BLD, x_BLD, bias_D)
        return dx.contiguous(), dbias
    from kernels.bias_gelu_tanh import kernel

    batch, tokens, width = x_BLD.shape
    dout, x = dense_rows(dout_BLD), dense_rows(x_BLD)
    dx = torch.empty(x.shape, dtype=x.dtype, device=x.device)
    settings = {"D": width, **config_for("bias_gelu_tanh_backward", "any").launch()}
    rows, columns = _tiles(x, settings)
    programs = min(rows, settings["PROGRAMS"])
    partial = torch.empty((programs, width), dtype=torch.float32, device=x.device)
    strides = (*dout.stride()[:2], *x.stride()[:2])
    arguments = (dout, x, dense_rows(bias_D), dx, partial, batch * tokens, tokens, *strides)
    launch(kernel.bias_gelu_tanh_backward, (columns, programs), *arguments, **settings)
    return dx, partial.sum(0).to(bias_D.dtype)


def _tiles(x_BLD: Tensor, settings: dict[str, Any]) -> tuple[int, int]:
    """Tiles along the tokens of the whole batch and along D."""
    batch, tokens, width = x_BLD.shape
    return -(-batch * tokens // settings["BLOCK_L"]), -(-width // settings["BLOCK_D"])


@bias_gelu_tanh.register_fake
def _(x_BLD: Tensor, bias_D: Tensor) -> Tensor:
    return x_BLD.new_empty(x_BLD.shape)


@bias_gelu_tanh_backward.register_fake
def _(dout_BLD: Tensor, x_BLD: Tensor, bias_D: Tensor) -> tuple[Tensor, Tensor]:
    return x_BLD.new_empty(x_BLD.shape), bias_D.new_empty(bias_D.shape)


def _keep(ctx: Any, inputs: tuple[Tensor, Tensor], output: Tensor) -> None:
    ctx.save_for_backward(*inputs)


def _gradients(ctx: Any, dout_BLD: Tensor) -> tuple[Tensor, Tensor]:
    return bias_gelu_tanh_backward(dout_BLD, *ctx.saved_tensors)


bias_gelu_tanh.register_autograd(_gradients, setup_context=_keep)
