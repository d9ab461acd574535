"""Commands that look at a pyramid, as the command line reads them: `stats`. `cli` takes them in, and has the others."""

from __future__ import annotations

from typing import Annotated

import typer

from pipelines.commands.options import CaptionByOption, JsonOption, PyramidArg

app = typer.Typer()


@app.command(context_settings={"allow_extra_args": True, "ignore_unknown_options": True})
def stats(
    context: typer.Context,
    pyramid: PyramidArg,
    tier: Annotated[str | None, typer.Option(help="Only clips of this tier.")] = None,
    output: Annotated[
        str | None,
        typer.Option("--output", "-o", help="A new folder for stats.json and figures (PNG, SVG); path or URI."),
    ] = None,
    by: Annotated[
        str | None, typer.Option(metavar="COLUMN[,COLUMN...]", help="Count clips also by columns of your lists.")
    ] = None,
    caption_by: CaptionByOption = None,
    as_json: JsonOption = False,
) -> None:
    """Tell what clips are like, of a tier or of ranges as in `query`: scores, lengths, shapes, captions, sources."""
    from pipelines.commands.pyramid.stats import Request, stats
    from pipelines.render import stats as render

    render.stats(stats(Request(pyramid, tuple(context.args), tier, caption_by, by, output)), as_json)
