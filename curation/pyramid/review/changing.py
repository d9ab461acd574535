"""Writing what people say of clips: a decision, or tags, of some clips at a time.

    clip ids -> rows that would change -> one transaction (`commits.upsert`) -> what was written, whose word gave way

They are columns of `clips`, so a row is read at one version, changed and written on the condition that nobody else
wrote it since: of two people who speak at once of different clips, or tag one, both are heard. Of two who decide on one
clip the later commit stands, and it is told what it took the place of. The tiers of a clip are judged again with it.
What it costs follows the clips that are named, not the pyramid.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from curation.contract import REVIEW
from curation.pyramid.commits import tail
from curation.pyramid.commits.merge import values
from curation.pyramid.commits.upsert import Upsert
from curation.pyramid.queries.derived import stored
from curation.pyramid.review import words
from curation.pyramid.review.words import Decision, Retag, Word
from curation.pyramid.storage.locks import writing
from curation.pyramid.storage.lookup import chunks, select
from curation.pyramid.store import Pyramid
from curation.pyramid.tiering.retier import rejudge
from curation.pyramid.tiering.tiers import JUDGED, Tiers

AT_ONCE = 5000
"""Clips of a transaction."""
MOST_TOLD = 100
"""Decisions that gave way, of which each is told."""
_FIELDS = {field.name: field for field in REVIEW}
_Change = Callable[[words.Row], dict[str, Any]]


@dataclass(frozen=True, slots=True)
class Replaced:
    """A decision that has given way: what it was, and whose."""

    clip_id: str
    decision: str
    by: str
    at: str


@dataclass(frozen=True, slots=True)
class Changed:
    """What was written. `changed`: clips; `same`: clips of which it was said already, which stays whose it was;
    `missing`: ids of clips that are not there. `replaced`: how many decisions gave way, and `told` the first of them.
    """

    changed: int = 0
    same: int = 0
    missing: tuple[str, ...] = ()
    replaced: int = 0
    told: tuple[Replaced, ...] = ()

    def __add__(self, other: Changed) -> Changed:
        return Changed(
            self.changed + other.changed,
            self.same + other.same,
            (*self.missing, *other.missing),
            self.replaced + other.replaced,
            (*self.told, *other.told)[:MOST_TOLD],
        )


def decide(pyramid: Pyramid, clip_ids: Iterable[str], decision: Decision | None, by: str) -> Changed:
    """Keep or drop clips, or with None take back what was decided of them, in the name of `by`, now."""
    word = Word.now(by)
    return _all(pyramid, clip_ids, lambda row: words.decided(row, decision, word))


def tag(pyramid: Pyramid, clip_ids: Iterable[str], retag: Retag, by: str) -> Changed:
    """Add tags to clips and remove some, in the name of `by`, now."""
    word = Word.now(by)
    return _all(pyramid, clip_ids, lambda row: words.tagged(row, retag, word))


def _all(pyramid: Pyramid, clip_ids: Iterable[str], change: _Change) -> Changed:
    parts = (_some(pyramid, ids, change) for ids in chunks(dict.fromkeys(clip_ids), AT_ONCE))
    return sum(parts, Changed())


def _some(pyramid: Pyramid, clip_ids: list[str], change: _Change) -> Changed:
    rows = _said(pyramid, clip_ids)
    due = [name for name, row in rows.items() if change(row) != words.said(row)]
    missing = tuple(name for name in clip_ids if name not in rows)
    found = Changed(same=len(rows) - len(due), missing=missing)
    if not due:
        return found
    with writing(pyramid.uri):
        tiers = pyramid.refreshed().tiers
        writer = _Writer(change, tiers, pyramid.scores)
        upsert = Upsert(pyramid, "clips", due, writer.unite)
        upsert.run()
        if pyramid.refreshed().tiers != tiers:
            rejudge(pyramid, due)  # a threshold was moved meanwhile
    if upsert.versions is not None and tail.due(*upsert.versions):
        tail.tend(pyramid, "clips")
    return found + writer.done(due)


def _said(pyramid: Pyramid, clip_ids: list[str]) -> dict[str, dict[str, Any]]:
    """What stands of clips, by their ids, of those that are there."""
    dataset = pyramid.dataset("clips")
    columns = ["clip_id", *(name for name in words.COLUMNS if name in dataset.schema.names)]
    return {row["clip_id"]: row for row in select(dataset, "clip_id", clip_ids, columns).to_pylist()}


class _Writer:
    """Changes the rows of one transaction, as often as it is tried; what it last read and wrote is what counts."""

    def __init__(self, change: _Change, tiers: Tiers, scores: Sequence[str]) -> None:
        self._change, self._tiers, self._scores = change, tiers, scores
        self._pairs: dict[str, tuple[Mapping[str, Any], Mapping[str, Any]]] = {}

    def unite(self, old: pa.Table) -> pa.Table:
        """The rows that are there with what was said; none where that changes none of them."""
        needed = ["clip_id", *words.COLUMNS, *self._scores, *stored(JUDGED)]
        rows = old.select([name for name in dict.fromkeys(needed) if name in old.column_names]).to_pylist()
        said = [self._change(row) for row in rows]
        self._pairs = {row["clip_id"]: (words.said(row), now) for row, now in zip(rows, said, strict=True)}
        if all(before == now for before, now in self._pairs.values()):
            return old.slice(0, 0)
        tiers = [self._tiers.highest(values({**row, **now})) for row, now in zip(rows, said, strict=True)]
        new = _with(old, "tier", pa.array(tiers, pa.string()))
        for name, field in _FIELDS.items():
            new = _with(new, name, pa.array([now[name] for now in said], field.type))
        return new

    def done(self, asked: Sequence[str]) -> Changed:
        """What the last attempt did of the clips that were asked for."""
        told = tuple(
            Replaced(name, before["decision"], before["decision_by"], before["decided_at"])
            for name, (before, now) in self._pairs.items()
            if before["decision"] is not None and before["decision"] != now["decision"]
        )
        changed = sum(before != now for before, now in self._pairs.values())
        missing = tuple(name for name in asked if name not in self._pairs)
        return Changed(changed, len(self._pairs) - changed, missing, len(told), told[:MOST_TOLD])


def _with(table: pa.Table, name: str, values_: pa.Array) -> pa.Table:
    place = table.schema.get_field_index(name)
    return table.set_column(place, table.schema.field(place), values_)
