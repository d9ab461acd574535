"""How the answer of `ziggurat export` is shown."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console

from curation.exports.export import Exported
from pipelines.render.lines import note


@contextmanager
def exporting(as_json: bool) -> Iterator[Callable[[int], None]]:
    """Shows a person how far it is."""
    if as_json:
        yield lambda _: None
        return
    with Console(stderr=True, markup=False).status("exporting") as shown:
        yield lambda done: shown.update(f"exporting: {done:,} clips")


def exported(found: Exported, as_json: bool) -> None:
    """Of `export.export`."""
    if as_json:
        print(json.dumps(dataclasses.asdict(found) | {"total": found.total}))
        return
    print(f"{found.output}: {found.clips} clips, {found.bytes / 1e6:.1f} MB, as {found.layout}")
    if found.there:
        note(f"{found.there} of {found.there + found.parts} parts were there already")
    for why, many in found.left_out.items():
        note(f"{many} of {found.total} clips are left out: {why}")
    if found.without_caption:
        note(f"{found.without_caption} clips have no caption, and an empty text")
