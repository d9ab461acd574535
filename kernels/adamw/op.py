"""The AdamW op: in place on one flat shard, the kernel on a GPU and the reference on a CPU. It has no gradient."""

from __future__ import annotations

import torch
from torch import Tensor

from kernels.adamw import reference
from kernels.runtime import config_for, launch, use_kernel


def adamw(
    params: Tensor,
    grad: Tensor,
    exp_avg: Tensor,
    exp_avg_sq: Tensor,
    copy: Tensor | None = None,
    *,
    step: int,
    lr: float,
    betas: tuple[float, float] = (0.9, 0.999),
    eps: float = 1e-15,
    weight_decay: float = 0.0,
    scale: Tensor | None = None,
) -> None:
    """One step of AdamW on a flat shard: updates `params`, `exp_avg`, `exp_avg_sq` and writes `copy`.

    params, exp_avg, exp_avg_sq: (N,) float32, contiguous; N may pass 2^31. grad: (N,) of any float dtype. copy: (N,),
    the model's own parameters, params rounded to its dtype. step: counted from 1. scale: one element on the same
    device, by which the gradient is multiplied (a clip coefficient): the host never waits for it.
    """
    assert step >= 1, "steps are counted from 1"
    tensors = [x for x in (params, grad, exp_avg, exp_avg_sq, copy) if x is not None]
    assert all(x.shape == (params.numel(),) and x.is_contiguous() for x in tensors), "flat shards of one length"
    assert scale is None or scale.numel() == 1
    _adamw(params, grad, exp_avg, exp_avg_sq, copy, scale, lr, *betas, eps, weight_decay, step)


@torch.library.custom_op("ziggurat::adamw", mutates_args=("params", "exp_avg", "exp_avg_sq", "copy"))
def _adamw(
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
    if not use_kernel(params):
        args = (params, grad, exp_avg, exp_avg_sq, copy, scale, lr, beta1, beta2, eps, weight_decay, step)
        return reference.adamw(*args)
    assert params.dtype == exp_avg.dtype == exp_avg_sq.dtype == torch.float32
    from kernels.adamw import kernel

    numbers = (1 - beta1, beta2, 1 - beta2, eps, 1 - lr * weight_decay)
    corrected = (lr / (1 - beta1**step), (1 - beta2**step) ** -0.5)
    arguments = (params, grad, exp_avg, exp_avg_sq, copy, scale, params.numel(), *numbers, *corrected)
    config = config_for("adamw", "any")
    launch(kernel.adamw_kernel, (-(-params.numel() // config.blocks["BLOCK"]),), *arguments, **config.launch())
    return None


@_adamw.register_fake
def _(params, grad, exp_avg, exp_avg_sq, copy, scale, lr, beta1, beta2, eps, weight_decay, step) -> None:
    return None
