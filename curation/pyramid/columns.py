"""Columns that a pyramid lacks because it was made before the contract had them.

Readers take them for null (`query`); the first commit adds them (`writable`), which writes no row anew: in Lance a
column of nulls is a line of the schema.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pyarrow as pa

from curation.pyramid.store import Pyramid, schema

if TYPE_CHECKING:
    import lance


def missing(dataset: lance.LanceDataset, name: str) -> list[pa.Field]:
    """The fields of the contract's `videos` or `clips` that the dataset lacks."""
    there = set(dataset.schema.names)
    return [field for field in schema(name) if field.name not in there]


def writable(pyramid: Pyramid, name: str) -> lance.LanceDataset:
    """The latest version of `videos` or `clips`, with every column of the contract.

    Raises as Lance does when somebody else changes the schema meanwhile, which `retry.retrying` takes for a conflict.
    """
    dataset = pyramid.dataset(name)
    lacking = missing(dataset, name)
    if not lacking:
        return dataset
    try:
        dataset.add_columns(pa.schema(lacking))
    except (OSError, ValueError):
        if missing(pyramid.dataset(name), name):
            raise
    return pyramid.dataset(name)
