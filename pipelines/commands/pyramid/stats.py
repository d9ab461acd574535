"""`ziggurat stats`: what the clips of a tier or a query are like, as numbers, and in a folder as figures."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from curation import outputs
from curation.pyramid.tiering.retier import opened
from curation.pyramid.tiering.tiers import shown
from curation.stats.gather import gather
from curation.stats.report import Stats
from pipelines.commands.pyramid.conditions import told
from pipelines.commands.pyramid.query import asked, named
from pipelines.figures import canvas, pages

NUMBERS = "stats.json"
"""All numbers, written last into the folder."""


@dataclass(frozen=True, slots=True)
class Request:
    """The arguments of `ziggurat stats`; `wanted` are the conditions as they were typed, `by` own columns."""

    pyramid: str
    wanted: Sequence[str] = ()
    tier: str | None = None
    caption_by: str | None = None
    by: str | None = None
    output: str | None = None


@dataclass(frozen=True, slots=True)
class Answer:
    """What was found, and the names of the files that were written to `output`."""

    stats: Stats
    output: str | None = None
    files: tuple[str, ...] = ()


def stats(request: Request) -> Answer:
    """Look at the clips; where an output is named, write figures and numbers there. A wrong place, and matplotlib that
    is missing, are told before anything is read.
    """
    opened(request.pyramid)
    return answer(request.output, lambda: _gathered(request))


def answer(output: str | None, find: Callable[[], Stats]) -> Answer:
    """What `find` finds, with figures and numbers in the folder `output`, whose place is looked at first."""
    if output is None:
        return Answer(find())
    canvas.check()
    with outputs.new_folder(output, NUMBERS) as (folder, mark):
        found = find()
        names: list[str] = []
        for name, content in pages.drawn(found):
            folder.add(name, content)
            names.append(name)
        mark.write((json.dumps(found.to_data(), indent=1) + "\n").encode())
    return Answer(found, output, (*names, NUMBERS))


def _gathered(request: Request) -> Stats:
    pyramid = opened(request.pyramid)
    query = pyramid.query().where(**asked(pyramid, request.wanted))
    words = told(request.wanted)
    if request.tier is not None:
        query = query.tier(request.tier)
        bounds = pyramid.tiers.effective(request.tier).items()
        words = (*(f"{column} {shown(bound)}" for column, bound in bounds), *words)
    if request.caption_by is not None:
        query = query.captions_by(*named(request.caption_by))
    return gather(query, request.tier, words, named(request.by) if request.by is not None else ())
