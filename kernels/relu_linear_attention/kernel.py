"""The Triton kernels of ReLU linear attention: two passes over the positions forward, two backward.

Of a head, with q and k after ReLU, D x N each:

    state     S = v k^T (D x D) and z = sum of k (D), summed over positions in chunks, one partial sum a chunk
    apply     out = S q / a,  a = z^T q + eps
    queries   g = S^T dout;  dq = g / a - z (g . q) / a^2;  dS = dout (q / a)^T;  dz = -sum of q (g . q) / a^2
    keys      dv = dS k;  dk = dS^T v + dz

S and z lie in one matrix of D + 1 rows, z last; dS and dz likewise. Partial sums are added in a fixed order by the
op, so that a result is the same at every run. Sums are in float32. Of bf16 inputs, every product with a float32
matrix is two products on the tensor cores, of its upper and its lower half in bf16: one alone would round as much as
the output does. Of other inputs, products are of float32 in three TF32 terms.
"""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def _relu(x):
    """Zero below zero; NaN stays, that a training run may see it."""
    return tl.where(x < 0, 0, x)


@triton.jit
def _times(wide, exact, acc, DOT: tl.constexpr):
    """acc + wide @ exact, `wide` in float32 and `exact` already in the type of the products."""
    upper = wide.to(DOT)
    acc = tl.dot(upper, exact, acc, input_precision="tf32x3")
    if tl.float32 != DOT:
        acc = tl.dot((wide - upper.to(tl.float32)).to(DOT), exact, acc)
    return acc


@triton.jit
def _head(pointer, index, heads, stride_b, stride_h):
    """Where head `index` of B * H begins."""
    return pointer + (index // heads).to(tl.int64) * stride_b + (index % heads).to(tl.int64) * stride_h


@triton.jit
def _rows(pointer, stride_d, D: tl.constexpr):
    """Pointers to the first position of every channel, as a column. A head may pass 2^31 elements."""
    return pointer + tl.arange(0, D)[:, None].to(tl.int64) * stride_d


@triton.jit
def _store_state(state, matrix, vector, D: tl.constexpr):
    """A matrix and, as its last row, a vector, at the place of this program."""
    at, row = state + tl.program_id(0).to(tl.int64) * ((D + 1) * D), tl.arange(0, D)
    tl.store(at + row[:, None] * D + row[None], matrix)
    tl.store(at + D * D + row, vector)


@triton.jit
def state_kernel(
    k, v, state,
    k_stride_b, k_stride_h, k_stride_d, v_stride_b, v_stride_h, v_stride_d,
    heads, n, chunks,
    D: tl.constexpr, DOT: tl.constexpr, BLOCK_N: tl.constexpr, TILES: tl.constexpr,
):  # fmt: skip
    """One program a head and chunk of TILES * BLOCK_N positions; state: (B * H, chunks, D + 1, D) float32."""
    head, chunk = tl.program_id(0) // chunks, tl.program_id(0) % chunks
    k_rows = _rows(_head(k, head, heads, k_stride_b, k_stride_h), k_stride_d, D)
    v_rows = _rows(_head(v, head, heads, v_stride_b, v_stride_h), v_stride_d, D)
    matrix, vector = tl.zeros((D, D), tl.float32), tl.zeros((D,), tl.float32)
    first = chunk * (TILES * BLOCK_N)
    for start in tl.range(first, tl.minimum(first + TILES * BLOCK_N, n), BLOCK_N):
        at = start + tl.arange(0, BLOCK_N)[None]
        keys = _relu(tl.load(k_rows + at, mask=at < n, other=0.0)).to(DOT)
        values = tl.load(v_rows + at, mask=at < n, other=0.0).to(DOT)
        matrix = tl.dot(values, tl.trans(keys), matrix, input_precision="tf32x3")
        vector += tl.sum(keys.to(tl.float32), 1)
    _store_state(state, matrix, vector, D)


@triton.jit
def apply_kernel(
    q, state, out,
    q_stride_b, q_stride_h, q_stride_d,
    heads, n, chunks, eps,
    D: tl.constexpr, DOT: tl.constexpr, BLOCK_N: tl.constexpr, TILES: tl.constexpr,
):  # fmt: skip
    """state: (B * H, D + 1, D), summed; out: (B, H, D, N), contiguous."""
    head, chunk = tl.program_id(0) // chunks, tl.program_id(0) % chunks
    q_rows = _rows(_head(q, head, heads, q_stride_b, q_stride_h), q_stride_d, D)
    out_rows = _rows(out + head.to(tl.int64) * D * n, n, D)
    row = tl.arange(0, D)
    state += head.to(tl.int64) * ((D + 1) * D)
    matrix = tl.load(state + row[:, None] * D + row[None])
    vector = tl.load(state + D * D + row)
    first = chunk * (TILES * BLOCK_N)
    for start in tl.range(first, tl.minimum(first + TILES * BLOCK_N, n), BLOCK_N):
        at = start + tl.arange(0, BLOCK_N)[None]
        queries = _relu(tl.load(q_rows + at, mask=at < n, other=0.0)).to(DOT)
        above = _times(matrix, queries, tl.zeros((D, BLOCK_N), tl.float32), DOT)
        below = tl.sum(vector[:, None] * queries.to(tl.float32), 0) + eps
        tl.store(out_rows + at, (above / below[None]).to(out.dtype.element_ty), mask=at < n)


@triton.jit
def queries_backward_kernel(
    q, grad, state, grad_q, grad_state,
    q_stride_b, q_stride_h, q_stride_d, grad_stride_b, grad_stride_h, grad_stride_d,
    heads, n, chunks, eps,
    D: tl.constexpr, DOT: tl.constexpr, BLOCK_N: tl.constexpr, TILES: tl.constexpr,
):  # fmt: skip
    """grad: of the output; grad_q: (B, H, D, N), contiguous; grad_state: (B * H, chunks, D + 1, D) float32."""
    head, chunk = tl.program_id(0) // chunks, tl.program_id(0) % chunks
    q_rows = _rows(_head(q, head, heads, q_stride_b, q_stride_h), q_stride_d, D)
    grad_rows = _rows(_head(grad, head, heads, grad_stride_b, grad_stride_h), grad_stride_d, D)
    grad_q_rows = _rows(grad_q + head.to(tl.int64) * D * n, n, D)
    row = tl.arange(0, D)
    state += head.to(tl.int64) * ((D + 1) * D)
    turned = tl.load(state + row[None] * D + row[:, None])
    vector = tl.load(state + D * D + row)
    grad_turned, grad_vector = tl.zeros((D, D), tl.float32), tl.zeros((D,), tl.float32)
    first = chunk * (TILES * BLOCK_N)
    for start in tl.range(first, tl.minimum(first + TILES * BLOCK_N, n), BLOCK_N):
        at = start + tl.arange(0, BLOCK_N)[None]
        inside = start + tl.arange(0, BLOCK_N) < n  # beyond, 0 / 0 would reach the sums where eps is 0
        queries = _relu(tl.load(q_rows + at, mask=at < n, other=0.0)).to(tl.float32)
        given = tl.load(grad_rows + at, mask=at < n, other=0.0).to(DOT)
        below = tl.where(inside, tl.sum(vector[:, None] * queries, 0) + eps, 1.0)
        pulled = _times(turned, given, tl.zeros((D, BLOCK_N), tl.float32), DOT)
        pull = -tl.sum(pulled * queries, 0) / below / below
        slope = tl.where(queries <= 0, 0.0, pulled / below[None] + vector[:, None] * pull[None])
        tl.store(grad_q_rows + at, slope.to(grad_q.dtype.element_ty), mask=at < n)
        grad_turned = _times(queries / below[None], tl.trans(given), grad_turned, DOT)
        grad_vector += tl.sum(queries * pull[None], 1)
    _store_state(grad_state, tl.trans(grad_turned), grad_vector, D)


@triton.jit
def keys_backward_kernel(
    k, v, grad_state, grad_k, grad_v,
    k_stride_b, k_stride_h, k_stride_d, v_stride_b, v_stride_h, v_stride_d,
    heads, n, chunks,
    D: tl.constexpr, DOT: tl.constexpr, BLOCK_N: tl.constexpr, TILES: tl.constexpr,
):  # fmt: skip
    """grad_state: (B * H, D + 1, D), summed; grad_k, grad_v: (B, H, D, N), contiguous."""
    head, chunk = tl.program_id(0) // chunks, tl.program_id(0) % chunks
    k_rows = _rows(_head(k, head, heads, k_stride_b, k_stride_h), k_stride_d, D)
    v_rows = _rows(_head(v, head, heads, v_stride_b, v_stride_h), v_stride_d, D)
    grad_k_rows = _rows(grad_k + head.to(tl.int64) * D * n, n, D)
    grad_v_rows = _rows(grad_v + head.to(tl.int64) * D * n, n, D)
    row = tl.arange(0, D)
    grad_state += head.to(tl.int64) * ((D + 1) * D)
    matrix = tl.load(grad_state + row[:, None] * D + row[None])
    turned = tl.load(grad_state + row[None] * D + row[:, None])
    vector = tl.load(grad_state + D * D + row)
    first = chunk * (TILES * BLOCK_N)
    for start in tl.range(first, tl.minimum(first + TILES * BLOCK_N, n), BLOCK_N):
        at = start + tl.arange(0, BLOCK_N)[None]
        keys = _relu(tl.load(k_rows + at, mask=at < n, other=0.0)).to(DOT)
        values = tl.load(v_rows + at, mask=at < n, other=0.0).to(DOT)
        slope_v = _times(matrix, keys, tl.zeros((D, BLOCK_N), tl.float32), DOT)
        slope_k = _times(turned, values, tl.zeros((D, BLOCK_N), tl.float32), DOT) + vector[:, None]
        slope_k = tl.where(keys <= 0, 0.0, slope_k)
        tl.store(grad_v_rows + at, slope_v.to(grad_v.dtype.element_ty), mask=at < n)
        tl.store(grad_k_rows + at, slope_k.to(grad_k.dtype.element_ty), mask=at < n)
