"""What `ziggurat sample` was asked for: the command's arguments, or a line of `samples.jsonl` that is made again.

A `Wish` is unchecked; `job` checks it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Literal

from pipelines.sampling.samples_file import Line, RunPart

METRICS = ("aesthetic_quality", "imaging_quality")
"""VBench's metrics that judge candidates where none are named."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OfRun:
    """The folder of a training run, whose transformer takes the place of the model's. `step`: of the checkpoint, None
    for the newest; `averages`: its EMA, None where there is one. `sha256`: of the checkpoint's head, where a line has
    it.
    """

    folder: Path
    step: int | None = None
    averages: bool | None = None
    sha256: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """The command's arguments, with its defaults; None where the user said nothing."""

    prompts: tuple[str, ...]
    model: str
    run: OfRun | None = None
    resolution: str = "256px"
    aspect: str = "16:9"
    size: str | None = None
    frames: int = 32
    fps: int = 24
    motion: int = 4
    negative: str = ""
    kind: str | None = None
    references: tuple[Path, ...] = ()
    fit: Literal["error", "crop"] = "crop"
    via_image: bool = False
    steps: int = 50
    guidance: float = 7.5
    image_guidance: float = 3.0
    text_oscillation: bool = True
    image_oscillation: bool = True
    dynamic_image: bool = True
    seed: int = 0
    search_steps: str | None = None
    candidates: int = 3
    metrics: tuple[str, ...] = METRICS

    @classmethod
    def of_command(cls, given: Mapping[str, Any]) -> Wish:
        """What was typed, by the names of the command's parameters."""
        lists = {
            "prompts": tuple(given["prompts"] or ()),
            "references": tuple(map(Path, given["reference"] or ())),
            "metrics": tuple(given["metric"] or METRICS),
        }
        run = given["run"]
        made = {
            **lists,
            "run": None if run is None else OfRun(folder=Path(run), step=given["at_step"], averages=given["averages"]),
        }
        return cls(**made, **{field.name: given[field.name] for field in fields(cls) if field.name not in made})

    @classmethod
    def of_line(cls, line: Line) -> Wish:
        """What makes a recorded video again."""
        search = line.search
        return cls(
            prompts=(line.prompt,),
            model=line.model,
            run=None if line.run is None else _of_run(line.run),
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


def _of_run(part: RunPart) -> OfRun:
    return OfRun(folder=part.folder, step=part.step, averages=part.averages, sha256=part.sha256)
