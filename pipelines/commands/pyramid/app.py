"""Commands that look at a pyramid, as the command line reads them: `stats`, `export`, `replay`. `cli` takes them in,
and has the others.
"""

from __future__ import annotations

from typing import Annotated

import typer

from pipelines.commands.options import CaptionByOption, JsonOption, PyramidArg
from pipelines.commands.server import Answered

app = typer.Typer()


@app.command(cls=Answered, context_settings={"allow_extra_args": True, "ignore_unknown_options": True})
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
    from pipelines.commands.answers import at
    from pipelines.commands.pyramid.stats import Request
    from pipelines.render import stats as render

    render.stats(at(pyramid).stats(Request(pyramid, tuple(context.args), tier, caption_by, by, output)), as_json)


@app.command(context_settings={"allow_extra_args": True, "ignore_unknown_options": True})
def export(
    context: typer.Context,
    pyramid: PyramidArg,
    layout: Annotated[
        str,
        typer.Option("--as", metavar="LAYOUT", help="jsonl, parquet, finetrainers, pairs, fiftyone or webdataset."),
    ],
    output: Annotated[str, typer.Option("--output", "-o", help="A new folder, or one to go on with; path or URI.")],
    tier: Annotated[str | None, typer.Option(help="Only clips of this tier.")] = None,
    names: Annotated[str, typer.Option(help="Names of the files, as '{source}_{shot}_{clip_id}'.")] = "{clip_id}",
    buckets: Annotated[
        str | None, typer.Option(metavar="TABLE", help="Of webdataset: part it by the buckets of this table.")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of --buckets: as in `freeze`.")] = 42,
    caption_by: CaptionByOption = None,
    as_json: JsonOption = False,
) -> None:
    """Export clips, by ranges as in `query`, in the layout that a trainer reads. Run it again to go on."""
    from pipelines.commands.pyramid.export import Request, export
    from pipelines.render import exports as render

    request = Request(pyramid, layout, output, tuple(context.args), tier, caption_by, names, buckets, seed)
    with render.exporting(as_json) as told:
        found = export(request, told)
    render.exported(found, as_json)


@app.command()
def replay(
    pyramid: PyramidArg,
    name: Annotated[str, typer.Argument(help="A clip's id or the beginning of it; of a video for `measure`.")],
    stage: Annotated[str, typer.Option(help="measure, a filter's name, cut, 'caption NAME' or 'embed NAME'.")],
    run: Annotated[str | None, typer.Option(help="By the recipe of this run, in place of the pyramid's.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Run one stage on one video or clip alone, and show what comes of it beside what is stored."""
    from pipelines.commands.pyramid.replay import Request, replay
    from pipelines.render import replay as render

    found = replay(Request(pyramid, name, stage, run))
    render.replay(found, as_json)
    if found.fault is not None:
        raise typer.Exit(1)
