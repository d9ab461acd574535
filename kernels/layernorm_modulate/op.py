"""`layernorm_modulate` and `gate_residual_layernorm_modulate` as custom ops, with their gradients.

A transformer block begins each branch with the one and ends a branch with the other. Bytes moved an element in bf16,
all else being small beside it:
    layernorm_modulate                  forward 4 (x; out), backward 6 (dout, x; dx)
    gate_residual_layernorm_modulate    forward 8 (x, y; residual, out), backward 12 (four in; dx, dy)
Kept for the backward pass: inputs, or the residual that was returned; nothing is stored for it alone.

Any strides of B and L do; a tensor whose last stride is not 1 is copied first. Results are contiguous and have the
dtype of x. ValueError where shapes do not fit each other or eps is not positive.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from kernels.layernorm_modulate import reference
from kernels.runtime import config_for, dense_rows, launch, use_kernel


def width_bucket(width: int) -> str:
    """Which settings serve a row of `width` elements."""
    return "narrow" if width <= 256 else "middle" if width <= 1024 else "any"


def constants(width: int) -> dict[str, int]:
    """What else a kernel is compiled for: a row is one tile, however wide it is."""
    return {"D": width, "BLOCK_D": 1 << (width - 1).bit_length()}


@torch.library.custom_op("ziggurat::layernorm_modulate", mutates_args=())
def layernorm_modulate(x_BLD: Tensor, scale_BD: Tensor, shift_BD: Tensor, eps: float = 1e-6) -> Tensor:
    """(1 + scale) * LayerNorm(x) + shift, the norm without weights, statistics in float32: (B, L, D)."""
    _check(eps, x_BLD, x_BLD, scale_BD, shift_BD)
    if not use_kernel(x_BLD):
        return reference.layernorm_modulate(x_BLD, scale_BD, shift_BD, eps).contiguous()
    from kernels.layernorm_modulate import kernel

    x, scale, shift = map(dense_rows, (x_BLD, scale_BD, shift_BD))
    out = torch.empty(x.shape, dtype=x.dtype, device=x.device)
    settings = _settings("layernorm_modulate", x)
    strides = (*x.stride()[:2], scale.stride(0), shift.stride(0))
    arguments = (x, scale, shift, out, x.shape[1], eps, *strides)
    launch(kernel.layernorm_modulate_forward, _grid(x, settings), *arguments, **settings)
    return out


@torch.library.custom_op("ziggurat::layernorm_modulate_backward", mutates_args=())
def layernorm_modulate_backward(
    dout_BLD: Tensor, x_BLD: Tensor, scale_BD: Tensor, eps: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of x, scale and shift."""
    if not use_kernel(x_BLD):
        return _contiguous(reference.layernorm_modulate_backward(dout_BLD, x_BLD, scale_BD, eps))
    from kernels.layernorm_modulate import kernel

    dout, x, scale = map(dense_rows, (dout_BLD, x_BLD, scale_BD))
    dx = torch.empty(x.shape, dtype=x.dtype, device=x.device)
    settings = _settings("layernorm_modulate_backward", x)
    grid = _grid(x, settings)
    partial = _partial(2, grid, x)
    strides = (*dout.stride()[:2], *x.stride()[:2], scale.stride(0))
    arguments = (dout, x, scale, dx, partial, x.shape[1], eps, *strides)
    launch(kernel.layernorm_modulate_backward, grid, *arguments, **settings)
    dscale, dshift = _sums(partial, scale, scale)
    return dx, dscale, dshift


@torch.library.custom_op("ziggurat::gate_residual_layernorm_modulate", mutates_args=())
def gate_residual_layernorm_modulate(
    x_BLD: Tensor, y_BLD: Tensor, gate_BD: Tensor, scale_BD: Tensor, shift_BD: Tensor, eps: float = 1e-6
) -> tuple[Tensor, Tensor]:
    """(x + gate * y, its modulated LayerNorm): the end of one residual branch and the start of the next."""
    _check(eps, x_BLD, y_BLD, gate_BD, scale_BD, shift_BD)
    tensors = (x_BLD, y_BLD, gate_BD, scale_BD, shift_BD)
    if not use_kernel(x_BLD):
        return _contiguous(reference.gate_residual_layernorm_modulate(*tensors, eps))
    from kernels.layernorm_modulate import kernel

    x, y, gate, scale, shift = map(dense_rows, tensors)
    residual = torch.empty(x.shape, dtype=x.dtype, device=x.device)
    out = torch.empty(x.shape, dtype=x.dtype, device=x.device)
    settings = _settings("gate_residual_layernorm_modulate", x)
    strides = (*x.stride()[:2], *y.stride()[:2], gate.stride(0), scale.stride(0), shift.stride(0))
    arguments = (x, y, gate, scale, shift, residual, out, x.shape[1], eps, *strides)
    launch(kernel.gate_residual_layernorm_modulate_forward, _grid(x, settings), *arguments, **settings)
    return residual, out


@torch.library.custom_op("ziggurat::gate_residual_layernorm_modulate_backward", mutates_args=())
def gate_residual_layernorm_modulate_backward(
    dresidual_BLD: Tensor,
    dout_BLD: Tensor,
    residual_BLD: Tensor,
    y_BLD: Tensor,
    gate_BD: Tensor,
    scale_BD: Tensor,
    eps: float,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Gradients of x, y, gate, scale and shift."""
    tensors = (dresidual_BLD, dout_BLD, residual_BLD, y_BLD, gate_BD, scale_BD)
    if not use_kernel(residual_BLD):
        return _contiguous(reference.gate_residual_layernorm_modulate_backward(*tensors, eps))
    from kernels.layernorm_modulate import kernel

    dresidual, dout, residual, y, gate, scale = map(dense_rows, tensors)
    dx = torch.empty(residual.shape, dtype=residual.dtype, device=residual.device)
    dy = torch.empty(y.shape, dtype=y.dtype, device=y.device)
    settings = _settings("gate_residual_layernorm_modulate_backward", residual)
    grid = _grid(residual, settings)
    partial = _partial(3, grid, residual)
    strides = [stride for tensor in (dresidual, dout, residual, y) for stride in tensor.stride()[:2]]
    arguments = (dresidual, dout, residual, y, gate, scale, dx, dy, partial, residual.shape[1], eps)
    strides += [gate.stride(0), scale.stride(0)]
    launch(kernel.gate_residual_layernorm_modulate_backward, grid, *arguments, *strides, **settings)
    dgate, dscale, dshift = _sums(partial, gate, scale, scale)
    return dx, dy, dgate, dscale, dshift


def _check(eps: float, x_BLD: Tensor, y_BLD: Tensor, *vectors_BD: Tensor) -> None:
    """Kernels trust the shapes that they are given, and divide by eps alone in rows that a tile only pads."""
    if eps <= 0:
        raise ValueError(f"eps must be positive, not {eps}")
    batch, _, width = x_BLD.shape
    if x_BLD.shape != y_BLD.shape or any(vector.shape != (batch, width) for vector in vectors_BD):
        shapes = [tuple(tensor.shape) for tensor in (x_BLD, y_BLD, *vectors_BD)]
        raise ValueError(f"expected rows (B, L, D) and modulation (B, D), got {shapes}")


def _settings(op: str, x_BLD: Tensor) -> dict[str, Any]:
    width = x_BLD.shape[2]
    return {**constants(width), **config_for(op, width_bucket(width)).launch()}


def _grid(x_BLD: Tensor, settings: dict[str, Any]) -> tuple[int, int]:
    """Programs along L and along B."""
    tiles = -(-x_BLD.shape[1] // settings["BLOCK_L"])
    return min(tiles, settings["PROGRAMS"]), x_BLD.shape[0]


def _partial(parts: int, grid: tuple[int, int], x_BLD: Tensor) -> Tensor:
    """Room for what every program sums up: (parts, B, programs, D)."""
    return torch.empty((parts, grid[1], grid[0], x_BLD.shape[2]), dtype=torch.float32, device=x_BLD.device)


def _sums(partial: Tensor, *like_BD: Tensor) -> tuple[Tensor, ...]:
    """The sums over all programs, each in the dtype of its vector and with memory of its own."""
    return tuple(total.to(like.dtype, copy=True) for total, like in zip(partial.sum(2), like_BD, strict=True))


def _contiguous(tensors: tuple[Tensor, ...]) -> Any:
    return tuple(tensor.contiguous() for tensor in tensors)


@layernorm_modulate.register_fake
def _(x_BLD: Tensor, scale_BD: Tensor, shift_BD: Tensor, eps: float = 1e-6) -> Tensor:
    return x_BLD.new_empty(x_BLD.shape)


@layernorm_modulate_backward.register_fake
def _(dout_BLD: Tensor, x_BLD: Tensor, scale_BD: Tensor, eps: float) -> tuple[Tensor, ...]:
    return _empty(x_BLD, scale_BD, scale_BD)


@gate_residual_layernorm_modulate.register_fake
def _(
    x_BLD: Tensor, y_BLD: Tensor, gate_BD: Tensor, scale_BD: Tensor, shift_BD: Tensor, eps: float = 1e-6
) -> tuple[Tensor, ...]:
    return _empty(x_BLD, x_BLD)


@gate_residual_layernorm_modulate_backward.register_fake
def _(
    dresidual_BLD: Tensor,
    dout_BLD: Tensor,
    residual_BLD: Tensor,
    y_BLD: Tensor,
    gate_BD: Tensor,
    scale_BD: Tensor,
    eps: float,
) -> tuple[Tensor, ...]:
    return _empty(residual_BLD, y_BLD, gate_BD, scale_BD, scale_BD)


def _empty(*like: Tensor) -> tuple[Tensor, ...]:
    return tuple(tensor.new_empty(tensor.shape) for tensor in like)


def _keep_norm(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    x_BLD, scale_BD, _, ctx.eps = inputs
    ctx.save_for_backward(x_BLD, scale_BD)


def _norm_gradients(ctx: Any, dout_BLD: Tensor) -> tuple[Tensor | None, ...]:
    x_BLD, scale_BD = ctx.saved_tensors
    return *layernorm_modulate_backward(dout_BLD, x_BLD, scale_BD, ctx.eps), None


def _keep_gated(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    _, y_BLD, gate_BD, scale_BD, _, ctx.eps = inputs
    ctx.save_for_backward(output[0], y_BLD, gate_BD, scale_BD)


def _gated_gradients(ctx: Any, dresidual_BLD: Tensor, dout_BLD: Tensor) -> tuple[Tensor | None, ...]:
    residual, y, gate, scale = ctx.saved_tensors
    gradients = gate_residual_layernorm_modulate_backward(dresidual_BLD, dout_BLD, residual, y, gate, scale, ctx.eps)
    return *gradients, None


layernorm_modulate.register_autograd(_norm_gradients, setup_context=_keep_norm)
gate_residual_layernorm_modulate.register_autograd(_gated_gradients, setup_context=_keep_gated)
