"""Rows of `clips` as older formats had them, in the words of this one: what `migrate` does to a pyramid, and `journal`
to an entry that an older version has left.

Before format 4 the vector of a clip stood in its row (`embedding`), and the maker of its caption was `caption_model`.
"""

from __future__ import annotations

from dataclasses import replace

import pyarrow as pa
import pyarrow.compute as pc

from curation.contract import CLIP_SPACE, embeddings_schema
from curation.pyramid.commits.beside import UNKNOWN
from curation.pyramid.commits.commit import Batch

RENAMED = {"caption_model": "caption_by"}
VECTOR, SCORE, MAKER = "embedding", "aesthetic", "aesthetic_by"
"""The column of vectors, the score that they were made with, and how the filter was made that last gave one."""


def batch(found: Batch) -> Batch:
    """A batch whose tables of clips have today's columns."""
    tables = [table for table in (found.clips, *found.clip_updates) if table is not None]
    if not any({*RENAMED, VECTOR} & {*table.column_names} for table in tables):
        return found
    return replace(
        found,
        clips=None if found.clips is None else _today(found.clips),
        clip_updates=[_today(table) for table in found.clip_updates],
        embeddings=[*found.embeddings, *(vectors(table) for table in tables if VECTOR in table.column_names)],
    )


def vectors(table: pa.Table) -> pa.Table:
    """The rows of `embeddings` for those that have a vector. `table`: `clip_id`, `VECTOR`, and `SCORE` and `MAKER` if
    known. Where there is no score, a maker that failed stands beside the vector of an earlier one.
    """
    there = table.filter(table[VECTOR].is_valid())
    many = there.num_rows
    by = pa.nulls(many, pa.string())
    if {SCORE, MAKER} <= {*there.column_names}:
        scored = there[SCORE].is_valid().to_pylist()
        by = pa.array(
            [one if has else None for one, has in zip(there[MAKER].to_pylist(), scored, strict=True)], pa.string()
        )
    space = pa.array([CLIP_SPACE.name] * many, pa.string())
    columns = [there["clip_id"], space, pc.fill_null(by, UNKNOWN), there[VECTOR]]
    return pa.Table.from_arrays(columns, schema=embeddings_schema(CLIP_SPACE))


def _today(table: pa.Table) -> pa.Table:
    kept = table.drop_columns([VECTOR]) if VECTOR in table.column_names else table
    return kept.rename_columns([RENAMED.get(name, name) for name in kept.column_names])
