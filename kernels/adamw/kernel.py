"""The Triton kernel of AdamW: each element is read once and written once.

Bytes a parameter with a bf16 gradient and a bf16 copy: parameter, first and second moment in float32, each read and
written (24), gradient read (2), copy written (2): 28.
"""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def adamw_kernel(
    weights,
    grad,
    exp_avg,
    exp_avg_sq,
    copy,
    scale,
    n,
    one_minus_beta1,
    beta2,
    one_minus_beta2,
    eps,
    keep,
    step_size,
    root_correction2,
    BLOCK: tl.constexpr,
):
    """`weights`: the parameters, which no argument may be named for: Triton's launcher has a variable `params`.

    `keep`: 1 - lr * weight decay; `step_size`: lr / (1 - beta1^step); `root_correction2`: 1 / sqrt(1 - beta2^step).

    `copy` and `scale` (a pointer, so that the host need not know the clip coefficient) may be None. Square root and
    division round correctly, as torch's do.
    """
    at = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    inside = at < n
    p = tl.load(weights + at, mask=inside)
    g = tl.load(grad + at, mask=inside).to(tl.float32)
    m = tl.load(exp_avg + at, mask=inside)
    v = tl.load(exp_avg_sq + at, mask=inside)
    if scale is not None:
        g *= tl.load(scale).to(tl.float32)
    m += one_minus_beta1 * (g - m)
    v = beta2 * v + one_minus_beta2 * g * g
    denominator = tl.sqrt_rn(v) * root_correction2 + eps
    p = keep * p - step_size * tl.div_rn(m, denominator)
    tl.store(weights + at, p, mask=inside)
    tl.store(exp_avg + at, m, mask=inside)
    tl.store(exp_avg_sq + at, v, mask=inside)
    if copy is not None:
        tl.store(copy + at, p.to(copy.dtype.element_ty), mask=inside)
