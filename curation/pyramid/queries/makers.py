"""Whose captions a query gives: the makers that a person names, in order, in the place of the caption in force.

`Query.captions_by` asks it. A clip gets the caption of the first maker that has one for it. What is in force stands in
`clips`, all else in the dataset `captions`, which is looked up a batch of clips at a time, so that memory stays bounded
however many captions there are.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import reduce
from operator import or_
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc

from curation.contract import CLIPS
from curation.errors import UserError
from curation.pyramid.storage.lookup import select

if TYPE_CHECKING:
    import lance

    from curation.pyramid.store import Pyramid

UNKNOWN = "unknown"
"""The maker of a caption that nobody has said the maker of."""

COLUMNS = ("caption", "caption_by", "caption_why")
"""The columns of a clip that follow from the makers."""

_READ = ["clip_id", "by", "caption", "why", "made_at"]
_LONG_AGO = datetime.fromtimestamp(0, UTC)
_TOLD = 20

AT_ONCE = 32_768
"""Clips that are looked up at a time, where a scan gives so many: each look-up may be a pass over the ids of all
captions."""


def means(maker: str, by: str) -> bool:
    """Whether `by` is the maker that a person calls `maker`: its whole name or the first parts of it, as `NAME` or
    `NAME/MODEL` of `NAME/MODEL/HASH`.
    """
    return by == maker or by.startswith(f"{maker}/")


def check(clips: lance.LanceDataset, captions: lance.LanceDataset, makers: Sequence[str]) -> None:
    """UserError where one of `makers` has captioned no clip; it names those that have."""
    for maker in makers:
        if not maker:
            raise UserError(
                "a maker of captions without a name", "write NAME, NAME/MODEL or given, with commas between"
            )
        if makers.count(maker) > 1:
            raise UserError(f"the maker {maker!r} is named twice", "name each once, the first choice first")
        in_force = _is(pc.field("caption_by"), maker)
        if maker == UNKNOWN:
            in_force |= pc.field("caption_by").is_null()
        if not (_any(clips, in_force & _said()) or _any(captions, _is(pc.field("by"), maker) & _said())):
            raise UserError(f"no clip has a caption by {maker!r}", _there(clips, captions))


def _said() -> pc.Expression:
    return pc.field("caption").is_valid()


def _is(column: pc.Expression, maker: str) -> pc.Expression:
    """`means` as an expression: "0" is the character behind "/"."""
    low, high = pa.scalar(f"{maker}/"), pa.scalar(f"{maker}0")
    return (column == pa.scalar(maker)) | ((column >= low) & (column < high))


def _any(dataset: lance.LanceDataset, test: pc.Expression) -> bool:
    return bool(dataset.scanner(columns=["clip_id"], filter=test, limit=1, use_scalar_index=False).to_table().num_rows)


def _there(clips: lance.LanceDataset, captions: lance.LanceDataset) -> str:
    """The makers that have captions, for a message; one pass over their names."""
    found: set[str] = set()
    for dataset, column in ((clips, "caption_by"), (captions, "by")):
        for batch in dataset.scanner(columns=[column], filter=_said(), use_scalar_index=False).to_batches():
            found |= {by or UNKNOWN for by in batch[column].unique().to_pylist()}
    more = f", and {len(found) - _TOLD} more" if len(found) > _TOLD else ""
    return f"there are {', '.join(sorted(found)[:_TOLD])}{more}" if found else "none has: `ziggurat caption` makes some"


@dataclass(frozen=True, slots=True)
class _Said:
    """What a maker has said of a clip. `rank`: the greatest counts: the earlier choice, then what is in force, then
    what was made last.
    """

    rank: tuple[int, bool, datetime, int]
    by: str
    caption: str | None
    why: str | None


class Chosen:
    """Puts the captions of some makers into batches of clips that hold `clip_id` and `COLUMNS`."""

    def __init__(self, pyramid: Pyramid, makers: Sequence[str], version: int | str | None) -> None:
        """`version`: of the dataset `captions`, which is opened with the first batch: what has given way in a clip that
        was read is then in it.
        """
        self._pyramid, self._makers, self._version = pyramid, makers, version
        self._dataset: lance.LanceDataset | None = None
        self._choices: dict[str, int | None] = {}

    def add(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        """The batch with the caption, its maker, and where there is none why."""
        there = set(batch.schema.names)
        unsaid = [None] * batch.num_rows
        in_force = (batch[name].to_pylist() if name in there else unsaid for name in COLUMNS)
        names = batch["clip_id"].to_pylist()
        said = self._earlier(names)
        told: list[tuple[str | None, ...]] = []
        for name, caption, by, why in zip(names, *in_force, strict=True):
            by = by or UNKNOWN
            mine = said.get(name, [])
            if (choice := self._choice(by)) is not None:
                mine.append(_Said((-choice, True, _LONG_AGO, 0), by, caption, why))
            told.append(_best(mine))
        for place, name in enumerate(COLUMNS):
            values = pa.array([one[place] for one in told], pa.string())
            at, field = batch.schema.get_field_index(name), CLIPS.field(name)
            batch = batch.append_column(field, values) if at < 0 else batch.set_column(at, field, values)
        return batch

    def _choice(self, by: str) -> int | None:
        """Which of the makers `by` is, from 0; None where it is none."""
        if by not in self._choices:
            self._choices[by] = next((at for at, maker in enumerate(self._makers) if means(maker, by)), None)
        return self._choices[by]

    def _earlier(self, clip_ids: list[str]) -> dict[str, list[_Said]]:
        """What the makers have said of clips, but for what is in force."""
        if self._dataset is None:
            self._dataset = self._pyramid.dataset("captions", self._version)
        test = reduce(or_, (_is(pc.field("by"), maker) for maker in self._makers))
        rows = select(self._dataset, "clip_id", clip_ids, _READ, with_row_address=True, also=test)
        found: dict[str, list[_Said]] = {}
        for row in rows.to_pylist():
            choice = self._choice(row["by"])
            assert choice is not None, row
            rank = (-choice, False, row["made_at"] or _LONG_AGO, row["_rowaddr"])
            found.setdefault(row["clip_id"], []).append(_Said(rank, row["by"], row["caption"], row["why"]))
        return found


def _best(said: Sequence[_Said]) -> tuple[str | None, str | None, str | None]:
    """Caption, maker and reason of a clip: a caption, and where there is none a reason, by rank."""
    captions = [one for one in said if (one.caption or "").strip()]
    if captions:
        best = max(captions, key=lambda one: one.rank)
        return best.caption, best.by, None
    reasons = [one for one in said if one.why]
    return None, None, max(reasons, key=lambda one: one.rank).why if reasons else None
