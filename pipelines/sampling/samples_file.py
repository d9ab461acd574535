"""`samples.jsonl`: one line a video, with all that makes it again. `sampling` writes them, `sample --again` reads them.

A line names its model, its references and its video by SHA-256 too, so that what has changed since is told. The files
of a model's weights are named in the model file and not read for it.
"""

from __future__ import annotations

import hashlib
import sys
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from curation.errors import UserError
from pipelines.config import modelfile

NAME = "samples.jsonl"
_REMEDY = f"give a {NAME} that this version wrote, or lines of one"


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Reference(_Part):
    """An image or a video that was started from."""

    path: Path
    sha256: str


class Scales(_Part):
    """`training.sampling.guidance.Guidance` as it was asked for."""

    text: float
    image: float
    oscillate_text: bool
    oscillate_image: bool
    dynamic_image: bool
    whole_steps: int


class RunPart(_Part):
    """The training run whose transformer has made a video: which checkpoint, and the SHA-256 of its head."""

    folder: Path
    step: int
    averages: bool
    sha256: str


class SearchPart(_Part):
    """`training.sampling.search.Search`, and the metrics that judged."""

    steps: tuple[int, ...]
    candidates: int
    noise: float
    reach: float
    metrics: tuple[str, ...]


class Line(_Part):
    """How one video was made. `worded`: the prompt as the network read it; `found`: what a search saw."""

    file: str
    sha256: str
    prompt: str
    worded: str
    seed: int = Field(ge=0)
    model: str
    model_sha256: str
    run: RunPart | None = None
    torch: str
    device: str
    kind: str
    references: tuple[Reference, ...]
    fit: Literal["error", "crop"]
    via_image: bool
    frames: int
    height: int
    width: int
    fps: int
    motion: int
    negative: str
    steps: int
    guidance: Scales
    search: SearchPart | None = None
    found: dict[str, Any] | None = None

    def check_sources(self) -> None:
        """UserError where the model file or a reference is not what it was."""
        if self.model_sha256 != of_model(modelfile.load(self.model)):
            raise UserError(f"the model file {self.model} has changed since {self.file} was made", "give it back")
        for reference in self.references:
            if not reference.path.is_file():
                raise UserError(f"{reference.path}, which {self.file} starts from, is gone", "put it back")
            if of_file(reference.path) != reference.sha256:
                raise UserError(f"{reference.path} has changed since {self.file} was made", "put it back as it was")


def read(source: str) -> tuple[Line, ...]:
    """The lines of a file, or of standard input for "-". UserError: it cannot be read, or a line is of no such form."""
    try:
        text = sys.stdin.read() if source == "-" else Path(source).read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"cannot read {source}: {error}", _REMEDY) from None
    lines = [(number, line) for number, line in enumerate(text.splitlines(), 1) if line.strip()]
    if not lines:
        raise UserError(f"{source} has no line", _REMEDY)
    return tuple(_parsed(source, number, line) for number, line in lines)


def _parsed(source: str, number: int, line: str) -> Line:
    try:
        return Line.model_validate_json(line)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        key = ".".join(str(part) for part in first["loc"]) or "it"
        raise UserError(f"line {number} of {source}: {key}: {first['msg']}", _REMEDY) from None


def of_file(path: Path) -> str:
    """SHA-256 of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def of_model(model: modelfile.ModelFile) -> str:
    """SHA-256 of what a model file says."""
    return hashlib.sha256(model.model_dump_json().encode()).hexdigest()
