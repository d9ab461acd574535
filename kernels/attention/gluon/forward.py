"""Forward kernel of attention in Gluon: FlashAttention-3's schedule (Shah et al., 2024, algorithm 2).

A consumer has 64 queries. While the product of the last weights with their values runs, it turns the scores of the
next keys into weights; and the two consumers take turns at issuing products (`PINGPONG`), so that one exponentiates
while the other multiplies. Tiles of keys go from last to first: the one that may be masked is not in the loop. A
program goes through tiles of queries, and the producer is already at the next one while this one is written.
"""

from __future__ import annotations

from triton.experimental import gluon
from triton.experimental.gluon import language as gl
from triton.experimental.gluon.language.nvidia.hopper import mbarrier, warpgroup_mma, warpgroup_mma_wait

from kernels.attention.gluon.pipeline import (
    at_head,
    barriers,
    matrix,
    next_place,
    place_of,
    produce,
    ring,
    store_rows,
)


@gluon.jit
def attention_forward(
    q, k, v, out, lse, out_b, out_l, out_h, lse_b, lse_h, sequences, heads, q_len, k_len, scale_log2,
    BLOCK_M: gl.constexpr, BLOCK_N: gl.constexpr, STAGES: gl.constexpr, PINGPONG: gl.constexpr,
):  # fmt: skip
    """Any number of programs, each through some tiles of queries. There is at least one key: none has no descriptor.

    q, k, v: descriptors of (B, H, L, D) with tiles of BLOCK_M / 2 and BLOCK_N rows.
    """
    tiles = (ring(q, 2), ring(k, STAGES), ring(v, STAGES))
    ready = (barriers(1, 1), barriers(STAGES, 1), barriers(STAGES, 1))
    free = (barriers(1, 2), barriers(STAGES, 2), barriers(STAGES, 2))
    turns = barriers(2, 1)
    if PINGPONG:
        mbarrier.arrive(turns.index(0), count=1)
    shape = (sequences, heads, q_len, k_len)
    written = (out, lse, out_b, out_l, out_h, lse_b, lse_h)
    gl.warp_specialize(
        [
            (_consume, (0, tiles, ready, free, turns, written, shape, scale_log2, PINGPONG)),
            (_consume, (1, tiles, ready, free, turns, written, shape, scale_log2, PINGPONG)),
            (produce, ((q,), k, v, (tiles[0],), tiles[1], tiles[2], ready, free, shape)),
        ],
        [4, 1],
        [240, 24],
    )


@gluon.jit
def _consume(WHICH: gl.constexpr, tiles, ready, free, turns, written, shape, scale_log2, PINGPONG: gl.constexpr):
    q_tiles, k_tiles, v_tiles = tiles
    q_ready, k_ready, v_ready = ready
    q_free, k_free, v_free = free
    out, lse, out_b, out_l, out_h, lse_b, lse_h = written
    sequences, heads, q_len, k_len = shape
    ROWS: gl.constexpr = q_tiles.shape[3]
    D: gl.constexpr = q_tiles.shape[4]
    BLOCK_N: gl.constexpr = k_tiles.shape[3]
    STAGES: gl.constexpr = k_tiles.shape[0]
    SCORES: gl.constexpr = gl.NVMMADistributedLayout([3, 0], [4, 1], [16, BLOCK_N, 16])
    SUMS: gl.constexpr = gl.NVMMADistributedLayout([3, 0], [4, 1], [16, D, 16])
    WEIGHTS: gl.constexpr = gl.DotOperandLayout(0, SUMS, 2)
    q = matrix(q_tiles, WHICH)
    none = gl.zeros([ROWS, BLOCK_N], gl.float32, SCORES)
    count = gl.cdiv(k_len, BLOCK_N)
    stage, phase, q_phase, turn = 0, 0, 0, 0
    for number in range(gl.program_id(0), gl.cdiv(q_len, 2 * ROWS) * heads * sequences, gl.num_programs(0)):
        mbarrier.wait(q_ready.index(0), q_phase)
        q_phase ^= 1
        mbarrier.wait(k_ready.index(stage), phase)
        s = warpgroup_mma(q, matrix(k_tiles, stage).permute((1, 0)), none, use_acc=False, is_async=True)
        s = warpgroup_mma_wait(0, deps=[s])
        mbarrier.arrive(k_free.index(stage), count=1)
        keys = (count - 1) * BLOCK_N + gl.arange(0, BLOCK_N, gl.SliceLayout(0, SCORES))
        s = gl.where((keys < k_len)[None, :], s, float("-inf"))
        top = gl.max(s, 1) * scale_log2
        p = gl.exp2(s * scale_log2 - top[:, None])
        total = gl.sum(p, 1)
        weights = gl.convert_layout(p.to(q_tiles.dtype), WEIGHTS)
        acc = gl.zeros([ROWS, D], gl.float32, SUMS)
        v_stage, v_phase = stage, phase
        stage, phase = next_place(stage, phase, STAGES)
        mbarrier.wait(k_ready.index(stage), phase, pred=count > 1)
        for i in range(1, count):
            if PINGPONG:
                mbarrier.wait(turns.index(WHICH), turn)
                turn ^= 1
            s = warpgroup_mma(q, matrix(k_tiles, stage).permute((1, 0)), none, use_acc=False, is_async=True)
            mbarrier.wait(v_ready.index(v_stage), v_phase)
            acc = warpgroup_mma(weights, matrix(v_tiles, v_stage), acc, is_async=True)
            if PINGPONG:
                mbarrier.arrive(turns.index(1 - WHICH), count=1)
            s = warpgroup_mma_wait(1, deps=[s])
            mbarrier.arrive(k_free.index(stage), count=1)
            new_top = gl.maximum(top, gl.max(s, 1) * scale_log2)
            p = gl.exp2(s * scale_log2 - new_top[:, None])
            shrink = gl.exp2(top - new_top)
            total = total * shrink + gl.sum(p, 1)
            top = new_top
            next_stage, next_phase = next_place(stage, phase, STAGES)
            # Of the next keys, and the branch that keeps the exponentials above in the shadow of the product.
            mbarrier.wait(k_ready.index(next_stage), next_phase, pred=i + 1 < count)
            acc, p = warpgroup_mma_wait(0, deps=[acc, p])
            mbarrier.arrive(v_free.index(v_stage), count=1)
            acc = acc * gl.convert_layout(shrink, gl.SliceLayout(1, SUMS))[:, None]
            weights = gl.convert_layout(p.to(q_tiles.dtype), WEIGHTS)
            v_stage, v_phase = stage, phase
            stage, phase = next_stage, next_phase
        mbarrier.arrive(q_free.index(0), count=1)
        mbarrier.wait(v_ready.index(v_stage), v_phase)
        acc = warpgroup_mma(weights, matrix(v_tiles, v_stage), acc, is_async=True)
        acc = warpgroup_mma_wait(0, deps=[acc])
        mbarrier.arrive(v_free.index(v_stage), count=1)

        batch, head, row = place_of(number, heads, q_len, 2 * ROWS)
        row += WHICH * ROWS
        rows = row + gl.arange(0, ROWS, gl.SliceLayout(1, SCORES))
        lse_row = (top + gl.log2(total)) * 0.6931471805599453
        gl.store(at_head(lse, batch, head, lse_b, lse_h) + rows, lse_row, mask=rows < q_len)
        acc = acc / gl.convert_layout(total, gl.SliceLayout(1, SUMS))[:, None]
        store_rows(at_head(out, batch, head, out_b, out_h), row, q_len, out_l, acc, ROWS, D)
