"""Modulated LayerNorm in Triton: two forward kernels and their backward kernels, one read of every tensor each.

A program keeps the modulation of one batch entry in registers and walks over tiles of BLOCK_L whole rows, PROGRAMS
tiles apart. The backward kernels compute mean and rstd again, as the row is at hand; saved statistics would only add
reads. Gradients of the modulation are summed over a program's rows in registers and written as one partial row a
program, which `op.py` adds up: no atomics, so equal inputs give equal bits.

D is a constant of the compilation. Sizes and strides count elements; offsets are 64-bit.
"""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def _normalize(x, inside, D: tl.constexpr, eps):
    """LayerNorm of every row of a float32 tile, zero outside, and 1 / its deviation."""
    mean = tl.sum(x, 1, keep_dims=True) / D
    centered = tl.where(inside, x - mean, 0.0)
    rstd = tl.rsqrt(tl.sum(centered * centered, 1, keep_dims=True) / D + eps)
    return centered * rstd, rstd


@triton.jit
def _normalize_backward(dnormed, normed, rstd, D: tl.constexpr):
    """Gradient of the tile that `_normalize` took."""
    mean = tl.sum(dnormed, 1, keep_dims=True) / D
    along = tl.sum(dnormed * normed, 1, keep_dims=True) / D
    return rstd * (dnormed - mean - normed * along)


@triton.jit
def _vector(pointer, b, stride, d, inside_D):
    """One batch entry of a (B, D) tensor as a float32 row."""
    return tl.load(pointer + b * stride + d, inside_D, 0.0).to(tl.float32)[None, :]


@triton.jit
def _store_partial(partial, which, total, d, inside_D, D: tl.constexpr):
    """Write a program's sum over its rows into `partial` (parts, B, programs, D)."""
    row = (which * tl.num_programs(1) + tl.program_id(1)).to(tl.int64) * tl.num_programs(0) + tl.program_id(0)
    tl.store(partial + row * D + d, tl.sum(total, 0), inside_D)


@triton.jit
def layernorm_modulate_forward(
    x, scale, shift, out, L, eps, x_b, x_l, scale_b, shift_b,
    D: tl.constexpr, BLOCK_D: tl.constexpr, BLOCK_L: tl.constexpr, PROGRAMS: tl.constexpr, STAGES: tl.constexpr,
):  # fmt: skip
    b = tl.program_id(1).to(tl.int64)
    d = tl.arange(0, BLOCK_D)
    inside_D = d < D
    gain = 1.0 + _vector(scale, b, scale_b, d, inside_D)
    offset = _vector(shift, b, shift_b, d, inside_D)
    for tile in tl.range(tl.program_id(0), tl.cdiv(L, BLOCK_L), PROGRAMS, num_stages=STAGES):
        l = (tile * BLOCK_L + tl.arange(0, BLOCK_L)).to(tl.int64)[:, None]
        inside = (l < L) & inside_D[None, :]
        rows = tl.load(x + b * x_b + l * x_l + d[None, :], inside, 0.0).to(tl.float32)
        normed, _ = _normalize(rows, inside, D, eps)
        tl.store(out + (b * L + l) * D + d[None, :], normed * gain + offset, inside)


@triton.jit
def layernorm_modulate_backward(
    dout, x, scale, dx, partial, L, eps, dout_b, dout_l, x_b, x_l, scale_b,
    D: tl.constexpr, BLOCK_D: tl.constexpr, BLOCK_L: tl.constexpr, PROGRAMS: tl.constexpr, STAGES: tl.constexpr,
):  # fmt: skip
    b = tl.program_id(1).to(tl.int64)
    d = tl.arange(0, BLOCK_D)
    inside_D = d < D
    gain = 1.0 + _vector(scale, b, scale_b, d, inside_D)
    dscale = tl.zeros((BLOCK_L, BLOCK_D), tl.float32)
    dshift = tl.zeros((BLOCK_L, BLOCK_D), tl.float32)
    for tile in tl.range(tl.program_id(0), tl.cdiv(L, BLOCK_L), PROGRAMS, num_stages=STAGES):
        l = (tile * BLOCK_L + tl.arange(0, BLOCK_L)).to(tl.int64)[:, None]
        inside = (l < L) & inside_D[None, :]
        rows = tl.load(x + b * x_b + l * x_l + d[None, :], inside, 0.0).to(tl.float32)
        grad = tl.load(dout + b * dout_b + l * dout_l + d[None, :], inside, 0.0).to(tl.float32)
        normed, rstd = _normalize(rows, inside, D, eps)
        dscale += grad * normed
        dshift += grad
        tl.store(dx + (b * L + l) * D + d[None, :], _normalize_backward(grad * gain, normed, rstd, D), inside)
    _store_partial(partial, 0, dscale, d, inside_D, D)
    _store_partial(partial, 1, dshift, d, inside_D, D)


@triton.jit
def gate_residual_layernorm_modulate_forward(
    x, y, gate, scale, shift, residual, out, L, eps, x_b, x_l, y_b, y_l, gate_b, scale_b, shift_b,
    D: tl.constexpr, BLOCK_D: tl.constexpr, BLOCK_L: tl.constexpr, PROGRAMS: tl.constexpr, STAGES: tl.constexpr,
):  # fmt: skip
    b = tl.program_id(1).to(tl.int64)
    d = tl.arange(0, BLOCK_D)
    inside_D = d < D
    weight = _vector(gate, b, gate_b, d, inside_D)
    gain = 1.0 + _vector(scale, b, scale_b, d, inside_D)
    offset = _vector(shift, b, shift_b, d, inside_D)
    for tile in tl.range(tl.program_id(0), tl.cdiv(L, BLOCK_L), PROGRAMS, num_stages=STAGES):
        l = (tile * BLOCK_L + tl.arange(0, BLOCK_L)).to(tl.int64)[:, None]
        inside = (l < L) & inside_D[None, :]
        branch = tl.load(y + b * y_b + l * y_l + d[None, :], inside, 0.0).to(tl.float32)
        rows = tl.load(x + b * x_b + l * x_l + d[None, :], inside, 0.0).to(tl.float32) + weight * branch
        # The norm is that of the rounded residual: it is what the backward pass has to compute it from.
        rounded = rows.to(residual.dtype.element_ty)
        tl.store(residual + (b * L + l) * D + d[None, :], rounded, inside)
        normed, _ = _normalize(rounded.to(tl.float32), inside, D, eps)
        tl.store(out + (b * L + l) * D + d[None, :], normed * gain + offset, inside)


@triton.jit
def gate_residual_layernorm_modulate_backward(
    dresidual, dout, residual, y, gate, scale, dx, dy, partial, L, eps,
    dresidual_b, dresidual_l, dout_b, dout_l, residual_b, residual_l, y_b, y_l, gate_b, scale_b,
    D: tl.constexpr, BLOCK_D: tl.constexpr, BLOCK_L: tl.constexpr, PROGRAMS: tl.constexpr, STAGES: tl.constexpr,
):  # fmt: skip
    b = tl.program_id(1).to(tl.int64)
    d = tl.arange(0, BLOCK_D)
    inside_D = d < D
    weight = _vector(gate, b, gate_b, d, inside_D)
    gain = 1.0 + _vector(scale, b, scale_b, d, inside_D)
    dgate = tl.zeros((BLOCK_L, BLOCK_D), tl.float32)
    dscale = tl.zeros((BLOCK_L, BLOCK_D), tl.float32)
    dshift = tl.zeros((BLOCK_L, BLOCK_D), tl.float32)
    for tile in tl.range(tl.program_id(0), tl.cdiv(L, BLOCK_L), PROGRAMS, num_stages=STAGES):
        l = (tile * BLOCK_L + tl.arange(0, BLOCK_L)).to(tl.int64)[:, None]
        inside = (l < L) & inside_D[None, :]
        rows = tl.load(residual + b * residual_b + l * residual_l + d[None, :], inside, 0.0).to(tl.float32)
        grad = tl.load(dout + b * dout_b + l * dout_l + d[None, :], inside, 0.0).to(tl.float32)
        beside = tl.load(dresidual + b * dresidual_b + l * dresidual_l + d[None, :], inside, 0.0).to(tl.float32)
        branch = tl.load(y + b * y_b + l * y_l + d[None, :], inside, 0.0).to(tl.float32)
        normed, rstd = _normalize(rows, inside, D, eps)
        dscale += grad * normed
        dshift += grad
        both = beside + _normalize_backward(grad * gain, normed, rstd, D)
        dgate += both * branch
        tl.store(dx + (b * L + l) * D + d[None, :], both, inside)
        tl.store(dy + (b * L + l) * D + d[None, :], both * weight, inside)
    _store_partial(partial, 0, dgate, d, inside_D, D)
    _store_partial(partial, 1, dscale, d, inside_D, D)
    _store_partial(partial, 2, dshift, d, inside_D, D)
