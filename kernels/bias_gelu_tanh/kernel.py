"""GELU(x + bias), tanh form, in Triton. A tile is BLOCK_L tokens by BLOCK_D channels.

The backward kernel gives every program one block of channels and walks over its tokens, PROGRAMS tiles apart; it sums
the gradient of the bias in registers and writes one partial row a program, which `op.py` adds up: no atomics, so equal
inputs give equal bits.

D is a constant of the compilation. Strides count elements; offsets are 64-bit. Tokens of the whole batch are numbered
through: token t is l = t % L of batch entry t // L.
"""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def _share(u):
    """(1 + tanh z) / 2 as a sigmoid, which keeps its precision where tanh z is near -1."""
    z2_over_ln2: tl.constexpr = 2 * 0.7978845608028654 * 1.4426950408889634
    return 1.0 / (1.0 + tl.exp2(-z2_over_ln2 * (u + 0.044715 * u * u * u)))


@triton.jit
def _offsets(token, L, stride_b, stride_l):
    """Where the tokens' rows begin."""
    return (token // L).to(tl.int64) * stride_b + (token % L).to(tl.int64) * stride_l


@triton.jit
def bias_gelu_tanh_forward(
    x, bias, out, tokens, L, x_b, x_l, D: tl.constexpr, BLOCK_L: tl.constexpr, BLOCK_D: tl.constexpr
):
    columns = tl.cdiv(D, BLOCK_D)
    token = (tl.program_id(0) // columns) * BLOCK_L + tl.arange(0, BLOCK_L)[:, None]
    d = (tl.program_id(0) % columns) * BLOCK_D + tl.arange(0, BLOCK_D)
    inside = (token < tokens) & (d < D)[None, :]
    offset = tl.load(bias + d, d < D, 0.0).to(tl.float32)[None, :]
    u = tl.load(x + _offsets(token, L, x_b, x_l) + d[None, :], inside, 0.0).to(tl.float32) + offset
    tl.store(out + token.to(tl.int64) * D + d[None, :], u * _share(u), inside)


@triton.jit
def bias_gelu_tanh_backward(
    dout, x, bias, dx, partial, tokens, L, dout_b, dout_l, x_b, x_l,
    D: tl.constexpr, BLOCK_L: tl.constexpr, BLOCK_D: tl.constexpr, PROGRAMS: tl.constexpr, STAGES: tl.constexpr,
):  # fmt: skip
    d = tl.program_id(0) * BLOCK_D + tl.arange(0, BLOCK_D)
    inside_D = d < D
    offset = tl.load(bias + d, inside_D, 0.0).to(tl.float32)[None, :]
    total = tl.zeros((BLOCK_L, BLOCK_D), tl.float32)
    for tile in tl.range(tl.program_id(1), tl.cdiv(tokens, BLOCK_L), PROGRAMS, num_stages=STAGES):
        token = tile * BLOCK_L + tl.arange(0, BLOCK_L)[:, None]
        inside = (token < tokens) & inside_D[None, :]
        u = tl.load(x + _offsets(token, L, x_b, x_l) + d[None, :], inside, 0.0).to(tl.float32) + offset
        grad = tl.load(dout + _offsets(token, L, dout_b, dout_l) + d[None, :], inside, 0.0).to(tl.float32)
        share = _share(u)
        slope = 0.7978845608028654 * (1 + 3 * 0.044715 * u * u)
        added = grad * (share + 2 * u * share * (1 - share) * slope)
        total += added
        tl.store(dx + token.to(tl.int64) * D + d[None, :], added, inside)
    tl.store(partial + tl.program_id(1).to(tl.int64) * D + d, tl.sum(total, 0), inside_D)
