"""`/decisions` and `/tags`: what people say of clips, in the name of whoever the token is of."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Body
from pydantic import BaseModel, ConfigDict, Field

from curation.pyramid.review.words import Decision
from pipelines.api.guard import Here, Writer
from pipelines.api.shapes import Row, plain
from pipelines.commands.review import saying

router = APIRouter(tags=["review"])
ClipId = Annotated[str, Field(pattern=r"^[0-9A-Za-z_-]{1,80}$")]
Text = Annotated[str, Field(max_length=2000)]


class Meant(BaseModel):
    """Of which clips something is said: those with these ids, or all that a tier and conditions as in `/clips` keep."""

    model_config = ConfigDict(extra="forbid")
    clips: list[ClipId] = Field(default_factory=list, max_length=10_000)
    where: dict[str, Text] = Field(default_factory=dict, max_length=100)
    tier: Text | None = None

    def of(self, pyramid: str, by: str) -> saying.Request:
        wanted = tuple(f"--{column}={value}" for column, value in self.where.items())
        return saying.Request(pyramid, self.clips, wanted, self.tier, by)


class ADecision(Meant):
    """`keep`, `drop`, or null to take back what was decided."""

    model_config = ConfigDict(
        extra="forbid", json_schema_extra={"example": {"decision": "drop", "clips": ["0c939f5a"]}}
    )
    decision: Decision | None


class SomeTags(Meant):
    """Tags that come, and tags that go."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"example": {"add": ["sunset"], "clips": ["0c939f5a"]}})
    add: list[Text] = Field(default_factory=list, max_length=100)
    remove: list[Text] = Field(default_factory=list, max_length=100)


class Said(BaseModel):
    """What that has changed. `same`: clips of which it was said already, which stays whose it was; `missing`: clips
    that are not there any more; `replaced`: decisions that gave way, of which `told` has the first, with who and when.
    """

    said: str
    by: str
    changed: int
    same: int
    missing: list[str]
    replaced: int
    told: list[Row]
    notes: list[str]


@router.post("/decisions")
def decide(meant: Annotated[ADecision, Body()], pyramid: Here, writer: Writer) -> Said:
    """Keep clips, drop them, or take that back. Of two decisions on a clip the later stands."""
    return _said(saying.decide(meant.of(pyramid.uri, writer.name), meant.decision))


@router.post("/tags")
def tag(meant: Annotated[SomeTags, Body()], pyramid: Here, writer: Writer) -> Said:
    """Add tags to clips, and remove some."""
    return _said(saying.tag(meant.of(pyramid.uri, writer.name), meant.add, meant.remove))


def _said(answer: saying.Answer) -> Said:
    return Said.model_validate(plain(answer.as_data()))
