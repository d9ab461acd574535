"""Which clips may be copies of some: those with the nearest signatures, as they are or mirrored.

The first step of finding copies; `pipelines.stages.compare` looks at the pictures of what comes out. Up to as many
vectors as are searched without an index, all are held in memory (2.2 kB a clip) and compared; above, the index gives
the nearest, and the stored vectors decide again.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow.compute as pc

from curation.embed import signature
from curation.errors import UserError
from curation.identity import FAMILY
from curation.pyramid.similar import index, vectors
from curation.pyramid.similar.held import Held, vectors_of
from curation.pyramid.store import Pyramid
from curation.spaces import Space

if TYPE_CHECKING:
    import lance

MOST = 10
"""Candidates of a clip. Of copies in the measured set 0.999 are among the ten nearest."""
_MOST_HELD = 3 * index.EXACT_BELOW
_SPARE = 3
_PROBES = 16
_COLUMNS = ["clip_id", "by", "vector"]


class Candidates:
    """The nearest clips by their signatures in one version of a space. `by`: whose vectors count. `least`: twice the
    dot product of two vectors, below which nothing is a candidate (`likeness.NEAR`). UserError where there are too many
    vectors to be held, and no index.
    """

    def __init__(self, pyramid: Pyramid, space: Space, by: str, least: float, most: int = MOST) -> None:
        self._dataset: lance.LanceDataset = vectors.opened(pyramid, space)
        self._by, self._least, self._most = by, least, most
        self._space = space
        is_indexed = index.there(self._dataset) is not None
        if not is_indexed and self._dataset.count_rows() > _MOST_HELD:
            raise UserError(
                f"the space {space.name} has no index yet", f"run `ziggurat upkeep {pyramid.uri}`, and again"
            )
        self._held = None if is_indexed else _held(self._dataset, by)

    def of(self, clip_ids: Sequence[str]) -> dict[str, list[str]]:
        """For each clip that has a vector, the clips of other videos that may be like it, the likeliest first."""
        own = self.signatures(clip_ids)
        if not own:
            return {}
        asked = np.stack(list(own.values()))
        held = self._held
        found = self._by_index(asked) if held is None else held.nearest([*own], asked, self._most)
        return {clip_id: self._best(clip_id, near) for clip_id, near in zip(own, found, strict=True)}

    def signatures(self, clip_ids: Collection[str]) -> dict[str, np.ndarray]:
        """The stored signatures (`signature.WIDTH`,) float32 of those clips that have one."""
        found: dict[str, np.ndarray] = {}
        for table in vectors.of_clips(self._dataset, self._space, clip_ids, self._by):
            for name, row in zip(table["clip_id"].to_pylist(), vectors_of(table).astype(np.float32), strict=True):
                found.setdefault(name, row)
        return found

    def _best(self, clip_id: str, near: Mapping[str, float]) -> list[str]:
        # Parts of one video look alike, are never copies of each other, and would leave no room for copies.
        family = clip_id[:FAMILY]
        there = [(name, value) for name, value in near.items() if name[:FAMILY] != family and value >= self._least]
        return [name for name, _ in sorted(there, key=lambda item: (-item[1], item[0]))[: self._most]]

    def _by_index(self, asked: np.ndarray) -> list[dict[str, float]]:
        return [self._nearest(vector) for vector in asked]

    def _nearest(self, vector: np.ndarray) -> dict[str, float]:
        found: dict[str, float] = {}
        for seen in (vector, signature.mirrored(vector)):
            asked: dict[str, Any] = {"column": index.COLUMN, "q": seen.astype(np.float16)}
            asked |= {"k": _SPARE * self._most, "nprobes": _PROBES}
            table = self._dataset.scanner(columns=[*_COLUMNS, "_distance"], nearest=asked).to_table()
            table = table.filter(pc.field("by") == pc.scalar(self._by))
            for name, value in zip(table["clip_id"].to_pylist(), (2 * vectors_of(table) @ seen).tolist(), strict=True):
                found[name] = max(value, found.get(name, value))
        return found


def _held(dataset: lance.LanceDataset, by: str) -> Held:
    columns = ["clip_id", "vector"]
    return Held.of(dataset.to_table(columns=columns, filter=pc.field("by") == pc.scalar(by), use_scalar_index=False))
