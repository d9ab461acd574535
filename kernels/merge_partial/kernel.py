"""Merging a partial attention result into a float32 one in place: read once, written once.

A program takes BLOCK_L tokens of one head. Heads are the fastest part of the grid, so that programs that run together
cover whole rows of (L, H, D).
"""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def merge(
    out, lse, out_b, lse_b,
    out_sb, out_sl, out_sh, other_sb, other_sl, other_sh, lse_sb, lse_sh, length,
    D: tl.constexpr, WIDTH: tl.constexpr, BLOCK_L: tl.constexpr,
):  # fmt: skip
    """Grid (heads, tiles of tokens, batch). `*_sb, _sl, _sh`: strides; `WIDTH`: D rounded up to a power of two."""
    head = tl.program_id(0).to(tl.int64)
    batch = tl.program_id(2).to(tl.int64)
    rows = tl.program_id(1).to(tl.int64) * BLOCK_L + tl.arange(0, BLOCK_L)
    cols = tl.arange(0, WIDTH)
    inside = rows < length
    both = inside[:, None] & (cols < D)[None, :]
    at_lse = batch * lse_sb + head * lse_sh + rows
    a = tl.load(lse + at_lse, mask=inside, other=0.0)
    b = tl.load(lse_b + at_lse, mask=inside, other=0.0)
    # A part without keys has lse -inf. If it is b, nothing changes; two of them would make inf - inf.
    gap = tl.where(b == float("-inf"), float("-inf"), b - a)
    weight = tl.sigmoid(gap)[:, None]
    at = out + batch * out_sb + head * out_sh + rows[:, None] * out_sl + cols[None, :]
    other = out_b + batch * other_sb + head * other_sh + rows[:, None] * other_sl + cols[None, :]
    x = tl.load(at, mask=both, other=0.0)
    y = tl.load(other, mask=both, other=0.0).to(tl.float32)
    tl.store(at, x - weight * (x - y), mask=both)
    tl.store(lse + at_lse, tl.maximum(a, b) + tl.log(1.0 + tl.exp(-tl.abs(gap))), mask=inside)
