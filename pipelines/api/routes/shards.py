"""`/manifests` and `/stats`: what training is given, and what it is like."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Body, Path, Query, Request
from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from pipelines.api.guard import Here, Writing
from pipelines.api.shapes import WHERE, CaptionBy, Row, Tier, conditions, plain
from pipelines.client.wire import OF_STATS
from pipelines.commands.pyramid import stats as counting
from pipelines.commands.pyramid.tiers import plain as as_data
from pipelines.commands.shards import freeze as freezing
from pipelines.commands.shards import manifests as command
from training.data.bucket_table import PRESETS

router = APIRouter(tags=["shards"])
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$")]


def published(name: str) -> str:
    """A bucket table by its name: the command takes a file as well, which a client has no say in."""
    if name not in PRESETS:
        raise ValueError(f"there are {', '.join(PRESETS)}")
    return name


class Wanted(BaseModel):
    """A manifest to be made: of a tier, or of conditions as in `/clips`, by the buckets of a preset."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"example": {"name": "first", "tier": "256px"}})
    name: Name
    tier: str | None = None
    where: dict[str, str] = Field(default_factory=dict, max_length=100)
    preset: Annotated[str, AfterValidator(published)] = Field("stage1", json_schema_extra={"enum": [*PRESETS]})
    seed: int = Field(42, ge=0, lt=1 << 32)
    without_captions: bool = False
    caption_by: str | None = None


class Manifests(BaseModel):
    manifests: list[Row]


@router.get("/manifests")
def manifests(pyramid: Here) -> Manifests:
    """All manifests by name."""
    return Manifests(manifests=[_row(one) for one in command.manifests(pyramid.uri)])


@router.get("/manifests/{name}")
def manifest(name: Annotated[str, Path(max_length=100)], pyramid: Here) -> Row:
    """One manifest, compared with its hash, and with what was taken down since."""
    return _row(command.manifests(pyramid.uri, name)[0])


@router.post("/manifests", status_code=201, dependencies=[Writing])
def freeze(wanted: Annotated[Wanted, Body()], pyramid: Here) -> Row:
    """Freeze clips as a manifest, which training names."""
    where = tuple(f"--{column}={value}" for column, value in wanted.where.items())
    made = freezing.freeze(
        freezing.Request(
            pyramid.uri,
            wanted.name,
            where,
            wanted.tier,
            wanted.preset,
            wanted.seed,
            wanted.without_captions,
            wanted.caption_by,
        )
    )
    return plain(as_data(made))


@router.get("/stats", openapi_extra=WHERE)
def stats(
    request: Request,
    pyramid: Here,
    tier: Tier = None,
    caption_by: CaptionBy = None,
    by: Annotated[str | None, Query(max_length=2000, description="Own columns, with commas between them.")] = None,
) -> Row:
    """What the clips of a query are like: scores, lengths, shapes, captions, sources, reasons."""
    asked = counting.Request(pyramid.uri, conditions(request, *OF_STATS), tier, caption_by, by)
    return plain(counting.stats(asked).stats.to_data())


def _row(one: command.Shown) -> Row:
    return plain(as_data(one))
