"""The clips of a query that are most like a vector: what `ziggurat search` asks.

Ranges lie in `clips` and vectors in `embeddings/NAME`, so a search with ranges joins the two, in the order that costs
less. Where ranges leave few clips, their vectors are looked up and all compared (exact). Else the nearest vectors come
first, from the index or from a pass over all, and those are kept whose clips pass; more are asked for until enough do.
Either way a clip comes once, its row in `clips` decides whether it comes at all (one that was taken down has none), and
of vectors made of a caption only that of the caption in force counts.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from curation.errors import UserError
from curation.pyramid.queries import conditions
from curation.pyramid.queries.query import Query
from curation.pyramid.similar import index, vectors
from curation.pyramid.storage.lookup import chunks, select
from curation.spaces import Space, mark

if TYPE_CHECKING:
    import lance

MOST = 10_000
"""Clips that a search gives at most."""
FEW = 20_000
"""Clips that ranges may leave for their vectors to be looked up one and all, at most."""
WORTH = 0.5
"""A vector that is looked up costs half of what one costs whose clip may not pass (docs/search.md)."""
_SPARE = 3
"""Times as many vectors are asked for first as would hold enough clips that pass; then four times as many."""
_DEEPEST = 30_000
"""Vectors that are asked of the index at most: then a pass over all costs less."""
_AT_ONCE = 5000


@dataclass(frozen=True, slots=True)
class Found:
    """The clips most like a vector, the most alike first, with their cosines. `exact`: all vectors that count were
    compared. `behind`: vectors that the index does not cover yet, which were compared one by one.
    """

    similar: Mapping[str, float]
    exact: bool
    behind: int = 0


def nearest(
    query: Query, space: Space, by: str, vector: np.ndarray, limit: int, without: Collection[str] = ()
) -> Found:
    """The `limit` clips of `query` whose vectors in `space`, made by `by`, are most like `vector` (width,). The clips
    in `without` do not come. The query's order and limit are not looked at. UserError: a limit that is none.
    """
    if not 0 < limit <= MOST:
        raise UserError(f"limit {limit} is not a number of clips to search for", f"give one from 1 to {MOST}")
    assert vector.shape == (space.width,) and np.isfinite(vector).all(), vector.shape
    search = _Search(query, space, by, vector.astype(np.float32), limit, frozenset(without))
    clips, many = search.counts()
    if many == 0:
        return Found({}, True)
    asked = math.ceil(_SPARE * limit * clips / many) + len(without)
    if query.conditions and many <= FEW and WORTH * many <= asked:
        return Found(search.among_few(), True)
    dataset = search.dataset
    if index.there(dataset) is not None and (found := search.by_index(asked)) is not None:
        return Found(found, False, index.behind(dataset))
    return Found(search.among_all(asked), True)


class _Search:
    def __init__(
        self, query: Query, space: Space, by: str, vector: np.ndarray, limit: int, without: frozenset[str]
    ) -> None:
        self._query, self._space, self._by, self._vector = query, space, by, vector
        self._limit, self._without = limit, without
        self.dataset: lance.LanceDataset = vectors.opened(query.pyramid, space)
        self._clips: lance.LanceDataset = query.pyramid.dataset("clips", query.version)
        self._kept = Query(query.pyramid, query.conditions, version=query.version)

    def counts(self) -> tuple[int, int]:
        """How many clips there are, and how many of them the ranges keep."""
        clips = self._clips.count_rows()
        return clips, self._kept.count() if self._kept.conditions else clips

    def among_few(self) -> dict[str, float]:
        """Of the clips that the ranges leave, all compared."""
        rows = self._kept.columns("clip_id", *(["caption"] if self._space.of_caption else [])).to_table().to_pylist()
        kept = {row["clip_id"]: row.get("caption") for row in rows if row["clip_id"] not in self._without}
        found = _Passed(FEW)
        for table in vectors.of_clips(self.dataset, self._space, kept, self._by):
            found.add(table, vectors.similarities(table, self._vector), self._current(table, kept))
        return found.best(self._limit)

    def among_all(self, step: int) -> dict[str, float]:
        """Of all clips, the nearest vectors first, `step` at a time to begin with, until enough pass."""
        cosines, ids = vectors.compared(self.dataset, self._by, self._vector)
        found, start, step = _Passed(self._limit), 0, min(step, _AT_ONCE)
        while start < ids.size and not found.is_enough:
            table = vectors.rows(self.dataset, self._space, ids[start : start + step])
            found.add(table, cosines[start : start + step], self._passing(table))
            start, step = start + step, min(4 * step, _AT_ONCE)
        return found.best(self._limit)

    def by_index(self, many: int) -> dict[str, float] | None:
        """The same from the index, which is asked for `many` first; None where it gives too few, so that all must be
        looked at.
        """
        while many <= _DEEPEST:
            table = self._asked(many)
            ours = table.filter(pc.field("by") == pc.scalar(self._by))
            found = _Passed(self._limit)
            found.add(ours, vectors.similarities(ours, self._vector), self._passing(ours))
            if found.is_enough:
                return found.best(self._limit)
            if table.num_rows < many:
                return None  # the cells that were opened hold no more
            many *= 4
        return None

    def _asked(self, many: int) -> pa.Table:
        """The nearest rows by the index, whoever made them."""
        asked: dict[str, Any] = {"column": index.COLUMN, "q": self._vector.astype(np.float16), "k": many}
        asked |= {"nprobes": index.opened(self.dataset.count_rows(), many)}
        columns = ["by", *vectors.columns(self._space), "_distance"]
        return self.dataset.scanner(columns=columns, nearest=asked).to_table()

    def _passing(self, table: pa.Table) -> list[bool]:
        """Which rows of vectors count: of a clip that is there, that the query keeps, and whose caption they are of."""
        wanted, there = self._query.conditions, self._clips.schema.names
        test = conditions.expression(wanted, there)
        of_caption = ["caption"] if self._space.of_caption else []
        read = [*{"clip_id", *of_caption, *conditions.columns(wanted, there)}]
        kept: dict[str, str | None] = {}
        for some in chunks(sorted({*table["clip_id"].to_pylist()} - self._without), _AT_ONCE):
            rows = select(self._clips, "clip_id", some, read)
            rows = rows if test is None else rows.filter(test)
            texts = rows["caption"].to_pylist() if of_caption else [None] * rows.num_rows
            kept |= dict(zip(rows["clip_id"].to_pylist(), texts, strict=True))
        return self._current(table, kept)

    def _current(self, table: pa.Table, kept: Mapping[str, str | None]) -> list[bool]:
        """Which rows of vectors are of a clip in `kept`, and of its caption where the space is of captions."""
        names = table["clip_id"].to_pylist()
        if not self._space.of_caption:
            return [name in kept for name in names]
        texts = {name: mark(text) for name, text in kept.items() if text is not None}
        return [name in texts and texts[name] == one for name, one in zip(names, table["of"].to_pylist(), strict=True)]


class _Passed:
    """Clips that pass, each with its best cosine."""

    def __init__(self, enough: int) -> None:
        self._cosines: dict[str, float] = {}
        self._enough = enough

    @property
    def is_enough(self) -> bool:
        return len(self._cosines) >= self._enough

    def add(self, table: pa.Table, cosines: np.ndarray, passing: list[bool]) -> None:
        for name, cosine, passes in zip(table["clip_id"].to_pylist(), cosines.tolist(), passing, strict=True):
            if passes and cosine > self._cosines.get(name, -np.inf):
                self._cosines[name] = cosine

    def best(self, limit: int) -> dict[str, float]:
        """The most alike; of equals the one whose id comes first."""
        order = sorted(self._cosines.items(), key=lambda item: (-item[1], item[0]))
        return dict(order[:limit])
