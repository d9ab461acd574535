"""Merging a partial attention result in place, as a custom operator: the ring's step.

It has no gradient, and needs none: with the log-sum-exp over all keys, every part's gradient is a share of the whole
(`kernels.attention.backward`), so the merge is never differentiated.
"""

from __future__ import annotations

import torch
from torch import Tensor

from kernels.merge_partial import reference
from kernels.runtime import config_for, launch, use_kernel


def merge_partial(out32: Tensor, lse: Tensor, out_b: Tensor, lse_b: Tensor) -> None:
    """Merge (out_b, lse_b), attention over some keys, into (out32, lse) over others, in place.

    out32: (B, L, H, D), float32 whatever the model's dtype: the rounding of each step would add up. out_b: the same
    shape, any dtype. lse, lse_b: (B, H, L), contiguous. A part without keys is 0 and -inf.
    """
    assert out32.shape == out_b.shape and lse.shape == lse_b.shape, "parts of different queries"
    assert lse.is_contiguous() and lse_b.is_contiguous() and not out32.requires_grad
    _merge_partial(out32, lse, out_b, lse_b)


@torch.library.custom_op("ziggurat::merge_partial", mutates_args=("out32", "lse"))
def _merge_partial(out32: Tensor, lse: Tensor, out_b: Tensor, lse_b: Tensor) -> None:
    if not use_kernel(out32):
        out, merged = reference.merge(out32, lse, out_b, lse_b)
        out32.copy_(out)
        lse.copy_(merged)
        return
    from kernels.merge_partial.kernel import merge

    batch, length, heads, dim = out32.shape
    out_b = out_b if out_b.stride(-1) == 1 else out_b.contiguous()
    assert out32.stride(-1) == 1 and out32.dtype is lse.dtype is lse_b.dtype is torch.float32
    config = config_for("merge_partial", "any")
    grid = (heads, -(-length // config.blocks["BLOCK_L"]), batch)
    steps = (*out32.stride()[:3], *out_b.stride()[:3], *lse.stride()[:2])
    width = 1 << (dim - 1).bit_length()
    launch(merge, grid, out32, lse, out_b, lse_b, *steps, length, D=dim, WIDTH=width, **config.launch())


@_merge_partial.register_fake
def _(out32: Tensor, lse: Tensor, out_b: Tensor, lse_b: Tensor) -> None:
    return None
