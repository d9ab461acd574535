"""One number for a video: VBench's six metrics, each normalised, and their weighted mean.

The search over candidates (spec section 5) takes a `Scorer` and keeps the best; `load` makes one from weights files.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Protocol

from torch import Tensor

from curation.errors import UserError
from training.quality import weights
from training.quality.aesthetic import aesthetic_quality, load_head
from training.quality.clip import ClipImage
from training.quality.consistency import consistency
from training.quality.dino import Dino
from training.quality.dynamics import Raft, dynamic_degree
from training.quality.imaging import Musiq, imaging_quality
from training.quality.smoothness import Script, motion_smoothness
from training.quality.weights import Wanted

Metric = Callable[[Tensor], float]
"""A raw score of a video (T, 3, H, W), uint8 or 0..1."""


class Scorer(Protocol):
    """A number for each video of a batch (B, T, 3, H, W), the higher the better."""

    def __call__(self, video_BT3HW: Tensor) -> list[float]: ...


@dataclass(frozen=True, slots=True)
class Scale:
    """VBench's constants of a metric: the raw scores that become 0 and 1, and its weight in the mean (section 9)."""

    low: float
    high: float
    weight: float = 1.0

    def normalised(self, raw: float) -> float:
        return (raw - self.low) / (self.high - self.low)


SCALES: Mapping[str, Scale] = {
    "subject_consistency": Scale(0.1462, 1.0),
    "background_consistency": Scale(0.2615, 1.0),
    "motion_smoothness": Scale(0.706, 0.9975),
    "dynamic_degree": Scale(0.0, 1.0, weight=0.5),
    "aesthetic_quality": Scale(0.0, 1.0),
    "imaging_quality": Scale(0.0, 1.0),
}
WEIGHTS: Mapping[str, float] = {name: scale.weight for name, scale in SCALES.items()}


def total(raw: Mapping[str, float], weight: Mapping[str, float] = WEIGHTS) -> float:
    """Sum of weight * (raw - low) / (high - low) over the sum of weights, over the metrics of `raw`."""
    known(raw)
    parts = {name: weight.get(name, WEIGHTS[name]) for name in raw}
    if any(part < 0 for part in parts.values()) or sum(parts.values()) <= 0:
        raise UserError(f"the metrics' weights are {parts}", "give none below 0 and one at least above it")
    return sum(part * SCALES[name].normalised(raw[name]) for name, part in parts.items()) / sum(parts.values())


def measure(video_T3HW: Tensor, metrics: Mapping[str, Metric]) -> dict[str, float]:
    """Raw scores by name."""
    raw = {name: metric(video_T3HW) for name, metric in metrics.items()}
    for name, value in raw.items():
        if not math.isfinite(value):
            raise UserError(f"{name} is {value}", "check its weights file, and the video for frames of one colour")
    return raw


def score(video_T3HW: Tensor, metrics: Mapping[str, Metric], weight: Mapping[str, float] = WEIGHTS) -> float:
    """The weighted mean of the normalised metrics of one video."""
    return total(measure(video_T3HW, metrics), weight)


@dataclass(frozen=True, slots=True)
class VBenchScorer:
    """A `Scorer` of the metrics given; `weight` takes precedence over VBench's for the metrics that it names."""

    metrics: Mapping[str, Metric]
    weight: Mapping[str, float] = field(default_factory=dict)

    def __call__(self, video_BT3HW: Tensor) -> list[float]:
        return [score(video, self.metrics, self.weight) for video in video_BT3HW]


@dataclass(frozen=True, slots=True, kw_only=True)
class Files:
    """Where the weights are; a metric needs only its own (`NEEDS`)."""

    dino: Path | None = None
    clip_b32: Path | None = None
    amt: Path | None = None
    raft: Path | None = None
    clip_l14: Path | None = None
    laion_head: Path | None = None
    musiq: Path | None = None


NEEDS: Mapping[str, Mapping[str, Wanted]] = {
    "subject_consistency": {"dino": weights.DINO},
    "background_consistency": {"clip_b32": weights.CLIP_B32},
    "motion_smoothness": {"amt": weights.AMT},
    "dynamic_degree": {"raft": weights.RAFT},
    "aesthetic_quality": {"clip_l14": weights.CLIP_L14, "laion_head": weights.LAION_HEAD},
    "imaging_quality": {"musiq": weights.MUSIQ},
}
"""The field of `Files` that a metric reads, and what has to be there."""


def missing(names: Collection[str], files: Files) -> list[Wanted]:
    """What the metrics lack, each with the command that gets it."""
    needs = [(getattr(files, field), wanted) for name in known(names) for field, wanted in NEEDS[name].items()]
    return [wanted for path, wanted in needs if path is None or not path.exists()]


def load(names: Collection[str], files: Files, device: str = "cpu", fps: float = 24.0) -> dict[str, Metric]:
    """The metrics by name, with their networks; UserError for the first file that is absent, before any is read."""
    for name in known(names):
        for field_name, wanted in NEEDS[name].items():
            weights.need(getattr(files, field_name), wanted)
    make: dict[str, Callable[[], Metric]] = {
        "subject_consistency": lambda: partial(consistency, embed=Dino(files.dino, device)),
        "background_consistency": lambda: partial(
            consistency, embed=ClipImage(files.clip_b32, weights.CLIP_B32, device)
        ),
        "motion_smoothness": lambda: partial(motion_smoothness, interpolate=Script(files.amt, device)),
        "dynamic_degree": lambda: partial(dynamic_degree, flow=Raft(files.raft, device), fps=fps),
        "aesthetic_quality": lambda: partial(
            aesthetic_quality,
            embed=ClipImage(files.clip_l14, weights.CLIP_L14, device),
            head=load_head(files.laion_head, device),
        ),
        "imaging_quality": lambda: partial(imaging_quality, rate=Musiq(files.musiq, device)),
    }
    return {name: make[name]() for name in names}


def known(names: Collection[str]) -> Collection[str]:
    """The names, or a UserError for the first that is none of the six, or where there is none."""
    for name in names:
        if name not in SCALES:
            raise UserError(f"there is no metric {name!r}", f"choose among {', '.join(SCALES)}")
    if not names:
        raise UserError("no metric is named", f"choose among {', '.join(SCALES)}")
    return names
