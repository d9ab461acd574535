"""Of what vectors are made: the clips that lack one in a space, as the stage takes them."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator

from curation.pyramid.history.ledger import Ledger
from curation.pyramid.storage.lookup import chunks
from curation.pyramid.store import Pyramid
from pipelines.embedding.blocks import Embedding
from pipelines.stages.embed import ClipsToEmbed

Wanted = tuple[str, str, str]
"""A clip's id, its video's, and where the space is of captions its caption, else ""."""


def wanted(pyramid: Pyramid, block: Embedding, again: Collection[str], remember: bool = True) -> Iterator[Wanted]:
    """The clips that lack a vector of the block. `again`, `remember`: see `Ledger`."""
    columns = ["clip_id", "video_id", *(["caption"] if block.space.of_caption else [])]
    ledger = Ledger(pyramid, remember=remember)
    for batch in ledger.unembedded(block.space, block.by, block.tier, columns, again, block.aside):
        for row in batch.to_pylist():
            yield row["clip_id"], row["video_id"], row.get("caption", "")


def items(clips: Iterable[Wanted], size: int) -> Iterator[ClipsToEmbed]:
    """The same, `size` together."""
    for some in chunks(clips, size):
        names, videos, captions = zip(*some, strict=True)
        yield ClipsToEmbed(names, videos, captions)
