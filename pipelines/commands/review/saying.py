"""`ziggurat keep`, `drop`, `undecide` and `tag`: what a person says of clips, by their ids or of all of a query.

The command line, REST and the page call the same two functions.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from curation.errors import UserError
from curation.pyramid.history.ledger import starting
from curation.pyramid.queries.query import Query
from curation.pyramid.review import changing, words
from curation.pyramid.review.changing import Changed
from curation.pyramid.review.words import Decision, Retag
from curation.pyramid.storage.lookup import select
from curation.pyramid.store import Pyramid
from curation.pyramid.tiering.retier import opened
from pipelines.commands.pyramid.query import asked, notes
from pipelines.commands.review.who import user

_SHORTEST = 4
"""Digits of an id that are taken for its beginning, at least."""


@dataclass(frozen=True, slots=True)
class Request:
    """Of which clips something is said: those with these ids (or the beginnings of them), or all that a tier and
    conditions, as they were typed, keep. `by`: who says it; None: the user of this machine.
    """

    pyramid: str
    clips: Sequence[str] = ()
    wanted: Sequence[str] = ()
    tier: str | None = None
    by: str | None = None


@dataclass(frozen=True, slots=True)
class Meant:
    """The ids of the clips that are meant, and what is to be known of the query that means them."""

    clips: Iterable[str]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Answer:
    """What was `said`, by whom, what that has changed, and `notes` on it."""

    said: str
    by: str
    changed: Changed
    notes: tuple[str, ...] = ()

    def as_data(self) -> dict[str, Any]:
        """For JSON."""
        changed = dataclasses.asdict(self.changed)
        return {"said": self.said, "by": self.by, **changed, "notes": list(self.notes)}


def decide(request: Request, decision: Decision | None) -> Answer:
    """Keep or drop clips; with None take back what was decided."""
    pyramid, by = opened(request.pyramid), _speaker(request)
    return decided(pyramid, _chosen(pyramid, request), decision, by)


def decided(pyramid: Pyramid, meant: Meant, decision: Decision | None, by: str) -> Answer:
    """The same of clips that are known."""
    changed = changing.decide(pyramid, meant.clips, decision, by)
    return Answer("undecide" if decision is None else str(decision), by, changed, meant.notes)


def tag(request: Request, add: Iterable[str] = (), remove: Iterable[str] = ()) -> Answer:
    """Add tags to clips, and remove some."""
    retag = words.retag(add, remove)
    pyramid, by = opened(request.pyramid), _speaker(request)
    return tagged(pyramid, _chosen(pyramid, request), retag, by)


def tagged(pyramid: Pyramid, meant: Meant, retag: Retag, by: str) -> Answer:
    """The same of clips that are known."""
    said = ", ".join((*retag.add, *(f"-{name}" for name in retag.remove)))
    return Answer(f"tag {said}", by, changing.tag(pyramid, meant.clips, retag, by), meant.notes)


def of_query(query: Query) -> Meant:
    """All clips of a query, as it is now."""
    pinned = query.pinned()
    return Meant(_ids(pinned), tuple(notes(pinned, None)))


def _speaker(request: Request) -> str:
    by = request.by if request.by is not None else user()
    if by is None:
        raise UserError("this machine does not know your name", "give one with --by NAME")
    return words.checked_name(by)


def _chosen(pyramid: Pyramid, request: Request) -> Meant:
    if request.clips and (request.wanted or request.tier):
        raise UserError("clips are named by ids and by conditions at once", "choose one")
    if request.clips:
        return Meant(named(pyramid, request.clips))
    if not request.wanted and request.tier is None:
        raise UserError("no clip is named", "give ids, a --tier, or conditions as in `query`: --source day1.mp4")
    query = pyramid.query().where(**asked(pyramid, request.wanted))
    return of_query(query.tier(request.tier) if request.tier else query)


def _ids(query: Query) -> Iterator[str]:
    for batch in query.columns("clip_id").batches():
        yield from batch["clip_id"].to_pylist()


def named(pyramid: Pyramid, names: Sequence[str]) -> list[str]:
    """The whole ids of clips that are named by them, or by the beginning of one. UserError where a name means no clip
    or several.
    """
    clips, given = pyramid.dataset("clips"), list(dict.fromkeys(names))
    whole = {*select(clips, "clip_id", given, ["clip_id"])["clip_id"].to_pylist()}
    return [name if name in whole else _begun(pyramid, name) for name in given]


def _begun(pyramid: Pyramid, name: str) -> str:
    begins = len(name) >= _SHORTEST and starting(pyramid.dataset("clips"), "clip_id", name, ["clip_id"])
    found = [row["clip_id"] for row in begins or ()]
    if len(found) != 1:
        what = "several clips have" if found else "no clip has"
        raise UserError(f"{what} an id that begins with {name!r:.60}; nothing was changed", "give the whole id")
    return found[0]
