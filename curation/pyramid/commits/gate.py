"""The gate: leaves out of a batch what is of videos that were taken down, before it is kept in the journal and before
it is committed.

Rows of `videos` and `clips` name their video. Of frames, bytes and scores only the clip is known, so the pyramid is
asked whose it is, and a clip that it does not know is left out as well: without a row nobody could ever see it, and it
may be one of a video whose rows have gone. `upsert` asks once more for each row, in the transaction itself.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterable
from dataclasses import replace
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc

from curation.pyramid.storage.fragments import read_ticket
from curation.pyramid.storage.lookup import chunks, select
from curation.pyramid.takedown import tombstones

if TYPE_CHECKING:
    from curation.pyramid.commits.commit import Batch
    from curation.pyramid.store import Pyramid

_log = logging.getLogger(__name__)


def admitted(pyramid: Pyramid, batch: Batch) -> Batch:
    """The batch without what was taken down; the batch itself where nothing ever was. Call it in `locks.writing`."""
    dead = tombstones.read(pyramid.files)
    if not dead:
        return batch
    tickets = {ticket: read_ticket(ticket)[0] for ticket in (*batch.media, *batch.samples)}
    own = _named_in(batch.clips)
    beside = (*batch.clip_updates, *batch.embeddings, *batch.captions, *batch.unembedded)
    updated = (clip_id for table in beside for clip_id in table["clip_id"].to_pylist())
    asked = {*updated, *(clip_id for ids in tickets.values() for clip_id in ids)}
    videos = own | _videos_of(pyramid, asked - own.keys())
    alive = {clip_id for clip_id, video_id in videos.items() if dead.isdisjoint((clip_id, video_id))}

    def whole(some: Iterable[str]) -> list[str]:
        """The tickets of which everything is admitted. One is of one video: in none do both kinds lie."""
        return [ticket for ticket in some if alive.issuperset(tickets[ticket])]

    return replace(
        batch,
        media=whole(batch.media),
        samples=whole(batch.samples),
        clips=None if batch.clips is None else without(batch.clips, dead),
        videos=None if batch.videos is None else without(batch.videos, dead),
        clip_updates=[table.filter(pc.field("clip_id").isin(_strings(alive))) for table in batch.clip_updates],
        embeddings=[table.filter(pc.field("clip_id").isin(_strings(alive))) for table in batch.embeddings],
        captions=[table.filter(pc.field("clip_id").isin(_strings(alive))) for table in batch.captions],
        unembedded=[table.filter(pc.field("clip_id").isin(_strings(alive))) for table in batch.unembedded],
        video_updates=[without(table, dead) for table in batch.video_updates],
        replaced={video_id: ids for video_id, ids in batch.replaced.items() if video_id not in dead},
    )


def without(rows: pa.Table, dead: Collection[str]) -> pa.Table:
    """Rows that have a `video_id`, without those of some videos; the same table where there are none."""
    if not dead or "video_id" not in rows.column_names:
        return rows
    if frozenset(dead).isdisjoint(rows["video_id"].to_pylist()):
        return rows
    return rows.filter(~pc.field("video_id").isin(_strings(dead)))


def _named_in(clips: pa.Table | None) -> dict[str, str]:
    """The video of each clip, as rows of clips say."""
    if clips is None or "video_id" not in clips.column_names:
        return {}
    return dict(zip(clips["clip_id"].to_pylist(), clips["video_id"].to_pylist(), strict=True))


def _videos_of(pyramid: Pyramid, clip_ids: Collection[str]) -> dict[str, str]:
    found: dict[str, str] = {}
    for some in chunks(sorted(clip_ids), 1000):
        rows = select(pyramid.dataset("clips"), "clip_id", some, ["clip_id", "video_id"])
        found |= dict(zip(rows["clip_id"].to_pylist(), rows["video_id"].to_pylist(), strict=True))
    return found


def _strings(values: Collection[str]) -> pa.Array:
    return pa.array(sorted(values), pa.string())
