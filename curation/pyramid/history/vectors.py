"""Which clips lack a vector by a maker: for `Ledger.unembedded`.

A vector is a row of `embeddings/SPACE`; why a clip got none is a row of `unembedded`. Where a space is of captions,
both are of one caption, and a clip that has another by now lacks its vector.
"""

from __future__ import annotations

from collections.abc import Collection

import pyarrow as pa

from curation.pyramid.history.failures import LASTING, kind
from curation.pyramid.storage.datasets import NO_VECTOR, of_space
from curation.pyramid.storage.lookup import chunks, select
from curation.pyramid.store import Pyramid
from curation.spaces import Space, mark

_AT_ONCE = 1000


def wanting(pyramid: Pyramid, clips: pa.RecordBatch, space: Space, by: str, again: Collection[str]) -> list[bool]:
    """Which of some clips (`clip_id`, and of a space of captions `caption`) want a vector of `by`: they have neither
    one nor a reason why not, or a reason of a kind that `again` names.
    """
    names = clips["clip_id"].to_pylist()
    marks = [None if text is None else mark(text) for text in clips["caption"].to_pylist()] if space.of_caption else []
    keys = list(zip(names, marks, strict=True)) if space.of_caption else [(name, None) for name in names]
    known = _known(pyramid, names, space, by)
    found: list[bool] = []
    for key in keys:
        lacks_caption = space.of_caption and key[1] is None
        found.append(not lacks_caption and known.get(key, set()) <= {*again})
    return found


def _known(pyramid: Pyramid, clip_ids: list[str], space: Space, by: str) -> dict[tuple[str, str | None], set[str]]:
    """What there is of clips, by clip and caption: "" for a vector, and the kinds of failures."""
    of = ["of"] if space.of_caption else []
    found: dict[tuple[str, str | None], set[str]] = {}
    vectors, reasons = pyramid.dataset(of_space(space.name)), pyramid.dataset(NO_VECTOR)
    for some in chunks(clip_ids, _AT_ONCE):
        for row in select(vectors, "clip_id", some, ["clip_id", "by", *of]).to_pylist():
            if row["by"] == by:
                found.setdefault((row["clip_id"], row.get("of")), set()).add("")
        for row in select(reasons, "clip_id", some, ["clip_id", "space", "by", "of", "why"]).to_pylist():
            if (row["space"], row["by"]) == (space.name, by):
                # What has no reason of ours ("no sample frames") is not done again, and waits for `--retry` like data.
                found.setdefault((row["clip_id"], row["of"]), set()).add(kind(row["why"]) or LASTING)
    return found
