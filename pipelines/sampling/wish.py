"""What `ziggurat sample` was asked for: the command's arguments, or a line of `samples.jsonl` that is made again.

A `Wish` is unchecked; `job` checks it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Literal

from pipelines.sampling.samples_file import Line

METRICS = ("aesthetic_quality", "imaging_quality")
"""VBench's metrics that judge candidates where none are named."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """The command's arguments; None where the user said nothing."""

    prompts: tuple[str, ...]
    model: str
    resolution: str
    aspect: str
    size: str | None
    frames: int
    fps: int
    motion: int
    negative: str
    kind: str | None
    references: tuple[Path, ...]
    fit: Literal["error", "crop"]
    via_image: bool
    steps: int
    guidance: float
    image_guidance: float
    text_oscillation: bool
    image_oscillation: bool
    dynamic_image: bool
    seed: int
    search_steps: str | None
    candidates: int
    metrics: tuple[str, ...]

    @classmethod
    def of_command(cls, given: Mapping[str, Any]) -> Wish:
        """What was typed, by the names of the command's parameters."""
        lists = {
            "prompts": tuple(given["prompts"] or ()),
            "references": tuple(map(Path, given["reference"] or ())),
            "metrics": tuple(given["metric"] or METRICS),
        }
        return cls(**lists, **{field.name: given[field.name] for field in fields(cls) if field.name not in lists})

    @classmethod
    def of_line(cls, line: Line) -> Wish:
        """What makes a recorded video again."""
        search = line.search
        return cls(
            prompts=(line.prompt,),
            model=line.model,
            resolution="256px",
            aspect="16:9",
            size=f"{line.width}x{line.height}",
            frames=line.frames,
            fps=line.fps,
            motion=line.motion,
            negative=line.negative,
            kind=None if line.via_image else line.kind,
            references=tuple(reference.path for reference in line.references),
            fit=line.fit,
            via_image=line.via_image,
            steps=line.steps,
            guidance=line.guidance.text,
            image_guidance=line.guidance.image,
            text_oscillation=line.guidance.oscillate_text,
            image_oscillation=line.guidance.oscillate_image,
            dynamic_image=line.guidance.dynamic_image,
            seed=line.seed,
            search_steps=None if search is None else ",".join(map(str, search.steps)),
            candidates=1 if search is None else search.candidates,
            metrics=() if search is None else search.metrics,
        )
