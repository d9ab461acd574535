"""Forward kernel of attention: softmax over tiles of keys as they pass, with the running maximum and sum.

One program makes BLOCK_M rows of one head. Programs of a head follow each other, so that its keys and values stay in
the L2 cache at long sequences. Powers are of 2, the scale folded in: exp2(s * scale * log2(e) - m) is one fused
multiply-add and one instruction. Only the last tile of keys, when it is not full, is masked.
"""

from __future__ import annotations

import triton
import triton.language as tl

from kernels.attention.tiles import at_sequence, bounds, load_rows, store_rows


@triton.jit
def attention_forward(
    q, k, v, out, lse, cu_q, cu_k,
    q_b, q_l, q_h, k_b, k_l, k_h, v_b, v_l, v_h, out_b, out_l, out_h, lse_b, lse_h,
    heads, q_len, k_len, scale_log2,
    D: tl.constexpr, BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr,
    TMA: tl.constexpr, PACKED: tl.constexpr, RELOAD: tl.constexpr,
):  # fmt: skip
    """Grid (q tiles, batch x heads). `x_b, x_l, x_h`: strides. Packed: `q_len`, `k_len` are not read."""
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
    q_tile = load_rows(q, batch, head, row, q_len, q_l, BLOCK_M, D, TMA, True)
    top = tl.full([BLOCK_M], float("-inf"), tl.float32)
    total = tl.zeros([BLOCK_M], tl.float32)
    acc = tl.zeros([BLOCK_M, D], tl.float32)
    full = k_len // BLOCK_N * BLOCK_N
    for col in tl.range(0, full, BLOCK_N):
        if RELOAD:
            q_tile = load_rows(q, batch, head, row, q_len, q_l, BLOCK_M, D, TMA, True, True)
        k_tile = load_rows(k, batch, head, col, k_len, k_l, BLOCK_N, D, TMA, False)
        v_tile = load_rows(v, batch, head, col, k_len, v_l, BLOCK_N, D, TMA, False)
        acc, top, total = _attend(q_tile, k_tile, v_tile, acc, top, total, k_len - col, scale_log2, BLOCK_N, False)
    if full < k_len:
        k_tile = load_rows(k, batch, head, full, k_len, k_l, BLOCK_N, D, TMA, True)
        v_tile = load_rows(v, batch, head, full, k_len, v_l, BLOCK_N, D, TMA, True)
        acc, top, total = _attend(q_tile, k_tile, v_tile, acc, top, total, k_len - full, scale_log2, BLOCK_N, True)
    # Without keys the sum is 0: the output is 0 then, and the log-sum-exp stays -inf.
    safe = tl.where(total == 0.0, 1.0, total)
    out = at_sequence(out, batch, head, q_start, out_b, out_l, out_h, TMA)
    store_rows(out, batch, head, row, q_len, out_l, acc / safe[:, None], BLOCK_M, D, TMA)
    rows = row + tl.arange(0, BLOCK_M)
    lse = at_sequence(lse, batch, head, q_start, lse_b, 1, lse_h, False)
    tl.store(lse + rows, (top + tl.log2(safe)) * 0.6931471805599453, mask=rows < q_len)


@triton.jit
def _attend(q_tile, k_tile, v_tile, acc, top, total, left, scale_log2, BLOCK_N: tl.constexpr, MASK: tl.constexpr):
    """One tile of keys. `top`, `total`: running maximum (times log2 e) and sum of a row; `left`: keys still to come."""
    s = tl.dot(q_tile, k_tile.T, input_precision="ieee")
    if MASK:
        s = tl.where((tl.arange(0, BLOCK_N) < left)[None, :], s, float("-inf"))
    new_top = tl.maximum(top, tl.max(s, 1) * scale_log2)
    p = tl.exp2(s * scale_log2 - new_top[:, None])
    shrink = tl.exp2(top - new_top)
    total = total * shrink + tl.sum(p, 1)
    acc = tl.dot(p.to(v_tile.dtype), v_tile, acc * shrink[:, None], input_precision="ieee")
    return acc, new_top, total
