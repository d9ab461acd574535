"""What a maker has said of clips so far, whether or not its caption is the one in force: for `Ledger.uncaptioned`.

A caption in force names its maker in `clips`. One that has given way, and a failure of a maker where another's caption
stands, are rows of the dataset `captions` only; a clip is not captioned twice for that.
"""

from __future__ import annotations

from collections.abc import Collection

import pyarrow as pa

from curation.pyramid.history.failures import LASTING, kind
from curation.pyramid.storage.lookup import chunks, select
from curation.pyramid.store import Pyramid

_AT_ONCE = 1000


def wanting(pyramid: Pyramid, clips: pa.RecordBatch, by: str, again: Collection[str]) -> list[bool]:
    """Which of some clips (`clip_id`, `caption_by`, `caption_why`), none of which has a caption of `by` in force, want
    one: `by` has said nothing of them, or failed for reasons that `again` names.
    """
    names, makers, whys = (clips[name].to_pylist() for name in ("clip_id", "caption_by", "caption_why"))
    earlier = _said(pyramid, [name for name, maker in zip(names, makers, strict=True) if maker != by], by)
    found: list[bool] = []
    for name, maker, why in zip(names, makers, whys, strict=True):
        kinds = {_kind(why)} if maker == by else earlier.get(name, set())
        found.append(kinds <= {*again})
    return found


def _kind(why: str | None) -> str:
    """What has no reason, or one that is no failure, is not done again."""
    return kind(why) or LASTING


def _said(pyramid: Pyramid, clip_ids: list[str], by: str) -> dict[str, set[str]]:
    """Of each clip of which `by` has said something: the kinds of its failures, and "" for a caption."""
    dataset = pyramid.dataset("captions")
    found: dict[str, set[str]] = {}
    for some in chunks(clip_ids, _AT_ONCE):
        for row in select(dataset, "clip_id", some, ["clip_id", "by", "why"]).to_pylist():
            if row["by"] == by:
                found.setdefault(row["clip_id"], set()).add("" if row["why"] is None else _kind(row["why"]))
    return found
