"""How the answers of the service's commands are shown."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table

if TYPE_CHECKING:
    from pipelines.api.tokens import Token
    from pipelines.commands.service.serve import Started
    from pipelines.commands.service.tokens import Answer


def started(found: Started, as_json: bool) -> None:
    """Of `serve.serve`, before the first request."""
    if as_json:
        print(json.dumps({"address": found.address, "link": found.link}), flush=True)
        return
    print(found.link, flush=True)
    print(f"the service answers at {found.address}; the link above opens it once; Ctrl-C ends it", file=sys.stderr)


def tokens(answer: Answer, as_json: bool) -> None:
    """Of `tokens.tokens`."""
    from pipelines.api.tokens import shown

    if as_json:
        rows = answer.tokens if answer.made is None else (answer.made,)
        for token in rows:
            print(json.dumps(shown(token) | ({"token": answer.text} if answer.made else {})))
    elif answer.made is not None:
        print(answer.text)
        print(f"this is shown once; {answer.made.id} revokes it", file=sys.stderr)
    elif answer.revoked is not None:
        print(f"{answer.revoked.id} ({answer.revoked.name}) is revoked")
    else:
        _table(answer.tokens)


def _table(found: tuple[Token, ...]) -> None:
    table = Table("id", "name", "scopes", "made", "ends", box=None, pad_edge=False)
    for token in found:
        table.add_row(token.id, token.name, ", ".join(token.scopes), token.made, token.ends or "never")
    Console(markup=False, soft_wrap=True).print(table)
