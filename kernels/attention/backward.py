"""Backward kernels of attention, in three: delta, then dK and dV by tiles of keys, then dQ by tiles of queries.

With P = exp(S - lse) from the saved log-sum-exp and delta = rowsum(out * dout):
    dV = P^T dO,  dP = dO V^T,  dS = P * (dP - delta),  dQ = scale dS K,  dK = scale dS^T Q
(FlashAttention-2, algorithm 2). Both passes take `lse` and `delta` from outside: over a part of the keys they give
that part's share of the whole softmax's gradient, so shares can be added up, in float32, by the ring. Two kernels
recompute S and dP twice, but every sum has one owner: no atomics, and the same bits each time. One kernel for both
spills.
"""

from __future__ import annotations

import triton
import triton.language as tl

from kernels.attention.tiles import accumulator, at_sequence, bounds, load_rows, store_rows


@triton.jit
def attention_delta(
    out, dout, delta, out_b, out_l, out_h, dout_b, dout_l, dout_h, delta_b, delta_h, heads, q_len,
    D: tl.constexpr, BLOCK_M: tl.constexpr,
):  # fmt: skip
    """rowsum(out * dout) in float32: (B, H, L). Grid (q tiles, batch x heads); packed sequences count as one."""
    batch = tl.program_id(1) // heads
    head = tl.program_id(1) % heads
    row = tl.program_id(0) * BLOCK_M
    out = at_sequence(out, batch, head, 0, out_b, out_l, out_h, False)
    dout = at_sequence(dout, batch, head, 0, dout_b, dout_l, dout_h, False)
    delta = at_sequence(delta, batch, head, 0, delta_b, 1, delta_h, False)
    out_tile = load_rows(out, batch, head, row, q_len, out_l, BLOCK_M, D, False, True).to(tl.float32)
    dout_tile = load_rows(dout, batch, head, row, q_len, dout_l, BLOCK_M, D, False, True).to(tl.float32)
    rows = row + tl.arange(0, BLOCK_M)
    tl.store(delta + rows, tl.sum(out_tile * dout_tile, 1), mask=rows < q_len)


@triton.jit
def attention_backward_kv(
    q, k, v, dout, lse, delta, dk, dv, cu_q, cu_k,
    q_b, q_l, q_h, k_b, k_l, k_h, v_b, v_l, v_h, dout_b, dout_l, dout_h,
    dk_b, dk_l, dk_h, dv_b, dv_l, dv_h, lse_b, lse_h,
    heads, q_len, k_len, scale, scale_log2,
    D: tl.constexpr, BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr,
    TMA: tl.constexpr, PACKED: tl.constexpr, ACCUMULATE: tl.constexpr, RELOAD: tl.constexpr,
):  # fmt: skip
    """dK and dV of BLOCK_N keys of a head, over all its queries. Grid (k tiles, batch x heads).

    Tiles are transposed, (keys, queries), so that P and dS are the left factors of dV and dK as they come. Neither
    tail is masked: keys past the end make rows that are not stored, queries past the end get lse = inf, so P = 0.
    """
    batch = tl.program_id(1) // heads
    head = tl.program_id(1) % heads
    col = tl.program_id(0) * BLOCK_N
    q_start, q_len = bounds(cu_q, batch, q_len, PACKED)
    k_start, k_len = bounds(cu_k, batch, k_len, PACKED)
    if PACKED:
        if col >= k_len:
            return
    q = at_sequence(q, batch, head, q_start, q_b, q_l, q_h, TMA)
    k = at_sequence(k, batch, head, k_start, k_b, k_l, k_h, TMA)
    v = at_sequence(v, batch, head, k_start, v_b, v_l, v_h, TMA)
    dout = at_sequence(dout, batch, head, q_start, dout_b, dout_l, dout_h, TMA)
    lse = at_sequence(lse, batch, head, q_start, lse_b, 1, lse_h, False)
    delta = at_sequence(delta, batch, head, q_start, lse_b, 1, lse_h, False)
    k_tile = load_rows(k, batch, head, col, k_len, k_l, BLOCK_N, D, TMA, True)
    v_tile = load_rows(v, batch, head, col, k_len, v_l, BLOCK_N, D, TMA, True)
    dk = at_sequence(dk, batch, head, k_start, dk_b, dk_l, dk_h, TMA)
    dv = at_sequence(dv, batch, head, k_start, dv_b, dv_l, dv_h, TMA)
    dk_acc = accumulator(dk, batch, head, col, k_len, dk_l, 1 / scale, BLOCK_N, D, TMA, ACCUMULATE)
    dv_acc = accumulator(dv, batch, head, col, k_len, dv_l, 1.0, BLOCK_N, D, TMA, ACCUMULATE)
    for row in tl.range(0, q_len, BLOCK_M):
        if RELOAD:
            k_tile = load_rows(k, batch, head, col, k_len, k_l, BLOCK_N, D, TMA, True, True)
            v_tile = load_rows(v, batch, head, col, k_len, v_l, BLOCK_N, D, TMA, True, True)
        q_tile = load_rows(q, batch, head, row, q_len, q_l, BLOCK_M, D, TMA, True)
        dout_tile = load_rows(dout, batch, head, row, q_len, dout_l, BLOCK_M, D, TMA, True)
        rows = row + tl.arange(0, BLOCK_M)
        lse_log2 = tl.load(lse + rows, mask=rows < q_len, other=float("inf")) * 1.4426950408889634
        delta_row = tl.load(delta + rows, mask=rows < q_len, other=0.0)
        s_t = tl.dot(k_tile, q_tile.T, input_precision="ieee")
        p_t = tl.exp2(s_t * scale_log2 - lse_log2[None, :])
        dv_acc = tl.dot(p_t.to(dout_tile.dtype), dout_tile, dv_acc, input_precision="ieee")
        dp_t = tl.dot(v_tile, dout_tile.T, input_precision="ieee")
        ds_t = p_t * (dp_t - delta_row[None, :])
        dk_acc = tl.dot(ds_t.to(q_tile.dtype), q_tile, dk_acc, input_precision="ieee")
    store_rows(dv, batch, head, col, k_len, dv_l, dv_acc, BLOCK_N, D, TMA)
    store_rows(dk, batch, head, col, k_len, dk_l, dk_acc * scale, BLOCK_N, D, TMA)


@triton.jit
def attention_backward_q(
    q, k, v, dout, lse, delta, dq, cu_q, cu_k,
    q_b, q_l, q_h, k_b, k_l, k_h, v_b, v_l, v_h, dout_b, dout_l, dout_h, dq_b, dq_l, dq_h, lse_b, lse_h,
    heads, q_len, k_len, scale, scale_log2,
    D: tl.constexpr, BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr,
    TMA: tl.constexpr, PACKED: tl.constexpr, ACCUMULATE: tl.constexpr, RELOAD: tl.constexpr,
):  # fmt: skip
    """dQ of BLOCK_M queries of a head, over all its keys. Grid (q tiles, batch x heads)."""
    batch = tl.program_id(1) // heads
    head = tl.program_id(1) % heads
    row = tl.program_id(0) * BLOCK_M
    q_start, q_len = bounds(cu_q, batch, q_len, PACKED)
    k_start, k_len = bounds(cu_k, batch, k_len, PACKED)
    if PACKED:
        if row >= q_len:
            return
    q = at_sequence(q, batch, head, q_start, q_b, q_l, q_h, TMA)
    k = at_sequence(k, batch, head, k_start, k_b, k_l, k_h, TMA)
    v = at_sequence(v, batch, head, k_start, v_b, v_l, v_h, TMA)
    dout = at_sequence(dout, batch, head, q_start, dout_b, dout_l, dout_h, TMA)
    lse = at_sequence(lse, batch, head, q_start, lse_b, 1, lse_h, False)
    delta = at_sequence(delta, batch, head, q_start, lse_b, 1, lse_h, False)
    rows = row + tl.arange(0, BLOCK_M)
    lse_log2 = tl.load(lse + rows, mask=rows < q_len, other=float("inf")) * 1.4426950408889634
    delta_row = tl.load(delta + rows, mask=rows < q_len, other=0.0)
    q_tile = load_rows(q, batch, head, row, q_len, q_l, BLOCK_M, D, TMA, True)
    dout_tile = load_rows(dout, batch, head, row, q_len, dout_l, BLOCK_M, D, TMA, True)
    dq = at_sequence(dq, batch, head, q_start, dq_b, dq_l, dq_h, TMA)
    acc = accumulator(dq, batch, head, row, q_len, dq_l, 1 / scale, BLOCK_M, D, TMA, ACCUMULATE)
    full = k_len // BLOCK_N * BLOCK_N
    for col in tl.range(0, full, BLOCK_N):
        if RELOAD:
            q_tile = load_rows(q, batch, head, row, q_len, q_l, BLOCK_M, D, TMA, True, True)
            dout_tile = load_rows(dout, batch, head, row, q_len, dout_l, BLOCK_M, D, TMA, True, True)
        k_tile = load_rows(k, batch, head, col, k_len, k_l, BLOCK_N, D, TMA, False)
        v_tile = load_rows(v, batch, head, col, k_len, v_l, BLOCK_N, D, TMA, False)
        acc = _add_dq(q_tile, k_tile, v_tile, dout_tile, lse_log2, delta_row, acc, 0, scale_log2, BLOCK_N, False)
    if full < k_len:
        k_tile = load_rows(k, batch, head, full, k_len, k_l, BLOCK_N, D, TMA, True)
        v_tile = load_rows(v, batch, head, full, k_len, v_l, BLOCK_N, D, TMA, True)
        left = k_len - full
        acc = _add_dq(q_tile, k_tile, v_tile, dout_tile, lse_log2, delta_row, acc, left, scale_log2, BLOCK_N, True)
    store_rows(dq, batch, head, row, q_len, dq_l, acc * scale, BLOCK_M, D, TMA)


@triton.jit
def _add_dq(
    q_tile, k_tile, v_tile, dout_tile, lse_log2, delta_row, acc, left, scale_log2,
    BLOCK_N: tl.constexpr, MASK: tl.constexpr,
):  # fmt: skip
    """acc + dS K of one tile of keys. A key past the end is zero but its P may be infinite: hence the mask."""
    s = tl.dot(q_tile, k_tile.T, input_precision="ieee")
    p = tl.exp2(s * scale_log2 - lse_log2[:, None])
    if MASK:
        p = tl.where((tl.arange(0, BLOCK_N) < left)[None, :], p, 0.0)
    dp = tl.dot(dout_tile, v_tile.T, input_precision="ieee")
    ds = p * (dp - delta_row[:, None])
    return tl.dot(ds.to(k_tile.dtype), k_tile, acc, input_precision="ieee")
