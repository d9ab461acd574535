"""The distillation loss: latents that lie to each other as a teacher's features do (spec section 1.7).

LightningDiT's VF loss (Yao, Wang 2025, equations 5 to 7), for each frame of a clip.
"""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F


def alignment_loss(
    projected_NDhw: Tensor, features_NDhw: Tensor, cosine_margin: float = 0.5, distance_margin: float = 0.25
) -> Tensor:
    """mean relu(1 - m1 - cos(z_i, f_i)) + mean relu(|cos(z_i, z_j) - cos(f_i, f_j)| - m2), a scalar.

    i and j are positions of one frame; the first margin lets a cosine above 1 - m1 be, the second a difference below
    m2. Features take no gradient.
    """
    z_NLD, f_NLD = (F.normalize(x.float().flatten(2).mT, dim=-1) for x in (projected_NDhw, features_NDhw.detach()))
    own = F.relu(1 - cosine_margin - (z_NLD * f_NLD).sum(-1)).mean()
    among = F.relu((z_NLD @ z_NLD.mT - f_NLD @ f_NLD.mT).abs() - distance_margin).mean()
    return own + among
