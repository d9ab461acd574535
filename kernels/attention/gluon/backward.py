"""Backward kernels of attention in Gluon, the same two parts as `kernels.attention.backward`, by the same formulas.

dK and dV: a consumer has 64 keys and multiplies scores and dP transposed, (keys, queries), so that weights and dS are
left factors in registers and never pass through shared memory. dQ: a consumer has 64 queries. While one consumer
makes dS of its scores, the other one's products keep the tensor cores busy.
"""

from __future__ import annotations

from triton.experimental import gluon
from triton.experimental.gluon import language as gl
from triton.experimental.gluon.language.nvidia.hopper import mbarrier, warpgroup_mma, warpgroup_mma_wait

from kernels.attention.gluon.pipeline import (
    accumulator,
    at_head,
    barriers,
    load,
    load_halves,
    matrix,
    next_place,
    place_of,
    produce,
    ring,
    store_rows,
)


@gluon.jit
def attention_backward_kv(
    q, k, v, dout, lse, delta, dk, dv, dk_b, dk_l, dk_h, dv_b, dv_l, dv_h, lse_b, lse_h,
    sequences, heads, q_len, k_len, scale, scale_log2,
    BLOCK_M: gl.constexpr, BLOCK_N: gl.constexpr, STAGES: gl.constexpr, ACCUMULATE: gl.constexpr,
):  # fmt: skip
    """A program a tile of keys. Descriptors with tiles of BLOCK_M queries and BLOCK_N / 2 keys.

    Queries past the end get lse = inf, so their weights are 0; keys past the end make rows that are not stored. What a
    program would have to keep in mind to go through several tiles does not fit into the registers beside both sums.
    """
    batch, head, col = place_of(gl.program_id(0), heads, k_len, BLOCK_N)
    vector: gl.constexpr = gl.SwizzledSharedLayout(1, 1, 1, [0])
    tiles = (
        ring(k, 2),
        ring(v, 2),
        ring(q, STAGES),
        ring(dout, STAGES),
        gl.allocate_shared_memory(gl.float32, [STAGES, BLOCK_M], vector),
        gl.allocate_shared_memory(gl.float32, [STAGES, BLOCK_M], vector),
    )
    # A place is ready when the copies' bytes have come and the producer has stored lse and delta: two arrivals.
    kv_ready, ready, free = barriers(1, 1), barriers(STAGES, 2), barriers(STAGES, 2)
    lse = at_head(lse, batch, head, lse_b, lse_h)
    delta = at_head(delta, batch, head, lse_b, lse_h)
    dk = at_head(dk, batch, head, dk_b, dk_h)
    dv = at_head(dv, batch, head, dv_b, dv_h)
    common = (tiles, kv_ready, ready, free, dk, dv, dk_l, dv_l, col, q_len, k_len, scale, scale_log2, ACCUMULATE)
    gl.warp_specialize(
        [
            (_consume_kv, (0, common)),
            (_consume_kv, (1, common)),
            (_produce_q, ((q, k, v, dout), tiles, kv_ready, ready, free, lse, delta, batch, head, col, q_len)),
        ],
        [4, 1],
        [240, 24],
    )


@gluon.jit
def _produce_q(sources, tiles, kv_ready, ready, free, lse, delta, batch, head, col, q_len):
    q, k, v, dout = sources
    k_tiles, v_tiles, q_tiles, dout_tiles, lse_rows, delta_rows = tiles
    BLOCK_M: gl.constexpr = q_tiles.shape[3]
    ONE_WARP: gl.constexpr = gl.BlockedLayout([BLOCK_M // 32], [32], [1], [0])
    mbarrier.expect(kv_ready.index(0), 2 * k.block_type.nbytes + 2 * v.block_type.nbytes)
    load_halves(k, batch, head, col, k_tiles, kv_ready.index(0))
    load_halves(v, batch, head, col, v_tiles, kv_ready.index(0))
    stage, phase = 0, 0
    for row in range(0, q_len, BLOCK_M):
        rows = row + gl.arange(0, BLOCK_M, ONE_WARP)
        lse_row = gl.load(lse + rows, mask=rows < q_len, other=float("inf")) * 1.4426950408889634
        delta_row = gl.load(delta + rows, mask=rows < q_len, other=0.0)
        mbarrier.wait(free.index(stage), phase ^ 1)
        mbarrier.expect(ready.index(stage), q.block_type.nbytes + dout.block_type.nbytes)
        load(q, batch, head, row, q_tiles, stage, ready.index(stage))
        load(dout, batch, head, row, dout_tiles, stage, ready.index(stage))
        lse_rows.index(stage).store(lse_row)
        delta_rows.index(stage).store(delta_row)
        mbarrier.arrive(ready.index(stage), count=1)
        stage, phase = next_place(stage, phase, q_tiles.shape[0])


@gluon.jit
def _consume_kv(WHICH: gl.constexpr, common):
    tiles, kv_ready, ready, free, dk, dv, dk_l, dv_l, col, q_len, k_len, scale, scale_log2, ACCUMULATE = common
    k_tiles, v_tiles, q_tiles, dout_tiles, lse_rows, delta_rows = tiles
    ROWS: gl.constexpr = k_tiles.shape[3]
    D: gl.constexpr = k_tiles.shape[4]
    BLOCK_M: gl.constexpr = q_tiles.shape[3]
    STAGES: gl.constexpr = q_tiles.shape[0]
    SCORES: gl.constexpr = gl.NVMMADistributedLayout([3, 0], [4, 1], [16, BLOCK_M, 16])
    SUMS: gl.constexpr = gl.NVMMADistributedLayout([3, 0], [4, 1], [16, D, 16])
    FACTOR: gl.constexpr = gl.DotOperandLayout(0, SUMS, 2)
    QUERIES: gl.constexpr = gl.SliceLayout(0, SCORES)
    k = matrix(k_tiles, WHICH)
    v = matrix(v_tiles, WHICH)
    none = gl.zeros([ROWS, BLOCK_M], gl.float32, SCORES)
    col += WHICH * ROWS
    dk_acc = accumulator(dk, col, k_len, dk_l, 1 / scale, ROWS, D, ACCUMULATE, SUMS)
    dv_acc = accumulator(dv, col, k_len, dv_l, 1.0, ROWS, D, ACCUMULATE, SUMS)
    mbarrier.wait(kv_ready.index(0), 0)
    stage, phase = 0, 0
    for _ in range(0, q_len, BLOCK_M):
        mbarrier.wait(ready.index(stage), phase)
        q = matrix(q_tiles, stage)
        dout = matrix(dout_tiles, stage)
        s = warpgroup_mma(k, q.permute((1, 0)), none, use_acc=False, is_async=True)
        dp = warpgroup_mma(v, dout.permute((1, 0)), none, use_acc=False, is_async=True)
        s = warpgroup_mma_wait(1, deps=[s])
        p = gl.exp2(s * scale_log2 - lse_rows.index(stage).load(QUERIES)[None, :])
        dp, p = warpgroup_mma_wait(0, deps=[dp, p])
        # dS first, whatever the order of use: with dP alive beside both factors the registers do not suffice.
        ds = p * (dp - delta_rows.index(stage).load(QUERIES)[None, :])
        ds = gl.convert_layout(ds.to(q_tiles.dtype), FACTOR)
        weights = gl.convert_layout(p.to(q_tiles.dtype), FACTOR)
        dv_acc = warpgroup_mma(weights, dout, dv_acc, is_async=True)
        dk_acc = warpgroup_mma(ds, q, dk_acc, is_async=True)
        dk_acc, dv_acc = warpgroup_mma_wait(0, deps=[dk_acc, dv_acc])
        mbarrier.arrive(free.index(stage), count=1)
        stage, phase = next_place(stage, phase, STAGES)
    store_rows(dv, col, k_len, dv_l, dv_acc, ROWS, D)
    store_rows(dk, col, k_len, dk_l, dk_acc * scale, ROWS, D)


@gluon.jit
def attention_backward_q(
    q, k, v, dout, lse, delta, dq, dq_b, dq_l, dq_h, lse_b, lse_h,
    sequences, heads, q_len, k_len, scale, scale_log2,
    BLOCK_M: gl.constexpr, BLOCK_N: gl.constexpr, STAGES: gl.constexpr, ACCUMULATE: gl.constexpr,
):  # fmt: skip
    """Any number of programs, each through some tiles of queries. Tiles of BLOCK_M / 2 queries and BLOCK_N keys."""
    tiles = (ring(q, 2), ring(dout, 2), ring(k, STAGES), ring(v, STAGES))
    ready = (barriers(1, 1), barriers(STAGES, 1), barriers(STAGES, 1))
    free = (barriers(1, 2), barriers(STAGES, 2), barriers(STAGES, 2))
    shape = (sequences, heads, q_len, k_len)
    others = (lse, delta, dq, lse_b, lse_h, dq_b, dq_l, dq_h)
    gl.warp_specialize(
        [
            (_consume_q, (0, tiles, ready, free, others, shape, scale, scale_log2, ACCUMULATE)),
            (_consume_q, (1, tiles, ready, free, others, shape, scale, scale_log2, ACCUMULATE)),
            (produce, ((q, dout), k, v, (tiles[0], tiles[1]), tiles[2], tiles[3], ready, free, shape)),
        ],
        [4, 1],
        [240, 24],
    )


@gluon.jit
def _consume_q(WHICH: gl.constexpr, tiles, ready, free, others, shape, scale, scale_log2, ACCUMULATE: gl.constexpr):
    q_tiles, _dout_tiles, k_tiles, _v_tiles = tiles
    q_ready, _k_ready, _v_ready = ready
    q_free, _k_free, _v_free = free
    lse, delta, dq, lse_b, lse_h, dq_b, dq_l, dq_h = others
    sequences, heads, q_len, k_len = shape
    ROWS: gl.constexpr = q_tiles.shape[3]
    D: gl.constexpr = q_tiles.shape[4]
    BLOCK_N: gl.constexpr = k_tiles.shape[3]
    STAGES: gl.constexpr = k_tiles.shape[0]
    SCORES: gl.constexpr = gl.NVMMADistributedLayout([3, 0], [4, 1], [16, BLOCK_N, 16])
    SUMS: gl.constexpr = gl.NVMMADistributedLayout([3, 0], [4, 1], [16, D, 16])
    count = gl.cdiv(k_len, BLOCK_N)
    stage, phase, q_phase = 0, 0, 0
    for number in range(gl.program_id(0), gl.cdiv(q_len, 2 * ROWS) * heads * sequences, gl.num_programs(0)):
        batch, head, row = place_of(number, heads, q_len, 2 * ROWS)
        row += WHICH * ROWS
        rows = row + gl.arange(0, ROWS, gl.SliceLayout(1, SCORES))
        lse_row = gl.load(at_head(lse, batch, head, lse_b, lse_h) + rows, mask=rows < q_len, other=float("inf"))
        delta_row = gl.load(at_head(delta, batch, head, lse_b, lse_h) + rows, mask=rows < q_len, other=0.0)
        dq_head = at_head(dq, batch, head, dq_b, dq_h)
        acc = accumulator(dq_head, row, q_len, dq_l, 1 / scale, ROWS, D, ACCUMULATE, SUMS)
        mbarrier.wait(q_ready.index(0), q_phase)
        q_phase ^= 1
        common = (tiles, ready, free, WHICH, lse_row * 1.4426950408889634, delta_row, scale_log2)
        acc = _add_dq(common, acc, stage, phase, k_len - (count - 1) * BLOCK_N, True)
        stage, phase = next_place(stage, phase, STAGES)
        for _ in range(1, count):
            acc = _add_dq(common, acc, stage, phase, BLOCK_N, False)
            stage, phase = next_place(stage, phase, STAGES)
        mbarrier.arrive(q_free.index(0), count=1)
        store_rows(dq_head, row, q_len, dq_l, acc * scale, ROWS, D)


@gluon.jit
def _add_dq(common, acc, stage, phase, left, MASK: gl.constexpr):
    """acc + dS K of one tile of keys, `left` of which there are. A key past the end may have an infinite weight."""
    tiles, ready, free, WHICH, lse_row, delta_row, scale_log2 = common
    q_tiles, dout_tiles, k_tiles, v_tiles = tiles
    _, k_ready, v_ready = ready
    _, k_free, v_free = free
    ROWS: gl.constexpr = q_tiles.shape[3]
    D: gl.constexpr = q_tiles.shape[4]
    BLOCK_N: gl.constexpr = k_tiles.shape[3]
    SCORES: gl.constexpr = gl.NVMMADistributedLayout([3, 0], [4, 1], [16, BLOCK_N, 16])
    SUMS: gl.constexpr = gl.NVMMADistributedLayout([3, 0], [4, 1], [16, D, 16])
    none = gl.zeros([ROWS, BLOCK_N], gl.float32, SCORES)
    q = matrix(q_tiles, WHICH)
    dout = matrix(dout_tiles, WHICH)
    k = matrix(k_tiles, stage)
    mbarrier.wait(k_ready.index(stage), phase)
    s = warpgroup_mma(q, k.permute((1, 0)), none, use_acc=False, is_async=True)
    mbarrier.wait(v_ready.index(stage), phase)
    dp = warpgroup_mma(dout, matrix(v_tiles, stage).permute((1, 0)), none, use_acc=False, is_async=True)
    s = warpgroup_mma_wait(1, deps=[s])
    if MASK:
        s = gl.where((gl.arange(0, BLOCK_N, gl.SliceLayout(0, SCORES)) < left)[None, :], s, float("-inf"))
    p = gl.exp2(s * scale_log2 - lse_row[:, None])
    dp, p = warpgroup_mma_wait(0, deps=[dp, p])
    mbarrier.arrive(v_free.index(stage), count=1)
    ds = gl.convert_layout((p * (dp - delta_row[:, None])).to(q_tiles.dtype), gl.DotOperandLayout(0, SUMS, 2))
    acc = warpgroup_mma(ds, k, acc, is_async=True)
    acc = warpgroup_mma_wait(0, deps=[acc])
    mbarrier.arrive(k_free.index(stage), count=1)
    return acc
