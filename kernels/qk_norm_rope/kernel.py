"""RMS norm and rotation of query and key heads in Triton, each head read once where the projection left it.

A tile is BLOCK_L tokens by BLOCK_H heads by R pairs of channels that turn together, held as two tensors, `a` and `b`.
Pairs that lie side by side are loaded as whole rows and taken apart in registers. A program walks over tiles, PROGRAMS
apart; a token's row of the table is loaded once a tile and serves all its heads, of q and of k.

The backward kernel computes the norm again, as the head is at hand. It sums the gradients of the scales in registers
and writes one partial row a program, which `op.py` adds up: no atomics, so equal inputs give equal bits.

H and R are constants of the compilation. Strides count elements: `q_b`, `q_l`, `q_h` step q's batch, tokens, heads.
Offsets are 64-bit. Tokens of the whole batch are numbered through: token t is l = t % L of batch entry t // L.
"""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def _load_pairs(rows, inside, R: tl.constexpr, BLOCK_R: tl.constexpr, INTERLEAVED: tl.constexpr):
    """Heads at the pointers `rows` (L, H, 1) as two float32 tiles (L, H, R), zero where not `inside`."""
    if INTERLEAVED:
        d = tl.arange(0, 2 * BLOCK_R)[None, None, :]
        both = tl.load(rows + d, inside & (d < 2 * R), 0.0)
        a, b = tl.split(tl.reshape(both, (both.shape[0], both.shape[1], BLOCK_R, 2)))
    else:
        r = tl.arange(0, BLOCK_R)[None, None, :]
        a = tl.load(rows + r, inside & (r < R), 0.0)
        b = tl.load(rows + R + r, inside & (r < R), 0.0)
    return a.to(tl.float32), b.to(tl.float32)


@triton.jit
def _store_pairs(rows, a, b, inside, R: tl.constexpr, BLOCK_R: tl.constexpr, INTERLEAVED: tl.constexpr):
    """Write what `_load_pairs` would load."""
    a = a.to(rows.dtype.element_ty)
    b = b.to(rows.dtype.element_ty)
    if INTERLEAVED:
        d = tl.arange(0, 2 * BLOCK_R)[None, None, :]
        both = tl.reshape(tl.join(a, b), (a.shape[0], a.shape[1], 2 * BLOCK_R))
        tl.store(rows + d, both, inside & (d < 2 * R))
    else:
        r = tl.arange(0, BLOCK_R)[None, None, :]
        tl.store(rows + r, a, inside & (r < R))
        tl.store(rows + R + r, b, inside & (r < R))


@triton.jit
def _load_scale(scale, R: tl.constexpr, BLOCK_R: tl.constexpr, INTERLEAVED: tl.constexpr):
    """A (D,) vector as two float32 tiles (1, 1, R)."""
    row = scale + tl.zeros((1, 1, 1), tl.int32)
    return _load_pairs(row, tl.full((1, 1, 1), True, tl.int1), R, BLOCK_R, INTERLEAVED)


@triton.jit
def _store_partial(partial, which, total_a, total_b, R: tl.constexpr, BLOCK_R: tl.constexpr,
                   INTERLEAVED: tl.constexpr):  # fmt: skip
    """Write a program's sums over its heads into `partial` (2, programs, D)."""
    row = which * tl.num_programs(0) + tl.program_id(0) + tl.zeros((1, 1, 1), tl.int64)
    a = tl.sum(tl.sum(total_a, 0, keep_dims=True), 1, keep_dims=True)
    b = tl.sum(tl.sum(total_b, 0, keep_dims=True), 1, keep_dims=True)
    everywhere = tl.full((1, 1, 1), True, tl.int1)
    _store_pairs(partial + row * (2 * R), a, b, everywhere, R, BLOCK_R, INTERLEAVED)


@triton.jit
def _tile(index, tokens, L, H: tl.constexpr, D: tl.constexpr, BLOCK_L: tl.constexpr, BLOCK_H: tl.constexpr):
    """A tile's batch entries, tokens and heads, where its heads begin in a contiguous output, and which tokens and
    heads there are. Heads vary fastest."""
    groups: tl.constexpr = (H + BLOCK_H - 1) // BLOCK_H
    token = (index // groups) * BLOCK_L + tl.arange(0, BLOCK_L)[:, None, None]
    h = (index % groups) * BLOCK_H + tl.arange(0, BLOCK_H)[None, :, None]
    known = token < tokens
    to = (token.to(tl.int64) * H + h) * D
    return (token // L).to(tl.int64), (token % L).to(tl.int64), h.to(tl.int64), to, known, known & (h < H)


@triton.jit
def _angles(table, l, known, R: tl.constexpr, BLOCK_R: tl.constexpr):
    """Rows l of a (L, R) table as a float32 tile (L, 1, R)."""
    r = tl.arange(0, BLOCK_R)[None, None, :]
    return tl.load(table + l * R + r, known & (r < R), 0.0).to(tl.float32)


@triton.jit
def _turned(rows, out, scale_a, scale_b, cos, sin, inside, eps, R: tl.constexpr, BLOCK_R: tl.constexpr,
            INTERLEAVED: tl.constexpr):  # fmt: skip
    """Norm and rotate the heads at `rows` into `out`."""
    a, b = _load_pairs(rows, inside, R, BLOCK_R, INTERLEAVED)
    rstd = tl.rsqrt(tl.sum(a * a + b * b, 2, keep_dims=True) / (2 * R) + eps)
    a = a * rstd * scale_a
    b = b * rstd * scale_b
    _store_pairs(out, a * cos - b * sin, b * cos + a * sin, inside, R, BLOCK_R, INTERLEAVED)


@triton.jit
def _turned_back(dout, rows, dx, scale_a, scale_b, cos, sin, inside, eps, R: tl.constexpr, BLOCK_R: tl.constexpr,
                 INTERLEAVED: tl.constexpr):  # fmt: skip
    """Write the gradient of the heads at `rows`; return what every element adds to that of the scale."""
    turned_a, turned_b = _load_pairs(dout, inside, R, BLOCK_R, INTERLEAVED)
    a, b = _load_pairs(rows, inside, R, BLOCK_R, INTERLEAVED)
    grad_a = turned_a * cos + turned_b * sin
    grad_b = turned_b * cos - turned_a * sin
    rstd = tl.rsqrt(tl.sum(a * a + b * b, 2, keep_dims=True) / (2 * R) + eps)
    a *= rstd
    b *= rstd
    da = grad_a * scale_a
    db = grad_b * scale_b
    along = tl.sum(da * a + db * b, 2, keep_dims=True) / (2 * R)
    _store_pairs(dx, rstd * (da - a * along), rstd * (db - b * along), inside, R, BLOCK_R, INTERLEAVED)
    return grad_a * a, grad_b * b


@triton.jit
def qk_norm_rope_forward(
    q, k, q_scale, k_scale, cos, sin, q_out, k_out, tokens, L, eps, q_b, q_l, q_h, k_b, k_l, k_h,
    H: tl.constexpr, R: tl.constexpr, BLOCK_R: tl.constexpr, INTERLEAVED: tl.constexpr,
    BLOCK_L: tl.constexpr, BLOCK_H: tl.constexpr, PROGRAMS: tl.constexpr, STAGES: tl.constexpr,
):  # fmt: skip
    q_scale_a, q_scale_b = _load_scale(q_scale, R, BLOCK_R, INTERLEAVED)
    k_scale_a, k_scale_b = _load_scale(k_scale, R, BLOCK_R, INTERLEAVED)
    tiles = tl.cdiv(tokens, BLOCK_L) * tl.cdiv(H, BLOCK_H)
    for index in tl.range(tl.program_id(0), tiles, PROGRAMS, num_stages=STAGES):
        b, l, h, to, known, inside = _tile(index, tokens, L, H, 2 * R, BLOCK_L, BLOCK_H)
        cos_l, sin_l = _angles(cos, l, known, R, BLOCK_R), _angles(sin, l, known, R, BLOCK_R)
        _turned(q + b * q_b + l * q_l + h * q_h, q_out + to, q_scale_a, q_scale_b, cos_l, sin_l, inside,
                eps, R, BLOCK_R, INTERLEAVED)  # fmt: skip
        _turned(k + b * k_b + l * k_l + h * k_h, k_out + to, k_scale_a, k_scale_b, cos_l, sin_l, inside,
                eps, R, BLOCK_R, INTERLEAVED)  # fmt: skip


@triton.jit
def qk_norm_rope_backward(
    dq_out, dk_out, q, k, q_scale, k_scale, cos, sin, dq, dk, partial, tokens, L, eps,
    dq_b, dq_l, dq_h, dk_b, dk_l, dk_h, q_b, q_l, q_h, k_b, k_l, k_h,
    H: tl.constexpr, R: tl.constexpr, BLOCK_R: tl.constexpr, INTERLEAVED: tl.constexpr,
    BLOCK_L: tl.constexpr, BLOCK_H: tl.constexpr, PROGRAMS: tl.constexpr, STAGES: tl.constexpr,
):  # fmt: skip
    q_scale_a, q_scale_b = _load_scale(q_scale, R, BLOCK_R, INTERLEAVED)
    k_scale_a, k_scale_b = _load_scale(k_scale, R, BLOCK_R, INTERLEAVED)
    q_total_a = tl.zeros((BLOCK_L, BLOCK_H, BLOCK_R), tl.float32)
    q_total_b = tl.zeros((BLOCK_L, BLOCK_H, BLOCK_R), tl.float32)
    k_total_a = tl.zeros((BLOCK_L, BLOCK_H, BLOCK_R), tl.float32)
    k_total_b = tl.zeros((BLOCK_L, BLOCK_H, BLOCK_R), tl.float32)
    tiles = tl.cdiv(tokens, BLOCK_L) * tl.cdiv(H, BLOCK_H)
    for index in tl.range(tl.program_id(0), tiles, PROGRAMS, num_stages=STAGES):
        b, l, h, to, known, inside = _tile(index, tokens, L, H, 2 * R, BLOCK_L, BLOCK_H)
        cos_l, sin_l = _angles(cos, l, known, R, BLOCK_R), _angles(sin, l, known, R, BLOCK_R)
        added_a, added_b = _turned_back(
            dq_out + b * dq_b + l * dq_l + h * dq_h, q + b * q_b + l * q_l + h * q_h, dq + to,
            q_scale_a, q_scale_b, cos_l, sin_l, inside, eps, R, BLOCK_R, INTERLEAVED)  # fmt: skip
        q_total_a += added_a
        q_total_b += added_b
        added_a, added_b = _turned_back(
            dk_out + b * dk_b + l * dk_l + h * dk_h, k + b * k_b + l * k_l + h * k_h, dk + to,
            k_scale_a, k_scale_b, cos_l, sin_l, inside, eps, R, BLOCK_R, INTERLEAVED)  # fmt: skip
        k_total_a += added_a
        k_total_b += added_b
    _store_partial(partial, 0, q_total_a, q_total_b, R, BLOCK_R, INTERLEAVED)
    _store_partial(partial, 1, k_total_a, k_total_b, R, BLOCK_R, INTERLEAVED)
