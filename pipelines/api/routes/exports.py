"""`/exports`: clips in a layout that a trainer reads, written to a place in the roots as `ziggurat export` does."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated, Literal

from fastapi import APIRouter, Body, Path
from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from curation.errors import UserError
from curation.exports.layouts import LAYOUTS
from pipelines.api import problems
from pipelines.api.guard import Service, Submitter
from pipelines.api.routes.shards import published
from pipelines.api.served import Served
from pipelines.api.shapes import Row
from pipelines.api.tokens import Token
from pipelines.api.wanted import Text
from pipelines.commands.pyramid import exporting
from pipelines.commands.pyramid.export import Request
from training.data.bucket_table import PRESETS

router = APIRouter(tags=["exports"])
ExportId = Annotated[str, Path(pattern=r"^export-[0-9a-f-]{1,40}$", description="The id of an export.")]
Layout = Annotated[str, Field(json_schema_extra={"enum": [*LAYOUTS]})]


class WantedExport(BaseModel):
    """An export: of a tier, or of conditions as in `/clips`. The same once more goes on where it stopped."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={"example": {"layout": "webdataset", "output": "/training/shards", "tier": "256px"}},
    )
    layout: Annotated[Layout, AfterValidator(lambda name: _layout(name))]
    output: Annotated[Text, Field(description="A new folder or prefix in a root, in no pyramid.")]
    tier: Annotated[str | None, Field(max_length=200)] = None
    where: Annotated[dict[str, str], Field(max_length=100)] = {}
    caption_by: Annotated[str | None, Field(max_length=500)] = None
    names: Annotated[Text, Field(max_length=200, description="Of the files, as {source}_{shot}_{clip_id}.")] = (
        "{clip_id}"
    )
    buckets: Annotated[str, AfterValidator(published), Field(json_schema_extra={"enum": [*PRESETS]})] | None = None
    seed: Annotated[int, Field(ge=0, lt=1 << 32)] = 42


class Export(BaseModel):
    """An export of this service. `clips`: in files so far, of `total` of the query; `exported`: what is there, of one
    that is done; `why`: what ended one that failed.
    """

    id: str
    state: Literal["running", "done", "cancelled", "failed"]
    layout: str
    output: str
    clips: int
    total: int
    by: str
    began: str
    ended: str | None
    exported: Row | None
    why: str | None


class Exports(BaseModel):
    """The newest first."""

    exports: list[Export]


@router.get("/exports")
def exports(here: Service) -> Exports:
    """What this service has been asked for since its start."""
    return Exports(exports=[_row(one) for one in reversed(here.exports.listed())])


@router.post("/exports", status_code=201)
def export(wanted: Annotated[WantedExport, Body()], here: Service, who: Submitter) -> Export:
    """Begin an export, which the service writes in the background: two at once at most."""
    return _row(begun(wanted, here, who))


@router.get("/exports/{name}")
def one(name: ExportId, here: Service) -> Export:
    """One export, and how far it is."""
    return _row(here.exports.one(name))


@router.post("/exports/{name}/cancel")
def cancel(name: ExportId, here: Service) -> Export:
    """Have an export end after the part that it writes; what is written stays."""
    return _row(here.exports.cancel(name))


def begun(wanted: WantedExport, here: Served, who: Token) -> exporting.Export:
    """An export that is at work, for the page as well."""
    try:
        output = here.bounds().new(wanted.output)
    except UserError as error:
        raise problems.of(error, "output") from None
    where = tuple(f"--{column}={value}" for column, value in wanted.where.items())
    how = (wanted.tier, wanted.caption_by, wanted.names, wanted.buckets, wanted.seed)
    return here.exports.begin(Request(here.place, wanted.layout, output, where, *how), who.name)


def _layout(name: str) -> str:
    if name not in LAYOUTS:
        raise ValueError(f"there are {', '.join(LAYOUTS)}")
    return name


def _row(one: exporting.Export) -> Export:
    return Export(**asdict(one))
