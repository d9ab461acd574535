"""All signatures of one maker in memory, and the nearest of them to some: how `candidates` are found without an index.

Many are asked for at once: a pass over the stored half floats, which have to be widened to be multiplied, costs the
same for one as for sixty.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from curation.embed import signature
from curation.identity import FAMILY

_BLOCK = 8192
_NOBODY = -1


@dataclass(frozen=True)
class Held:
    """Signatures (n, `signature.WIDTH`) float16, the clip of each, and its video's family as a number."""

    clip_ids: list[str]
    rows: np.ndarray
    families: np.ndarray
    numbers: dict[str, int]

    @classmethod
    def of(cls, table: pa.Table) -> Held:
        """Of a table with `clip_id` and `vector`; of a clip with several rows the first counts."""
        clip_ids, rows = table["clip_id"].to_pylist(), vectors_of(table)
        first = {name: place for place, name in reversed(list(enumerate(clip_ids)))}
        if len(first) < len(clip_ids):
            places = sorted(first.values())
            clip_ids, rows = [clip_ids[place] for place in places], rows[places]
        numbers: dict[str, int] = {}
        families = [numbers.setdefault(name[:FAMILY], len(numbers)) for name in clip_ids]
        return cls(clip_ids, rows, np.array(families, np.int64), numbers)

    def nearest(self, names: Sequence[str], asked: np.ndarray, most: int) -> list[dict[str, float]]:
        """For each signature (m, width) of `asked`, those of the clips `names`, the `most` nearest clips of other
        videos, plain or mirrored, and twice the dot product with each.
        """
        assert len(names) == len(asked)
        own = np.array([self.numbers.get(name[:FAMILY], _NOBODY) for name in names])
        turned = signature.mirrored(asked)
        best = np.full((len(asked), 0), -np.inf, np.float32)
        places = np.zeros((len(asked), 0), np.int64)
        for start in range(0, len(self.rows), _BLOCK):
            block = self.rows[start : start + _BLOCK].astype(np.float32).T
            near = 2 * np.maximum(asked @ block, turned @ block)
            near[own[:, None] == self.families[None, start : start + _BLOCK]] = -np.inf
            best = np.concatenate([best, near], axis=1)
            here = np.broadcast_to(np.arange(start, start + near.shape[1]), near.shape)
            places = np.concatenate([places, here], axis=1)
            if best.shape[1] > most:
                chosen = np.argpartition(-best, most - 1, axis=1)[:, :most]
                best, places = np.take_along_axis(best, chosen, 1), np.take_along_axis(places, chosen, 1)
        return [
            {self.clip_ids[place]: value for place, value in zip(*row, strict=True) if value > -np.inf}
            for row in zip(places.tolist(), best.tolist(), strict=True)
        ]


def vectors_of(table: pa.Table) -> np.ndarray:
    """The column `vector` of a table as (n, width) float16."""
    width = table.schema.field("vector").type.list_size
    if not table.num_rows:
        return np.empty((0, width), np.float16)
    flat = pa.concat_arrays([chunk.flatten() for chunk in table["vector"].chunks])
    return flat.to_numpy(zero_copy_only=False).reshape(table.num_rows, width)
