"""Commands about clips that are alike: `embed`, `duplicates`, `clusters`, `search`. `cli` takes them in; each calls one
function of the library.
"""

from __future__ import annotations

from typing import Annotated

import typer

from pipelines.commands.options import AddressOption, CpusOption, JsonOption, PyramidArg, RetryOption
from pipelines.commands.server import Answered

app = typer.Typer()


@app.command()
def embed(
    pyramid: PyramidArg,
    spaces: Annotated[
        list[str] | None,
        typer.Argument(metavar="SPACE", help="A space of the recipe: picture, text, ...; all of it by default."),
    ] = None,
    address: AddressOption = None,
    cpus: CpusOption = None,
    retry: RetryOption = False,
    as_json: JsonOption = False,
) -> int:
    """Make the vectors that clips lack, by which they are searched. Run it again to go on where it stopped."""
    from pipelines.execution import jobs

    options = jobs.Options(address=address, cpus=cpus, retry=retry, as_json=as_json)
    return jobs.run_embed(pyramid, spaces or (), options)


@app.command()
def duplicates(
    pyramid: PyramidArg,
    address: AddressOption = None,
    cpus: CpusOption = None,
    retry: RetryOption = False,
    as_json: JsonOption = False,
) -> int:
    """Say of every clip how much it looks like a better one, and whose copy it is. Nothing is deleted."""
    from pipelines.execution import jobs

    return jobs.run_duplicates(pyramid, jobs.Options(address=address, cpus=cpus, retry=retry, as_json=as_json))


@app.command()
def clusters(
    pyramid: PyramidArg,
    again: Annotated[
        bool, typer.Option("--again", help="Make the clusters anew, of the vectors there are now.")
    ] = False,
    address: AddressOption = None,
    cpus: CpusOption = None,
    retry: RetryOption = False,
    as_json: JsonOption = False,
) -> int:
    """Gather clips into clusters of one kind, and say of each how crowded its cluster is, which a tier may bound."""
    from pipelines.execution import jobs

    options = jobs.Options(address=address, cpus=cpus, retry=retry, as_json=as_json)
    return jobs.run_clusters(pyramid, again, options)


@app.command(cls=Answered, context_settings={"allow_extra_args": True, "ignore_unknown_options": True})
def search(
    context: typer.Context,
    pyramid: PyramidArg,
    text: Annotated[str | None, typer.Argument(help="What is searched for, in words.")] = None,
    like: Annotated[
        str | None, typer.Option(metavar="CLIP", help="Clips like this one; its id or the beginning.")
    ] = None,
    image: Annotated[str | None, typer.Option(metavar="FILE", help="Clips like this picture.")] = None,
    space: Annotated[str | None, typer.Option(help="The space of vectors to search in.")] = None,
    tier: Annotated[str | None, typer.Option(help="Only clips of this tier.")] = None,
    limit: Annotated[int, typer.Option(min=1, help="At most this many clips.")] = 20,
    columns: Annotated[str | None, typer.Option(help="Columns, separated by commas.")] = None,
    output: Annotated[
        str | None,
        typer.Option("--output", "-o", help="A .jsonl, .csv or .parquet file, or a folder for mp4 files; path or URI."),
    ] = None,
    names: Annotated[
        str | None, typer.Option(help="Names of the mp4 files, as '{source}_{shot}_{clip_id}'; {clip_id} by default.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Search clips by words, by a clip or by a picture; with ranges as in `query`: --aesthetic 4.5.. --source NAME."""
    from pipelines.commands.answers import at
    from pipelines.commands.similar import search
    from pipelines.render import similar as render

    wanted, words = search.arguments(text, context.args)
    request = search.Request(pyramid, words, like, image, space, wanted, tier, limit, columns, output, names)
    render.search(at(pyramid).search(request), as_json, columns is not None)
