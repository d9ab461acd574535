"""Commands by which people speak of clips, as the command line reads them. `cli` takes them in."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from curation.pyramid.review.words import Decision
from pipelines.commands.options import JsonOption, PyramidArg

if TYPE_CHECKING:
    from pipelines.commands.review.saying import Request

app = typer.Typer()
_OPEN = {"allow_extra_args": True, "ignore_unknown_options": True}
ClipsArg = Annotated[list[str] | None, typer.Argument(metavar="CLIP...", help="Ids of clips, or beginnings of them.")]
TierOption = Annotated[str | None, typer.Option(help="In the place of ids: all clips of this tier.")]
ByOption = Annotated[str | None, typer.Option(metavar="NAME", help="Who says so; you, by default.")]


@app.command(context_settings=_OPEN)
def keep(
    pyramid: PyramidArg,
    clips: ClipsArg = None,
    tier: TierOption = None,
    by: ByOption = None,
    as_json: JsonOption = False,
) -> None:
    """Keep clips, by ids or by ranges as in `query` (--motion 1..8): say that a person has seen them and wants them."""
    _decide(pyramid, clips, tier, by, as_json, Decision.KEEP)


@app.command(context_settings=_OPEN)
def drop(
    pyramid: PyramidArg,
    clips: ClipsArg = None,
    tier: TierOption = None,
    by: ByOption = None,
    as_json: JsonOption = False,
) -> None:
    """Drop clips, by ids or by ranges as in `query`: they are in no tier any more. Nothing is deleted."""
    _decide(pyramid, clips, tier, by, as_json, Decision.DROP)


@app.command(context_settings=_OPEN)
def undecide(
    pyramid: PyramidArg,
    clips: ClipsArg = None,
    tier: TierOption = None,
    by: ByOption = None,
    as_json: JsonOption = False,
) -> None:
    """Take back what was decided of clips, by ids or as --decision drop says."""
    _decide(pyramid, clips, tier, by, as_json, None)


@app.command(context_settings=_OPEN)
def tag(
    pyramid: PyramidArg,
    clips: ClipsArg = None,
    add: Annotated[list[str] | None, typer.Option(metavar="TAG", help="A tag to add, or several with commas.")] = None,
    remove: Annotated[list[str] | None, typer.Option(metavar="TAG", help="A tag to take away.")] = None,
    tier: TierOption = None,
    by: ByOption = None,
    as_json: JsonOption = False,
) -> None:
    """Tag clips, by ids or by ranges as in `query`; `query --tagged TAG` finds them."""
    from pipelines.commands.review import saying
    from pipelines.render import review as render

    render.said(saying.tag(_request(pyramid, clips, tier, by), add or (), remove or ()), as_json)


def _decide(
    pyramid: str, clips: list[str] | None, tier: str | None, by: str | None, as_json: bool, decision: Decision | None
) -> None:
    from pipelines.commands.review import saying
    from pipelines.render import review as render

    render.said(saying.decide(_request(pyramid, clips, tier, by), decision), as_json)


def _request(pyramid: str, clips: list[str] | None, tier: str | None, by: str | None) -> Request:
    from pipelines.commands.pyramid.conditions import apart
    from pipelines.commands.review.saying import Request

    wanted, ids = apart(clips or ())
    return Request(pyramid, tuple(ids), tuple(wanted), tier, by)
