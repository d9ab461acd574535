"""What a further name of a known video adds: the name itself, the columns of its list, and a caption for its clips.

`committer` commits it for the same bytes under another name, `curate` for a name whose list has new columns since an
earlier run: in both nothing is decoded again.
"""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow as pa

from curation.contract import CLIPS, GIVEN, VIDEOS, Source
from curation.inputs import own_columns
from curation.pyramid.commits.commit import Batch
from curation.pyramid.storage.lookup import chunks, select
from curation.pyramid.store import Pyramid


def further_names(pyramid: Pyramid, names: Sequence[tuple[str, Source]]) -> Batch:
    """The commit for sources whose videos, by id, are in the pyramid."""
    rows = [
        {"video_id": video_id, "uris": [source.uri], "modified": [source.modified], "extra": source.extra or None}
        for video_id, source in names
    ]
    schema = pa.schema([VIDEOS.field(name) for name in ("video_id", "uris", "modified", "extra")])
    given = {video_id: text for video_id, source in names if (text := own_columns.caption(source.extra))}
    updates = [_captions(pyramid, given)] if given else []
    return Batch(videos=pa.Table.from_pylist(rows, schema=schema), clip_updates=updates)


def _captions(pyramid: Pyramid, given: dict[str, str]) -> pa.Table:
    """Captions for the clips of videos; which of two is in force, `merge` says."""
    dataset = pyramid.dataset("clips")
    rows: list[dict[str, str]] = []
    for some in chunks(given, 1000):
        found = select(dataset, "video_id", some, ["clip_id", "video_id"])
        rows += [
            {"clip_id": row["clip_id"], "caption": given[row["video_id"]], "caption_by": GIVEN}
            for row in found.to_pylist()
        ]
    schema = pa.schema([CLIPS.field(name) for name in ("clip_id", "caption", "caption_by")])
    return pa.Table.from_pylist(rows, schema=schema)
