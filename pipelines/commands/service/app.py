"""Commands around the service, as the command line reads them: `serve`, `tokens`."""

from __future__ import annotations

from typing import Annotated

import typer

from pipelines.commands.options import JsonOption, PyramidArg

app = typer.Typer()


@app.command()
def serve(
    context: typer.Context,
    pyramid: PyramidArg,
    host: Annotated[str, typer.Option(help="The address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0: any that is free.")] = 8470,
    name: Annotated[
        list[str] | None, typer.Option(metavar="HOST", help="A name that the service is called by, as by a proxy.")
    ] = None,
    without_tokens: Annotated[
        bool, typer.Option("--without-tokens", help="Ask nobody for a token: on loopback alone.")
    ] = False,
    root: Annotated[
        list[str] | None,
        typer.Option(metavar="PLACE", help="Where jobs and exports may read and write: a folder or URI; repeatable."),
    ] = None,
    address: Annotated[
        str | None,
        typer.Option(metavar="URL", help="A cluster's dashboard, http://HEAD:8265, that takes jobs; none without."),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Serve a pyramid over REST until it is stopped."""
    from pipelines.commands.service.serve import Request, serve
    from pipelines.render import service as render

    request = Request(pyramid, host, port, tuple(name or ()), without_tokens, tuple(root or ()), address)
    serve(request, lambda started: render.started(started, as_json), context.find_root().command)


@app.command()
def tokens(
    pyramid: PyramidArg,
    make: Annotated[str | None, typer.Option(metavar="NAME", help="Make a token for whoever is called so.")] = None,
    scopes: Annotated[str, typer.Option(help="Of --make: read, write, submit, admin, with commas between.")] = "read",
    days: Annotated[float | None, typer.Option(min=0, help="Of --make: it ends after so many days.")] = None,
    revoke: Annotated[str | None, typer.Option(metavar="ID", help="Take a token away.")] = None,
    as_json: JsonOption = False,
) -> None:
    """List the tokens of a pyramid's service, make one (it is shown once), or revoke one."""
    from pipelines.commands.service.tokens import tokens
    from pipelines.render import service as render

    render.tokens(tokens(pyramid, make, scopes, days, revoke), as_json)
