"""AdamW in plain torch, in place: what the kernel is held against, and what runs on a CPU."""

from __future__ import annotations

import torch
from torch import Tensor


@torch.no_grad()
def adamw(
    params: Tensor,
    grad: Tensor,
    exp_avg: Tensor,
    exp_avg_sq: Tensor,
    copy: Tensor | None,
    scale: Tensor | None,
    lr: float,
    beta1: float,
    beta2: float,
    eps: float,
    weight_decay: float,
    step: int,
) -> None:
    """Algorithm 2 of arXiv 1711.05101, with the operations in the order of `torch.optim.AdamW`.

    The arithmetic is in the dtype of `params`, float32 or float64. See `kernels.adamw.op.adamw` for the arguments.
    """
    grad = grad.to(params.dtype)
    if scale is not None:
        grad = grad * scale.to(params.dtype)
    params.mul_(1 - lr * weight_decay)
    exp_avg.lerp_(grad, 1 - beta1)
    exp_avg_sq.mul_(beta2).addcmul_(grad, grad, value=1 - beta2)
    denominator = exp_avg_sq.sqrt().div_((1 - beta2**step) ** 0.5).add_(eps)
    params.addcdiv_(exp_avg, denominator, value=-lr / (1 - beta1**step))
    if copy is not None:
        copy.copy_(params)
