"""Arguments that several commands have, as the command line reads them."""

from __future__ import annotations

from typing import Annotated

import typer

PyramidArg = Annotated[str, typer.Argument(metavar="PYRAMID", help="Folder or URI of the pyramid.")]
JsonOption = Annotated[bool, typer.Option("--json", help="One JSON object a line on standard output.")]
CaptionByOption = Annotated[
    str | None,
    typer.Option(
        metavar="MAKER[,MAKER...]",
        help="Captions of the first of these makers that has one (NAME, NAME/MODEL, given); else the one in force.",
    ),
]
RetryOption = Annotated[bool, typer.Option("--retry", help="Try again also what failed by the fault of the data.")]
AddressOption = Annotated[str | None, typer.Option(help="A Ray cluster to join; without it, a local Ray.")]
CpusOption = Annotated[int | None, typer.Option(min=1, help="Processors for a local Ray; all by default.")]
