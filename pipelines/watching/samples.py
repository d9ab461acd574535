"""The videos that were sampled of a run's checkpoints, `RUN/samples/step-N/`, each with the prompt that it is of.

Only what a folder's list names is there, and only as a file of that very folder.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from curation.errors import NotThereError
from pipelines.sampling.samples_file import NAME
from pipelines.watching.folders import within

FOLDER = "samples"
_STEP = re.compile(r"step-(\d{10})")
_FILE = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,200}\.(mp4|png|jpg)")


@dataclass(frozen=True, slots=True)
class Sample:
    """One video (an image, of one frame), and how it was made."""

    step: int
    file: str
    prompt: str
    seed: int
    width: int
    height: int
    frames: int
    fps: int


def samples(folder: Path) -> list[Sample]:
    """All of a run, the last step first. A line that is damaged is left out, and so is a file that is not there."""
    return [one for step in sorted(_steps(folder), reverse=True) for one in _of_step(folder, step)]


def film(folder: Path, step: int, file: str) -> Path:
    """The file of a sample. NotThereError: no list names it, or it is gone."""
    path = _file(folder, step, file)
    if path is None or not any(one.file == file for one in _of_step(folder, step)):
        raise NotThereError(f"the run has no sample {file[:80]!r} of step {step}", "GET /api/training/samples has all")
    return path


def _steps(folder: Path) -> Iterator[int]:
    for path in (folder / FOLDER).glob("step-*"):
        if found := _STEP.fullmatch(path.name):
            yield int(found[1])


def _of_step(folder: Path, step: int) -> Iterator[Sample]:
    path = within(folder, FOLDER, f"step-{step:010}", NAME)
    lines = [] if path is None else path.read_text(encoding="utf-8", errors="replace").splitlines()
    for line in lines:
        try:
            said = json.loads(line)
            numbers = {name: int(said[name]) for name in ("seed", "width", "height", "frames", "fps")}
            one = Sample(step, str(said["file"]), str(said["prompt"]), **numbers)
        except (ValueError, KeyError, TypeError, OverflowError):
            continue  # the last line of a list that is being written, or one of another version
        if _file(folder, step, one.file) is not None:
            yield one


def _file(folder: Path, step: int, file: str) -> Path | None:
    return within(folder, FOLDER, f"step-{step:010}", file) if _FILE.fullmatch(file) else None
