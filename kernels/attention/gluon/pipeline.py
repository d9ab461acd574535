"""What the Gluon kernels of attention share: a ring of tiles, who waits for whom, and rows in global memory.

A block has three partitions. The producer, one warp, loads tiles by TMA into a ring of STAGES places; two consumers
of four warps each own half of the block's rows and multiply. A place has two barriers: `ready`, on which consumers
wait for its bytes, and `free`, on which the producer waits for both consumers to have read it. A barrier's phase is 0
or 1 and turns with every round; waiting for the phase before the first (1) passes at once, as all places are free at
the start. Products run on the tensor cores while the warps go on; `warpgroup_mma_wait(n)` waits until n are left.

What is to be computed while a product runs must stand before the wait for it, in the machine code too. ptxas moves a
wait up past arithmetic, but not past a branch: where work has to stay in the shadow of a product, a wait on a barrier
(a loop) comes after it and before the wait for the product.
"""

from __future__ import annotations

from triton.experimental import gluon
from triton.experimental.gluon import language as gl
from triton.experimental.gluon.language.nvidia.hopper import mbarrier, tma


@gluon.jit
def place_of(number, heads, length, BLOCK: gl.constexpr):
    """Sequence, head and first row of a program's tile. Tiles of a head follow each other: it stays in the L2 cache."""
    per_head = gl.cdiv(length, BLOCK)
    head = number // per_head
    return head // heads, head % heads, number % per_head * BLOCK


@gluon.jit
def next_place(stage, phase, STAGES: gl.constexpr):
    """The place in the ring after `stage`, and its phase."""
    last = stage == STAGES - 1
    return gl.where(last, 0, stage + 1), gl.where(last, phase ^ 1, phase)


@gluon.jit
def barriers(NUMBER: gl.constexpr, ARRIVALS: gl.constexpr):
    """NUMBER barriers, each of which turns after ARRIVALS arrivals (and the bytes that it was told to expect)."""
    made = gl.allocate_shared_memory(gl.int64, [NUMBER, 1], mbarrier.MBarrierLayout())
    for i in gl.static_range(NUMBER):
        mbarrier.init(made.index(i), count=ARRIVALS)
    return made


@gluon.jit
def ring(source, STAGES: gl.constexpr):
    """Shared memory for STAGES tiles of a descriptor, each (1, 1, rows, D)."""
    rows: gl.constexpr = source.block_type.shape[2]
    width: gl.constexpr = source.block_type.shape[3]
    return gl.allocate_shared_memory(source.dtype, [STAGES, 1, 1, rows, width], source.layout)


@gluon.jit
def matrix(tiles, stage):
    """A tile of the ring as (rows, D)."""
    rows: gl.constexpr = tiles.shape[3]
    width: gl.constexpr = tiles.shape[4]
    return tiles.index(stage).reshape([rows, width])


@gluon.jit
def load(source, batch, head, row, tiles, stage, ready):
    """Start a copy of rows `row` and on, zeros past the end, whose bytes `ready` has been told to expect."""
    tma.async_copy_global_to_shared(source, [batch, head, row, 0], ready, tiles.index(stage))


@gluon.jit
def load_halves(source, batch, head, row, tiles, ready):
    """Each consumer's half of the block's own rows, to be read all the time."""
    rows: gl.constexpr = tiles.shape[3]
    load(source, batch, head, row, tiles, 0, ready)
    load(source, batch, head, row + rows, tiles, 1, ready)


@gluon.jit
def produce(own, k, v, own_tiles, k_tiles, v_tiles, ready, free, shape):
    """The producer of a program that goes through tiles of queries: for each, the keys and values from last to first.

    `own`: descriptors of what has a row a query, ready and free together. `ready`, `free`: the barriers of own, of keys
    and of values.
    """
    own_ready, k_ready, v_ready = ready
    own_free, k_free, v_free = free
    sequences, heads, q_len, k_len = shape
    BLOCK_M: gl.constexpr = 2 * own_tiles[0].shape[3]
    BLOCK_N: gl.constexpr = k_tiles.shape[3]
    stage, phase, own_phase = 0, 0, 0
    for number in range(gl.program_id(0), gl.cdiv(q_len, BLOCK_M) * heads * sequences, gl.num_programs(0)):
        batch, head, row = place_of(number, heads, q_len, BLOCK_M)
        mbarrier.wait(own_free.index(0), own_phase ^ 1)
        mbarrier.expect(own_ready.index(0), 2 * len(own) * own[0].block_type.nbytes)
        for i in gl.static_range(len(own)):
            load_halves(own[i], batch, head, row, own_tiles[i], own_ready.index(0))
        own_phase ^= 1
        tile = gl.cdiv(k_len, BLOCK_N)
        while tile > 0:
            tile -= 1
            mbarrier.wait(k_free.index(stage), phase ^ 1)
            mbarrier.expect(k_ready.index(stage), k.block_type.nbytes)
            load(k, batch, head, tile * BLOCK_N, k_tiles, stage, k_ready.index(stage))
            mbarrier.wait(v_free.index(stage), phase ^ 1)
            mbarrier.expect(v_ready.index(stage), v.block_type.nbytes)
            load(v, batch, head, tile * BLOCK_N, v_tiles, stage, v_ready.index(stage))
            stage, phase = next_place(stage, phase, k_tiles.shape[0])


@gluon.jit
def at_head(base, batch, head, stride_b, stride_h):
    """Pointer to a head's first row. 64 bits: a tensor may be longer than 2^31."""
    return base + gl.cast(batch, gl.int64) * stride_b + gl.cast(head, gl.int64) * stride_h


@gluon.jit
def accumulator(
    base, row, length, stride_l, factor, ROWS: gl.constexpr, D: gl.constexpr, ACCUMULATE: gl.constexpr,
    LAYOUT: gl.constexpr,
):  # fmt: skip
    """What a sum of (ROWS, D) starts from: zeros, or what the destination holds, times `factor`."""
    if ACCUMULATE:
        rows = row + gl.arange(0, ROWS, gl.SliceLayout(1, LAYOUT))
        at = base + rows.to(gl.int64)[:, None] * stride_l + gl.arange(0, D, gl.SliceLayout(0, LAYOUT))[None, :]
        return gl.load(at, mask=(rows < length)[:, None], other=0.0).to(gl.float32) * factor
    else:
        return gl.zeros([ROWS, D], gl.float32, LAYOUT)


@gluon.jit
def store_rows(base, row, length, stride_l, value, ROWS: gl.constexpr, D: gl.constexpr):
    """Write rows `row` and on of a head in the destination's dtype, 16 bytes a thread at a time; none from `length`."""
    WIDE: gl.constexpr = gl.BlockedLayout([1, 8], [2, 16], [4, 1], [1, 0])
    value = gl.convert_layout(value.to(base.dtype.element_ty), WIDE)
    rows = row + gl.arange(0, ROWS, gl.SliceLayout(1, WIDE))
    at = base + rows.to(gl.int64)[:, None] * stride_l + gl.arange(0, D, gl.SliceLayout(0, WIDE))[None, :]
    gl.store(at, value, mask=(rows < length)[:, None])
