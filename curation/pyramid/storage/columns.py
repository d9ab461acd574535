"""Columns that a pyramid lacks because it was made before the contract had them.

Readers take them for null (`query`); the first commit adds them (`writable`), which writes no row anew: in Lance a
column of nulls is a line of the schema.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import pyarrow as pa

from curation.errors import UserError
from curation.pyramid.storage.datasets import create
from curation.pyramid.store import Pyramid
from curation.retry import retrying
from curation.spaces import Space

if TYPE_CHECKING:
    import lance


def missing(dataset: lance.LanceDataset, wanted: pa.Schema) -> list[pa.Field]:
    """The fields of `wanted` that the dataset lacks."""
    there = set(dataset.schema.names)
    return [field for field in wanted if field.name not in there]


def add_scores(pyramid: Pyramid, scores: Sequence[str]) -> None:
    """Add the columns of these scores to `clips`. It comes before `pyramid.json` names them, so that whoever reads
    there of a score finds its columns.
    """
    own = tuple(dict.fromkeys((*pyramid.about.scores, *scores)))
    wider = Pyramid(pyramid.uri, replace(pyramid.about, scores=own), pyramid.storage_options)
    retrying(f"columns of clips in {pyramid.uri}", lambda: writable(wider, "clips"))


def check_spaces(pyramid: Pyramid, spaces: Sequence[Space]) -> None:
    """UserError where the pyramid has a space of such a name whose vectors are others."""
    for space in spaces:
        there = pyramid.spaces.get(space.name)
        if there is not None and (there.width, there.of_caption) != (space.width, space.of_caption):
            raise UserError(
                f"the space {space.name} of {pyramid.uri} has vectors of {there.width} numbers ({there.what})",
                f"give the one of {space.width} numbers another name",
            )


def add_spaces(pyramid: Pyramid, spaces: Sequence[Space]) -> None:
    """Make the datasets of these spaces. It comes before `pyramid.json` names them, as with scores."""
    check_spaces(pyramid, spaces)
    larger = Pyramid(pyramid.uri, pyramid.about.with_spaces(spaces), pyramid.storage_options)
    for name in set(larger.names) - set(pyramid.names):
        place = larger.dataset_uri(name)
        what = f"cannot write to {place}"
        retrying(what, lambda name=name, place=place: create(place, larger.schema(name), larger.storage_options))


def writable(pyramid: Pyramid, name: str) -> lance.LanceDataset:
    """The latest version of `videos` or `clips`, with every column that it should have.

    Raises as Lance does when somebody else changes the schema meanwhile, which `retry.retrying` takes for a conflict.
    """
    dataset, wanted = pyramid.dataset(name), pyramid.schema(name)
    lacking = missing(dataset, wanted)
    if not lacking:
        return dataset
    try:
        dataset.add_columns(pa.schema(lacking))
    except (OSError, ValueError):
        if missing(pyramid.dataset(name), wanted):
            raise
    return pyramid.dataset(name)
