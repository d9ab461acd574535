"""What the attention kernels share: where a sequence lies, and how a tile of rows is read and written.

Tensors are (B, L, H, D) with any stride but a last dimension of stride 1. A tile comes through a TMA descriptor of
(B, H, L, D), which reads zeros past the end and keeps addresses out of the registers, or through pointers: packed
sequences, strides that no descriptor takes, machines without TMA. Offsets are 64 bits wide: a row of the fused
projection is 21,504 elements long, so 100,000 tokens pass 2^31.
"""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def bounds(cu, batch, length, PACKED: tl.constexpr):
    """First row and length of a sequence: what the cumulated lengths `cu` say if packed, else 0 and `length`."""
    start = 0
    if PACKED:
        start = tl.load(cu + batch)
        length = tl.load(cu + batch + 1) - start
    return start, length


@triton.jit
def at_sequence(src, batch, head, start, stride_b, stride_l, stride_h, TMA: tl.constexpr):
    """Pointer to a sequence's first row in a head; a descriptor stays as it is. Packed: stride_b is 0."""
    if TMA:
        return src
    else:
        return src + batch.to(tl.int64) * stride_b + head.to(tl.int64) * stride_h + tl.cast(start, tl.int64) * stride_l


@triton.jit
def load_rows(
    src, batch, head, row, length, stride_l,
    ROWS: tl.constexpr, D: tl.constexpr, TMA: tl.constexpr, MASK: tl.constexpr, AGAIN: tl.constexpr = False,
):  # fmt: skip
    """Rows `row` to `row + ROWS` of a head: (ROWS, D). `MASK`: zeros from row `length` on.

    `AGAIN`: read where it stands, in a loop, though the rows stay the same. In float32 a factor that is kept in
    registers over the loop, split for the tensor cores, does not fit there.
    """
    if TMA:
        return src.load([batch, head, row, 0]).reshape(ROWS, D)
    else:
        rows = row + tl.arange(0, ROWS)
        address = src + rows.to(tl.int64)[:, None] * stride_l + tl.arange(0, D)[None, :]
        if MASK:
            return tl.load(address, mask=(rows < length)[:, None], other=0.0, volatile=AGAIN)
        else:
            return tl.load(address)


@triton.jit
def accumulator(
    dst, batch, head, row, length, stride_l, factor,
    ROWS: tl.constexpr, D: tl.constexpr, TMA: tl.constexpr, ACCUMULATE: tl.constexpr,
):  # fmt: skip
    """What a sum of (ROWS, D) starts from: zeros, or what the destination holds, times `factor`.

    Read before the loop, not added after it: a second tile beside the sums is what would spill at the end.
    """
    if ACCUMULATE:
        return load_rows(dst, batch, head, row, length, stride_l, ROWS, D, TMA, True).to(tl.float32) * factor
    else:
        return tl.zeros([ROWS, D], tl.float32)


@triton.jit
def store_rows(dst, batch, head, row, length, stride_l, value, ROWS: tl.constexpr, D: tl.constexpr, TMA: tl.constexpr):
    """Write rows `row` to `row + ROWS` of a head in the destination's dtype; none from `length` on."""
    if TMA:
        dst.store([batch, head, row, 0], value.to(dst.dtype).reshape(1, 1, ROWS, D))
    else:
        rows = row + tl.arange(0, ROWS)
        address = dst + rows.to(tl.int64)[:, None] * stride_l + tl.arange(0, D)[None, :]
        tl.store(address, value.to(dst.dtype.element_ty), mask=(rows < length)[:, None])
