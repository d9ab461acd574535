"""A prompt file: a TOML file that says what a model is asked about a clip (docs/captions.md). Read here, checked by
pydantic, turned into a `Prompt`.
"""

from __future__ import annotations

from pathlib import Path

from pydantic import Field, field_validator, model_validator

from curation.caption.prompts import Aspect, Prompt
from pipelines.config import tomlfile
from pipelines.config.tomlfile import Section

SHIPPED = Path(__file__).parent / "prompts"


class AspectSection(Section):
    """One field that the model fills in."""

    name: str = Field(pattern=r"^[a-z][a-z0-9_]{0,31}$")
    """What the field is called."""
    ask: str = Field(min_length=1)
    """What it shall hold."""


class PromptFile(Section):
    """A whole prompt file."""

    version: int = Field(ge=1)
    """Raise it where the prompt has changed."""
    system: str = ""
    """The system message of every request."""
    ask: str = Field(min_length=1)
    """What is asked with the pictures: for the aspects, or without any for the caption itself."""
    fuse: str = ""
    """What is asked for afterwards, with the aspects: `dense` and `short`."""
    length: str = ""
    """A sentence for the clip's length, which stands where it says `{value}`."""
    motion: str = ""
    """The same for its motion score."""
    aspects: tuple[AspectSection, ...] = ()
    """The fields of the first answer, in order."""

    @field_validator("aspects")
    @classmethod
    def _apart(cls, value: tuple[AspectSection, ...]) -> tuple[AspectSection, ...]:
        names = [one.name for one in value]
        if twice := next((name for name in names if names.count(name) > 1), None):
            raise ValueError(f"the aspect {twice!r} is given twice")
        return value

    @model_validator(mode="after")
    def _one_way(self) -> PromptFile:
        if bool(self.aspects) != bool(self.fuse.strip()):
            raise ValueError("aspects and fuse go together: the fields of the first answer, and how they are fused")
        return self


def load(name_or_path: str) -> Prompt:
    """A prompt by path, or by the name of one that ships. `UserError` where there is none."""
    read = tomlfile.load(name_or_path, PromptFile, SHIPPED, "prompt")
    aspects = tuple(Aspect(one.name, one.ask) for one in read.aspects)
    return Prompt(
        Path(name_or_path).stem,
        read.version,
        read.ask.strip(),
        read.system.strip(),
        aspects,
        read.fuse.strip(),
        read.length,
        read.motion,
    )
