"""aesthetic_quality: LAION's linear head on CLIP ViT-L/14 features, mean over all frames, a tenth of its scale.

The head is the one of VBench (`sa_0_4_vit_l_14_linear`); curation's filter uses LAION's later one on three frames,
so the two numbers differ.
"""

from __future__ import annotations

from pathlib import Path

from torch import Tensor, nn
from torch.nn import functional as F

from training.quality import weights
from training.quality.consistency import Embed
from training.quality.frames import need_frames, to_float


def aesthetic_quality(video_T3HW: Tensor, embed: Embed, head: nn.Module) -> float:
    """Mean of head(unit features) / 10. `head`: (N, D) to (N, 1)."""
    need_frames(video_T3HW, 1, "aesthetic_quality")
    features_TD = F.normalize(embed(to_float(video_T3HW)).float(), dim=-1)
    return (head(features_TD) / 10).mean().item()


def load_head(path: Path | None, device: str = "cpu") -> nn.Module:
    """LAION's head, (N, 768) to (N, 1)."""
    found = weights.tensors(path, weights.LAION_HEAD)
    return weights.fill(nn.Linear(768, 1), found, path, weights.LAION_HEAD).to(device)
