"""What may be asked for as a job: a command of `ziggurat submit` on the served pyramid, its arguments each with a type.

    JSON or a form -> one of `Wanted` -> [words: values judged by `Bounds`] -> the words of a command line

There is no field by which code or a recipe comes in. A value is never an option: it stands behind `--name=`, or behind
`--`. The command's own parser reads the words again before anything is sent.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

from curation.contract import Reason
from curation.errors import UserError
from pipelines.api import problems
from pipelines.commands.jobs.bounds import Bounds

Text = Annotated[str, Field(min_length=1, max_length=4096, pattern=r"^[^\x00-\x1f\x7f]+$")]
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9_][A-Za-z0-9_.-]{0,79}$")]
Texts = Annotated[list[Text], Field(min_length=1, max_length=100)]
Names = Annotated[list[Name], Field(max_length=100)]
Count = Annotated[int, Field(ge=1, le=1 << 31)]
Processes = Annotated[int, Field(ge=1, le=10_000)]
Again = Annotated[bool, Field(description="Try again also what failed by the fault of the data.")]
To = Annotated[Text, Field(description="Where it goes: a folder or URI in a root, in no pyramid.")]


class Command(BaseModel):
    """A command, and its arguments but for the pyramid, which is the served one."""

    model_config = ConfigDict(extra="forbid")
    told: ClassVar[str] = ""
    """What it does, in a line."""

    def words(self, here: Bounds) -> list[str]:
        """The command line after `ziggurat`. ProblemError: a value is out of bounds."""
        raise NotImplementedError


class Curate(Command):
    model_config = ConfigDict(json_schema_extra={"example": {"command": "curate", "sources": ["/videos/day1"]}})
    told = "Curate sources into this pyramid, by its own recipe"
    command: Literal["curate"]
    sources: Annotated[
        Texts, Field(description="Files, folders, globs, lists or URIs in one root; what lists and links lead to, too.")
    ]
    sidecars: Annotated[
        Literal["txt", "json", "txt,json", "json,txt"] | None, Field(description="Captions from such files beside.")
    ] = None
    retry: Again = False

    def words(self, here: Bounds) -> list[str]:
        with _about("sources"):
            sources, root = here.sources(self.sources)
        options = _said(to=here.place, root=root, sidecars=self.sidecars, retry=self.retry)
        return ["curate", *options, "--", *sources]


class Fill(Command):
    told = "Fill the scores that clips lack, and cut what the recipe's tier keeps"
    command: Literal["fill"]
    retry: Again = False

    def words(self, here: Bounds) -> list[str]:
        return ["curate", *_said(fill=True, retry=self.retry), "--", here.place]


class Cut(Command):
    told = "Encode the clips of a tier that are only measured"
    command: Literal["cut"]
    tier: Annotated[Text, Field(max_length=200)]
    retry: Again = False

    def words(self, here: Bounds) -> list[str]:
        with _about("tier"):
            tier = here.tier(self.tier)
        return ["cut", *_said(tier=tier, retry=self.retry), "--", here.place]


class Caption(Command):
    told = "Have models caption clips, as the pyramid's recipe says"
    command: Literal["caption"]
    names: Annotated[Names, Field(description="Blocks of the recipe's [[captions]]; all of them by default.")] = []
    limit: Annotated[Count | None, Field(description="At most so many clips of each block.")] = None
    retry: Again = False

    def words(self, here: Bounds) -> list[str]:
        return ["caption", *_said(limit=self.limit, retry=self.retry), "--", here.place, *self.names]


class Embed(Command):
    told = "Make the vectors by which clips are searched"
    command: Literal["embed"]
    spaces: Annotated[Names, Field(description="Spaces of the recipe; all of them by default.")] = []
    retry: Again = False

    def words(self, here: Bounds) -> list[str]:
        return ["embed", *_said(retry=self.retry), "--", here.place, *self.spaces]


class Duplicates(Command):
    told = "Say of every clip whose copy it is"
    command: Literal["duplicates"]
    retry: Again = False

    def words(self, here: Bounds) -> list[str]:
        return ["duplicates", *_said(retry=self.retry), "--", here.place]


class Clusters(Command):
    told = "Gather clips into clusters of one kind"
    command: Literal["clusters"]
    again: Annotated[bool, Field(description="Make the clusters anew, of the vectors that there are now.")] = False
    retry: Again = False

    def words(self, here: Bounds) -> list[str]:
        return ["clusters", *_said(again=self.again, retry=self.retry), "--", here.place]


class Retry(Command):
    told = "Try again the videos that ended for a reason"
    command: Literal["retry"]
    reason: Reason

    def words(self, here: Bounds) -> list[str]:
        return ["retry", *_said(reason=self.reason), "--", here.place]


class Encode(Command):
    model_config = ConfigDict(
        json_schema_extra={
            "example": {"command": "encode", "manifest": "first", "model": "tiny", "to": "/training/latents"}
        }
    )
    told = "Encode a manifest's samples as latents and text states"
    command: Literal["encode"]
    manifest: Name
    model: Annotated[Text, Field(description="The name of one that ships, or a .toml file in a root.")]
    to: To

    def words(self, here: Bounds) -> list[str]:
        with _about("manifest"):
            manifest = here.manifest(self.manifest)
        with _about("model"):
            model = here.model(self.model)
        with _about("to"):
            to = here.new(self.to)
        return ["encode", *_said(model=model, to=to), "--", manifest]


class Train(Command):
    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "command": "train",
                "manifest": "first",
                "latents": "/training/latents",
                "model": "tiny",
                "preset": "tiny",
                "to": "/training/runs/first",
            }
        }
    )
    told = "Train a network on a manifest"
    command: Literal["train"]
    manifest: Name
    latents: Annotated[Text | None, Field(description="Where `encode` has put them, in a root.")] = None
    stream: Annotated[Processes | None, Field(description="Instead: so many workers encode meanwhile.")] = None
    model: Annotated[Text, Field(description="The name of one that ships, or a .toml file in a root.")] = "tiny"
    preset: Annotated[Text, Field(description="The name of one that ships, or a .toml file in a root.")] = "tiny"
    steps: Annotated[Count | None, Field(description="Until so many in all; the preset's by default.")] = None
    changes: Annotated[list[Text], Field(max_length=100, description="KEY=VALUE of the preset.")] = []
    engine: Literal["single", "ddp", "fsdp2", "colossal-1", "colossal-2"] | None = None
    workers: Annotated[Processes | None, Field(description="Processes, a GPU each; without, the job's own.")] = None
    min_workers: Annotated[Processes | None, Field(description="Of workers: go on with so few.")] = None
    restarts: Annotated[int | None, Field(ge=0, le=1000, description="Of workers: how often.")] = None
    to: Annotated[Text, Field(description="The run's folder, in a root; where it holds a run, that goes on.")]

    def words(self, here: Bounds) -> list[str]:
        with _about("manifest"):
            manifest = here.manifest(self.manifest)
        with _about("latents"):
            latents = None if self.latents is None else here.there(self.latents)
        with _about("model"):
            model = here.model(self.model)
        with _about("preset" if not self.changes else "changes"):
            preset = here.preset(self.preset, self.changes)
        with _about("to"):
            to = here.new(self.to, local=True)
        options = _said(to=to, latents=latents, stream=self.stream, model=model, preset=preset, steps=self.steps)
        options += _said(set=self.changes, engine=self.engine, workers=self.workers)
        options += _said(min_workers=self.min_workers, restarts=self.restarts)
        return ["train", *options, "--", manifest]


COMMANDS: tuple[type[Command], ...] = (
    Curate,
    Fill,
    Cut,
    Caption,
    Embed,
    Duplicates,
    Clusters,
    Retry,
    Encode,
    Train,
)
Wanted = Annotated[
    Curate | Fill | Cut | Caption | Embed | Duplicates | Clusters | Retry | Encode | Train,
    Field(discriminator="command"),
]
WANTED: TypeAdapter[Command] = TypeAdapter(Wanted)


@contextmanager
def _about(field: str) -> Iterator[None]:
    """What is out of bounds in this block, as a problem that names the field."""
    try:
        yield
    except UserError as error:
        raise problems.of(error, field) from None


def _said(**options: Any) -> list[str]:
    """Options as a command line has them; what is None or False is left out."""
    found: list[str] = []
    for name, value in options.items():
        option = f"--{name.replace('_', '-')}"
        if value is True:
            found.append(option)
        elif value is not None and value is not False:
            values = value if isinstance(value, Sequence) and not isinstance(value, str) else [value]
            found += [f"{option}={one}" for one in values]
    return found
