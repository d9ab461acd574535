"""ReLU linear attention in plain torch: what the kernels are held against, and what runs on a CPU."""

from __future__ import annotations

import torch
from torch import Tensor


def relu_linear_attention(q_BHDN: Tensor, k_BHDN: Tensor, v_BHDN: Tensor, eps: float = 1e-15) -> Tensor:
    """(v k^T) q / (sum(k)^T q + eps) after ReLU on q and k (EfficientViT, arXiv 2205.14756, equation 2).

    (B, H, D, N) in and out. Computed in float32, or float64 where the inputs have it.
    """
    wide = torch.promote_types(v_BHDN.dtype, torch.float32)
    q, k, v = q_BHDN.to(wide).relu(), k_BHDN.to(wide).relu(), v_BHDN.to(wide)
    above = (v @ k.transpose(-1, -2)) @ q
    below = k.sum(-1, keepdim=True).transpose(-1, -2) @ q
    return (above / (below + eps)).to(v_BHDN.dtype)
