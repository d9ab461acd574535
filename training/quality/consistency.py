"""subject_consistency and background_consistency: does every frame show what the first and the previous one show?

Both are the same sum over image features: DINO ViT-B/16 for the subject (`dino`), CLIP ViT-B/32 for the background
(`clip`). Definition: VBench, spec section 9.
"""

from __future__ import annotations

from typing import Protocol

from torch import Tensor
from torch.nn import functional as F

from training.quality.frames import need_frames, to_float


class Embed(Protocol):
    """Features (N, D) of frames (N, 3, H, W) in 0..1, of any length."""

    def __call__(self, frames_N3HW: Tensor, /) -> Tensor: ...


def consistency(video_T3HW: Tensor, embed: Embed) -> float:
    """Mean over frames 1.. of half the cosine to the previous frame and half that to the first, each not below 0."""
    need_frames(video_T3HW, 2, "consistency")
    features_TD = F.normalize(embed(to_float(video_T3HW)).float(), dim=-1)
    later_TD = features_TD[1:]
    to_previous, to_first = ((later_TD * other).sum(-1).clamp(min=0) for other in (features_TD[:-1], features_TD[:1]))
    return ((to_previous + to_first) / 2).mean().item()
