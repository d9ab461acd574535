"""Commands about a pyramid as a whole: `upkeep`, `merge`, `migrate`, `forget`. `cli` takes them in; each calls one
function of the library.
"""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from curation.errors import UserError
from pipelines.commands.options import JsonOption, PyramidArg

app = typer.Typer()


@app.command()
def upkeep(
    pyramid: PyramidArg,
    keep_days: Annotated[
        float, typer.Option(min=0, max=36500, help="Keep older versions so long for those who read them.")
    ] = 7.0,
    as_json: JsonOption = False,
) -> None:
    """Build indexes, compact small files, remove what killed runs left behind."""
    from pipelines.commands.lifecycle.upkeep import upkeep
    from pipelines.render import upkeep as render_upkeep

    render_upkeep.upkeep(upkeep(pyramid, keep_days), keep_days, as_json)


@app.command()
def merge(
    first: PyramidArg,
    second: PyramidArg,
    to: Annotated[str, typer.Option("--to", metavar="PYRAMID", help="The pyramid to make.")],
    as_json: JsonOption = False,
) -> None:
    """Bring two pyramids of one recipe together in a third; they stay as they are."""
    from pipelines.commands.lifecycle.merge import merge
    from pipelines.render import upkeep as render_upkeep

    render_upkeep.merge(merge(first, second, to), as_json)


@app.command()
def migrate(pyramid: PyramidArg, as_json: JsonOption = False) -> None:
    """Bring a pyramid that an older version made to this version's format; nothing of it is lost."""
    from pipelines.commands.lifecycle.migrate import migrate
    from pipelines.render import upkeep as render_upkeep

    render_upkeep.migrate(migrate(pyramid), as_json)


@app.command()
def forget(
    pyramid: PyramidArg,
    names: Annotated[
        list[str] | None,
        typer.Argument(metavar="NAME|ID", help="Ids of videos or of their clips, URIs, paths or file names."),
    ] = None,
    list_: Annotated[
        str | None, typer.Option("--list", metavar="FILE", help="A text file with a name or an id in each line.")
    ] = None,
    ahead: Annotated[
        bool, typer.Option("--ahead", help="Take ids that the pyramid does not know: their contents never come in.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Do nothing: show what would go.")] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    as_json: JsonOption = False,
) -> int:
    """Take videos down: from every file and version that is not pinned, and so that they never come back."""
    from pipelines.commands.lifecycle import forget as taking_down
    from pipelines.render import takedown as render_takedown

    wanted = taking_down.takedown(pyramid, names or (), list_, ahead)
    if dry_run or not as_json:
        render_takedown.takedown(wanted, as_json)
    if dry_run:
        return 0
    if not yes:
        _ask("take this down for ever?", as_json)
    done = taking_down.forget(wanted)
    render_takedown.forgotten(done, as_json)
    return 1 if done.left else 0


def _ask(question: str, as_json: bool) -> None:
    """Let the person at the terminal agree. UserError where nobody can, or does not."""
    if as_json or not sys.stdin.isatty():
        raise UserError("nothing was done: it cannot be undone", "add --yes, or --dry-run to see what would go")
    if not typer.confirm(question, err=True):
        raise UserError("nothing was done", "say yes, or add --yes")
