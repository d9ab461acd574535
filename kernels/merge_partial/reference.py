"""Merging two partial attention results in plain torch: the definition, and what runs on a CPU."""

from __future__ import annotations

import torch
from torch import Tensor


def merge(out_BLHD: Tensor, lse_BHL: Tensor, out_b_BLHD: Tensor, lse_b_BHL: Tensor) -> tuple[Tensor, Tensor]:
    """(out, lse) over the keys of both parts.

    out - sigmoid(lse_b - lse) (out - out_b), and lse - logsigmoid(lse - lse_b) (kernels spec, section 4) written as
    max + log1p(exp(-gap)): the same number, which a part without keys (-inf) does not turn into inf - inf.
    """
    gap_BHL = (lse_b_BHL - lse_BHL).masked_fill(lse_b_BHL == -torch.inf, -torch.inf)
    weight_BLH1 = torch.sigmoid(gap_BHL).transpose(1, 2)[..., None]
    lse = torch.maximum(lse_BHL, lse_b_BHL) + torch.log1p(torch.exp(-gap_BHL.abs()))
    return out_BLHD - weight_BLH1 * (out_BLHD - out_b_BLHD.to(out_BLHD.dtype)), lse
