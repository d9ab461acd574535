"""GELU(x + bias), tanh form, in plain torch: what runs on a CPU, and in float64 what the kernels are measured against.

The forward function works in the dtype of its inputs, as a model without kernels would. The backward function is
written out, since a custom op runs below autograd; it works in float32 or better.

With u = x + bias and z = sqrt(2 / pi) * (u + 0.044715 u^3): gelu = u * s, s = (1 + tanh z) / 2 = sigmoid(2 z), and
    dgelu/du = s + 2 u s (1 - s) dz/du,  dz/du = sqrt(2 / pi) * (1 + 3 * 0.044715 u^2).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

CUBIC = 0.044715


def bias_gelu_tanh(x_BLD: Tensor, bias_D: Tensor) -> Tensor:
    """GELU(x + bias), tanh form."""
    return F.gelu(x_BLD + bias_D, approximate="tanh").to(x_BLD.dtype)


def bias_gelu_tanh_backward(dout_BLD: Tensor, x_BLD: Tensor, bias_D: Tensor) -> tuple[Tensor, Tensor]:
    """Gradients of x and of the bias."""
    at_least = torch.promote_types(x_BLD.dtype, torch.float32)
    u = x_BLD.to(at_least) + bias_D.to(at_least)
    share = torch.sigmoid(2 * math.sqrt(2 / math.pi) * (u + CUBIC * u**3))
    slope = math.sqrt(2 / math.pi) * (1 + 3 * CUBIC * u.square())
    dx = dout_BLD.to(at_least) * (share + 2 * u * share * (1 - share) * slope)
    return dx.to(x_BLD.dtype), dx.sum((0, 1)).to(bias_D.dtype)
