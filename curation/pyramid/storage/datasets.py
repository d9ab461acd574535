"""The datasets of a pyramid: their names, their columns, and how an empty one is made. `store` opens them."""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow as pa

from curation.contract import (
    BLOB_FIELD,
    CAPTIONS,
    MEDIA_PLAIN,
    SAMPLES,
    SPACES,
    VIDEOS,
    Space,
    clips_schema,
    embeddings_schema,
)
from curation.retry import explained
from curation.spaces import UNEMBEDDED

STORAGE_VERSION = "2.2"
"""Lance file format: the first one with blob v2, under which small and large clips are both stored well."""


def of_space(space: str) -> str:
    """The name of the dataset that holds the vectors of a space."""
    return f"embeddings/{space}"


def spaces_of(own: Sequence[Space]) -> dict[str, Space]:
    """The spaces of a pyramid that has these of its own, by the names of their datasets."""
    return {of_space(space.name): space for space in (*SPACES, *own)}


BYTES = ("samples", "media")
"""The datasets that hold frames and clips: appended to, one row a clip, never rewritten but to merge small files."""

NO_VECTOR = "unembedded"
"""The dataset of why clips have no vector, in a pyramid with spaces of its own."""


def beside(own: Sequence[Space] = ()) -> tuple[str, ...]:
    """The datasets of what goes with a clip and is not in its row: appended to, several rows a clip. `own`: the spaces
    that a pyramid has of its own.
    """
    return (*spaces_of(own), *([NO_VECTOR] if own else []), "captions")


def names(own: Sequence[Space] = ()) -> tuple[str, ...]:
    """The datasets in the order in which a commit writes them."""
    return (*BYTES, *beside(own), "clips", "videos")


BESIDE, NAMES = beside(), names()
"""Those of every pyramid: what each has besides, `Pyramid.beside` and `Pyramid.names` say."""


def media_schema() -> pa.Schema:
    """`clip_id`, the blob `video`, `bytes`, `sha256`; here and not in the contract because the blob type is
    Lance's.
    """
    import lance

    return pa.schema([SAMPLES.field("clip_id"), lance.blob_field(BLOB_FIELD), *MEDIA_PLAIN])


def schema(name: str, scores: Sequence[str] = (), own: Sequence[Space] = ()) -> pa.Schema:
    """The columns of a dataset, in a pyramid that has these scores and spaces of its own."""
    if name == "media":
        return media_schema()
    if name == "clips":
        return clips_schema(scores)
    if (space := spaces_of(own).get(name)) is not None:
        return embeddings_schema(space)
    return {"videos": VIDEOS, "samples": SAMPLES, "captions": CAPTIONS, NO_VECTOR: UNEMBEDDED}[name]


def create(uri: str, schema: pa.Schema, options: dict[str, str] | None) -> None:
    """Create an empty dataset, unless it is there: another job makes the same pyramid, or one was cut short
    in it.
    """
    import lance
    from lance.fragment import write_fragments

    try:
        creation = write_fragments(
            schema.empty_table(),
            uri,
            schema=schema,
            return_transaction=True,
            mode="create",
            data_storage_version=STORAGE_VERSION,
            storage_options=options,
        )
        # Not write_dataset: of two that create at a time, its second one overwrites what the first has made.
        lance.LanceDataset.commit(uri, creation, storage_options=options, max_retries=0)
    except OSError:
        # Lance has several ways to say that another came first; what counts is whether a dataset is there
        # now.
        if not _exists(uri, options):
            raise


def _exists(uri: str, options: dict[str, str] | None) -> bool:
    import lance

    try:
        return lance.dataset(uri, storage_options=options).version >= 1
    except ValueError as error:
        if explained(error) is not None:
            raise
        return False
