"""dynamic_degree: does the video move at all? 1 or 0, by the optical flow between frames about 1/8 s apart.

A pair moves when the mean of its fastest 5 % of flow vectors exceeds 6 pixels on a picture of 256; the video moves
when a quarter of its frames do. Definition: VBench, spec section 9. Flow: RAFT by torchvision.
"""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor

from curation.errors import UserError
from training.quality import weights
from training.quality.frames import in_batches, need_frames, pad_even, to_float

FPS = 8
RAFT_UPDATES = 20
RAFT_MIN_SIDE = 128


class Flow(Protocol):
    """Motion in pixels (N, 2, h, w) from frames a to frames b, both (N, 3, H, W) in 0..1; h x w may be padded."""

    def __call__(self, a_N3HW: Tensor, b_N3HW: Tensor, /) -> Tensor: ...


def dynamic_degree(video_T3HW: Tensor, flow: Flow, fps: float = 24.0) -> float:
    """1.0 for a video that moves, else 0.0."""
    kept = to_float(video_T3HW)[:: max(1, round(fps / FPS))]
    need_frames(kept, 2, f"dynamic_degree, at {FPS} frames a second,")
    speeds_N = _speed(flow(kept[:-1], kept[1:]))
    threshold = 6 * min(kept.shape[-2:]) / 256
    # VBench's count is 0 for two frames, by which even a still would be dynamic: one pair at least must move.
    enough = max(1, round(len(kept) / 4))
    return float((speeds_N > threshold).sum().item() >= enough)


def _speed(flow_N2HW: Tensor) -> Tensor:
    """Mean of the largest 5 % of the vectors' lengths, (N,)."""
    lengths_NP = flow_N2HW.float().norm(dim=1).flatten(1)
    return lengths_NP.topk(max(1, int(lengths_NP.shape[1] * 0.05)), dim=1).values.mean(1)


class Raft:
    """`Flow` by RAFT, large, 20 updates. The weights are the authors' `raft-things` in torchvision's names."""

    def __init__(self, path: Path | None, device: str = "cpu", batch: int = 2) -> None:
        try:
            from torchvision.models.optical_flow import raft_large
        except ImportError as error:
            raise UserError("the package torchvision is not installed", "pip install -e '.[clip]'") from error
        found = weights.tensors(path, weights.RAFT)
        self._network = weights.fill(raft_large(weights=None), found, path, weights.RAFT).to(device)
        self._device, self._batch = device, batch

    def __call__(self, a_N3HW: Tensor, b_N3HW: Tensor) -> Tensor:
        if min(a_N3HW.shape[-2:]) < RAFT_MIN_SIDE:
            raise UserError("dynamic_degree: the picture is too small", f"RAFT needs sides of {RAFT_MIN_SIDE} pixels")
        return in_batches(self._flow, a_N3HW, b_N3HW, batch=self._batch)

    def _flow(self, a_N3HW: Tensor, b_N3HW: Tensor) -> Tensor:
        """Of the padded frames: VBench measures the padding too."""
        pair = torch.stack([a_N3HW, b_N3HW]).to(self._device)
        padded, _ = pad_even((2 * pair - 1).flatten(0, 1), 8)
        return self._network(*padded.chunk(2), num_flow_updates=RAFT_UPDATES)[-1]
